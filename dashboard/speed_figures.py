"""Charts of time, memory and rooflines from profile rows of one certificate. No Streamlit.

A row is what `store.figures.profiles` gives, with `label` (method and budget) added by the caller.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from dashboard.figures import NEUTRAL, style
from hero_ray.results.shown import palette

Row = Mapping[str, Any]

STAGES = ("encode", "select", "prefill", "decode")
_STAGE_COLOURS = {
    "encode": palette.GREY,
    "select": palette.AMBER,
    "prefill": palette.TEAL,
    "decode": palette.PERIWINKLE,
}


def stage_ms(row: Row) -> dict[str, float]:
    """Median milliseconds per stage of a whole request; decode covers every step after the first token."""
    steps = max(0, (row["new_tokens"] or 0) - 1)
    return {
        "encode": row["encode_ms"] or 0.0,
        "select": row["select_ms"] or 0.0,
        "prefill": row["prefill_ms"] or 0.0,
        "decode": steps * (row["tpot_ms_p50"] or 0.0),
    }


def stage_bars(rows: Sequence[Row]) -> go.Figure:
    """Where the time of a request goes, one bar per method and budget."""
    figure = go.Figure()
    labels = [row["label"] for row in rows]
    for stage in STAGES:
        figure.add_trace(
            go.Bar(
                name=stage,
                y=labels,
                x=[stage_ms(row)[stage] for row in rows],
                orientation="h",
                marker={"color": _STAGE_COLOURS[stage]},
                hovertemplate=f"%{{y}}<br>{stage}: %{{x:.2f}} ms<extra></extra>",
            )
        )
    style(figure, 150 + 24 * len(rows), barmode="stack", xaxis_title="ms per request, median", bargap=0.25)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return figure


def saved_ms(full: Row, row: Row, new_tokens: Any) -> Any:
    """Milliseconds that a method wins on an answer of `new_tokens` tokens; negative means lost.

    Time to first token saved, plus what every further decode step saves.
    """
    first = full["encode_ms"] + full["select_ms"] + full["prefill_ms"]
    first -= row["encode_ms"] + row["select_ms"] + row["prefill_ms"]
    return first + (new_tokens - 1) * (full["tpot_ms_p50"] - row["tpot_ms_p50"])


def break_even(full: Row, rows: Sequence[Row], longest: int = 256) -> go.Figure:
    """Time won over the unpruned model by answer length; above zero a method pays."""
    lengths = np.unique(np.geomspace(1, longest, 60).round())
    figure = go.Figure()
    figure.add_hline(y=0, line={"color": NEUTRAL, "width": 1.5})
    for row in rows:
        if None in (row["encode_ms"], row["select_ms"], row["prefill_ms"], row["tpot_ms_p50"]):
            continue
        look = palette.look(row["method"], bool(row.get("straw_man")))
        figure.add_trace(
            go.Scatter(
                name=row["label"],
                x=lengths,
                y=saved_ms(full, row, lengths),
                mode="lines+markers",
                line={"color": look.colour, "dash": "dot" if look.muted else "solid"},
                marker={"symbol": look.symbol, "size": 7, "maxdisplayed": 6},
                hovertemplate=f"<b>{row['label']}</b><br>%{{x:.0f}} tokens: %{{y:.2f}} ms won<extra></extra>",
            )
        )
    style(figure, 420, xaxis_title="answer length, tokens", yaxis_title="ms won per request")
    figure.update_xaxes(type="log", dtick=1)
    return figure


def batch_sweep(rows: Sequence[Row]) -> go.Figure:
    """Decoded tokens per second over the batch size."""
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row["decode_tokens_per_s"] is not None:
            groups[row["method"], row["label"]].append(row)
    figure = go.Figure()
    for (method, label), members in groups.items():
        look = palette.look(method)
        members.sort(key=lambda row: row["batch_size"])
        figure.add_trace(
            go.Scatter(
                name=label,
                x=[row["batch_size"] for row in members],
                y=[row["decode_tokens_per_s"] for row in members],
                mode="lines+markers",
                line={"color": look.colour, "dash": "dot" if look.muted else "solid"},
                marker={"symbol": look.symbol, "size": 9},
                hovertemplate=f"<b>{label}</b><br>batch %{{x}}: %{{y:,.0f}} tokens/s<extra></extra>",
            )
        )
    style(figure, 420, xaxis_title="requests at once", yaxis_title="decoded tokens per second")
    figure.update_xaxes(type="log", tickvals=sorted({row["batch_size"] for row in rows}))
    figure.update_yaxes(rangemode="tozero")
    return figure


def has_roofline(row: Row) -> bool:
    """Whether a profile was taken together with the device's peaks."""
    details = row.get("details") or {}
    return bool(details.get("roofline")) and bool(details.get("peaks"))


def roofline(rows: Sequence[Row]) -> go.Figure:
    """Achieved FLOP/s over arithmetic intensity, prefill and decode, under the device's two roofs."""
    figure = go.Figure()
    peaks = rows[0]["details"]["peaks"]
    points = [(row, line) for row in rows for line in row["details"]["roofline"]]
    intensities = [line["flops_per_s"] / line["bytes_per_s"] for _, line in points]
    ridge = peaks["flops_per_s"] / peaks["bytes_per_s"]
    x = np.geomspace(min([*intensities, ridge]) / 3, max([*intensities, ridge]) * 3, 60)
    roof = np.minimum(peaks["flops_per_s"], x * peaks["bytes_per_s"]) / 1e9
    figure.add_trace(go.Scatter(name="measured roof", x=x, y=roof, mode="lines", line={"color": NEUTRAL, "width": 2}))
    for (row, line), intensity in zip(points, intensities, strict=True):
        look = palette.look(row["method"], bool(row.get("straw_man")))
        open_ = "" if line["phase"] == "prefill" or look.symbol.endswith("-open") else "-open"
        share = max(line["compute_share"], line["bandwidth_share"])
        text = f"<b>{row['label']}</b>, {line['phase']}<br>%{{y:.1f}} GFLOP/s<br>{share:.0%} of its nearer roof"
        figure.add_trace(
            go.Scatter(
                name=row["label"],
                legendgroup=row["label"],
                showlegend=line["phase"] == "prefill",
                x=[intensity],
                y=[line["flops_per_s"] / 1e9],
                mode="markers",
                marker={
                    "color": look.colour,
                    "symbol": look.symbol + open_,
                    "size": 11,
                    "line": {"width": 1.5, "color": look.colour},
                },
                hovertemplate=f"{text}, {line['bound']}-bound<extra></extra>",
            )
        )
    style(figure, 440, xaxis_title="FLOPs per byte moved (lower bound of traffic)", yaxis_title="GFLOP/s")
    figure.update_xaxes(type="log")
    figure.update_yaxes(type="log")
    return figure
