"""Charts of servers under load, from profile rows of one certificate. No Streamlit.

A row is what `dashboard.profiles.conditions` gives: one cell under one number of clients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from dashboard.figures import NEUTRAL, style
from hero_ray.results.load import by_cell, gains_of
from hero_ray.results.shown import palette
from hero_ray.stats.crossing import described, turning

Row = Mapping[str, Any]
FIGURES = {"requests_per_s": "requests/s", "ttft_ms_p95": "TTFT p95"}
"""What a gain is told of, and in which words."""


def said(row: Row) -> dict[str, Any]:
    """What a row tells of its load."""
    found: dict[str, Any] = row["details"]["load"]
    return found


def _trace(rows: Sequence[Row], **more: Any) -> go.Scatter:
    look = palette.look(rows[0]["method"], bool(rows[0].get("straw_man")))
    return go.Scatter(
        name=rows[0]["label"],
        line={"color": look.colour, "dash": "dot" if look.muted else "solid"},
        marker={"symbol": look.symbol, "size": 9, "color": look.colour},
        **more,
    )


def _bars(values: Sequence[float], bounds: Sequence[tuple[float | None, float | None]]) -> dict[str, Any]:
    pairs = list(zip(values, bounds, strict=True))
    return {
        "type": "data",
        "symmetric": False,
        "array": [0 if high is None else high - value for value, (_, high) in pairs],
        "arrayminus": [0 if low is None else value - low for value, (low, _) in pairs],
        "thickness": 1,
        "width": 3,
    }


def waiting(rows: Sequence[Row]) -> go.Figure:
    """Time to first token over requests a second, a line per cell, a point per number of clients."""
    figure = go.Figure()
    for group in by_cell(rows, "label").values():
        known = [row for row in group if row["ttft_ms_p95"] is not None]
        figure.add_trace(
            _trace(
                group,
                x=[said(row)["requests_per_s"] for row in known],
                y=[row["ttft_ms_p95"] for row in known],
                mode="lines+markers+text",
                text=[row["batch_size"] for row in known],
                textposition="top center",
                hovertemplate=f"<b>{group[0]['label']}</b>, %{{text}} clients<br>%{{x:.1f}} requests/s, "
                "%{y:.1f} ms<extra></extra>",
            )
        )
    style(figure, 440, xaxis_title="requests per second", yaxis_title="time to first token, p95, ms")
    figure.update_xaxes(rangemode="tozero")
    figure.update_yaxes(type="log", dtick="D2")
    return figure


def accuracy(rows: Sequence[Row]) -> go.Figure:
    """Score over requests a second under one number of clients, both with their intervals."""
    figure = go.Figure()
    for row in rows:
        told = said(row)
        if told["score"] is None:
            continue
        x, y = [told["requests_per_s"]], [told["score"]]
        figure.add_trace(
            _trace(
                [row],
                x=x,
                y=y,
                error_x=_bars(x, [(told["requests_per_s_low"], told["requests_per_s_high"])]),
                error_y=_bars(y, [(told["score_low"], told["score_high"])]),
                mode="markers",
                hovertemplate=f"<b>{row['label']}</b><br>%{{x:.1f}} requests/s, {told['metric']} %{{y:.3f}}"
                "<extra></extra>",
            )
        )
    return style(figure, 440, xaxis_title="requests per second", yaxis_title="score", showlegend=True)


def gains(rows: Sequence[Row], figure_of: str) -> go.Figure:
    """How many times as good a cell is as the one it is held against, over the number of clients."""
    figure = go.Figure()
    figure.add_hline(y=1, line={"color": NEUTRAL, "width": 1.5})
    for group in by_cell(rows, "label").values():
        places, found = gains_of(group, figure_of)
        if not places:
            continue
        values = [one.ratio for one in found]
        figure.add_trace(
            _trace(
                group,
                x=places,
                y=values,
                error_y=_bars(values, [(one.low, one.high) for one in found]),
                mode="lines+markers",
                customdata=[one.word for one in found],
                hovertemplate=f"<b>{group[0]['label']}</b><br>%{{x}} clients: x%{{y:.2f}}, %{{customdata}}"
                "<extra></extra>",
            )
        )
    style(figure, 420, xaxis_title="clients", yaxis_title=f"gain in {FIGURES[figure_of]}", showlegend=True)
    figure.update_xaxes(type="log", tickvals=sorted({row["batch_size"] for row in rows}))
    return figure


def verdicts(rows: Sequence[Row]) -> list[dict[str, str]]:
    """Where every cell pays, and where that ends, one line per cell and figure."""
    lines = []
    for (label, _), group in by_cell(rows, "label").items():
        for figure_of, title in FIGURES.items():
            places, found = gains_of(group, figure_of)
            if places:
                line = {"Cell": label, "In": title, "Over the first cell": described(places, found)}
                lines.append(line | {"Break-even, clients": turning(places, found)})
    return lines


def table_rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One line per cell and number of clients."""
    return [
        {
            "Cell": row["label"],
            "Clients": row["batch_size"],
            "Requests/s": _round(said(row)["requests_per_s"], 1),
            "TTFT p50, ms": _round(row["ttft_ms_p50"], 1),
            "TTFT p95, ms": _round(row["ttft_ms_p95"], 1),
            "Answer p95, ms": _round(said(row)["answer_ms_p95"], 1),
            "Score": _round(said(row)["score"], 3),
            "Requests": said(row)["requests"],
            "Failed": said(row)["failed"],
        }
        for group in by_cell(rows, "label").values()
        for row in group
    ]


def _round(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
