"""Curves over a parameter: measured in the chosen runs, and as the papers print them. No Streamlit.

Studies that `hero_ray` runs leave JSON files; `read_study` says what they must hold to be drawn here.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from dashboard.figures import NEUTRAL, style
from hero_ray.results.marks import Mark
from hero_ray.results.shown.palette import COLOURS, VARIANT_DASHES

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "pentagon", "hexagon", "triangle-left", "triangle-right")


def _look(index: int) -> dict[str, Any]:
    colour = COLOURS[index % len(COLOURS)]
    return {
        "line": {"color": colour, "dash": VARIANT_DASHES[index // len(COLOURS) % len(VARIANT_DASHES)]},
        "marker": {"symbol": SYMBOLS[index % len(SYMBOLS)], "size": 8, "color": colour},
    }


def lines(series: Sequence[Mapping[str, Any]], x_title: str, y_title: str) -> go.Figure:
    """Named curves; `low` and `high` beside `y` draw intervals."""
    figure = go.Figure()
    for index, curve in enumerate(series):
        bars = None
        if curve.get("low") and curve.get("high"):
            bars = {
                "type": "data",
                "symmetric": False,
                "array": [high - y for high, y in zip(curve["high"], curve["y"], strict=True)],
                "arrayminus": [y - low for low, y in zip(curve["low"], curve["y"], strict=True)],
                "thickness": 1,
                "width": 3,
            }
        text = f"<b>{curve['name']}</b><br>%{{x}}: %{{y:.2f}}<extra></extra>"
        look = _look(index)
        figure.add_trace(
            go.Scatter(
                name=str(curve["name"]),
                x=list(curve["x"]),
                y=list(curve["y"]),
                error_y=bars,
                mode="lines+markers",
                hovertemplate=text,
                **look,
            )
        )
    height = 360 + 14 * len(series)  # the legend grows below the plot, not into it
    return style(figure, height, xaxis_title=x_title, yaxis_title=y_title, showlegend=True)


def heat(x: Sequence[Any], y: Sequence[Any], z: Sequence[Sequence[float | None]], title: str = "") -> go.Figure:
    """A matrix, for example the similarity of every layer with every other."""
    scale = go.Heatmap(z=z, x=list(x), y=list(y), colorscale="Cividis", colorbar={"title": title, "thickness": 10})
    return style(go.Figure(scale), 460)


def dots(names: Sequence[str], series: Sequence[Mapping[str, Any]], x_title: str) -> go.Figure:
    """A row per name, and in each a dot per series with its interval."""
    figure = go.Figure()
    figure.add_vline(x=0, line={"color": NEUTRAL, "width": 1.5})
    for index, one in enumerate(series):
        rows = [row for row in zip(names, one["x"], one["low"], one["high"], strict=True) if row[1] is not None]
        bars = {
            "type": "data",
            "symmetric": False,
            "array": [0 if high is None else high - x for _, x, _, high in rows],
            "arrayminus": [0 if low is None else x - low for _, x, low, _ in rows],
            "thickness": 1,
            "width": 3,
        }
        text = f"<b>%{{y}}</b>, {one['name']}: %{{x:.3f}}<extra></extra>"
        figure.add_trace(
            go.Scatter(
                name=str(one["name"]),
                x=[row[1] for row in rows],
                y=[row[0] for row in rows],
                error_x=bars,
                mode="markers",
                hovertemplate=text,
                marker=_look(index)["marker"],
            )
        )
    style(figure, 160 + 24 * len(names), xaxis_title=x_title, showlegend=True)
    figure.update_yaxes(autorange="reversed", type="category", categoryarray=list(names), categoryorder="array")
    return figure


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def varied(marks: Sequence[Mark]) -> dict[tuple[str, str], list[Any]]:
    """(method, parameter) -> its values, for every number that the runs measured at three or more values."""
    found: dict[tuple[str, str], set[float]] = defaultdict(set)
    for mark in marks:
        for name, value in mark.params.items():
            if _is_number(value):
                found[mark.method, name].add(float(value))
    return {key: sorted(values) for key, values in found.items() if len(values) >= 3}


def parameter_curve(marks: Sequence[Mark], method: str, parameter: str) -> list[dict[str, Any]]:
    """Score over one parameter, a curve per benchmark and budget; other parameters at their most frequent setting."""
    own = [mark for mark in marks if mark.method == method and _is_number(mark.params.get(parameter))]
    rest = [json.dumps({k: v for k, v in m.params.items() if k != parameter}, sort_keys=True) for m in own]
    usual = max(sorted(set(rest)), key=rest.count) if rest else ""
    groups: dict[str, dict[float, Mark]] = defaultdict(dict)
    for mark, setting in zip(own, rest, strict=True):
        if setting == usual:
            groups[f"{mark.benchmark} at {mark.name.budget}"].setdefault(float(mark.params[parameter]), mark)
    curves = []
    for name, members in groups.items():
        values = sorted(members)
        ordered = [members[value] for value in values]
        curve: dict[str, Any] = {"name": name, "x": values, "y": [mark.value for mark in ordered]}
        if all(mark.half is not None for mark in ordered):
            curve |= {"low": [mark.low for mark in ordered], "high": [mark.high for mark in ordered]}
        curves.append(curve)
    return curves


PRINTED = {
    "HERO Table I: which tile carries the answer": ("hero", "I", "rank of the single tile shown"),
    "HERO Table VI: early layers L": ("hero", "VI", "layers L"),
    "HERO Table VII: late layers H": ("hero", "VII", "layers H"),
    "HERO Table V: parts removed": ("hero", "V", "part removed"),
    "PTP Table II: layer of the vision tower": ("ptp", "II", "layer"),
    "PTP Table III: alpha": ("ptp", "III", "alpha"),
    "PTP Table IV: parts removed": ("ptp", "IV", "part removed"),
}


def printed_curves(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[list[dict[str, Any]], str, str]:
    """(curves, x title, y title) of one printed ablation, relative to the first value of its benchmark.

    Benchmarks have unlike scales (MME counts to 2000), so curves show percent of the first value printed for theirs.
    """
    paper, table, x_title = PRINTED[name]
    own = [r for r in rows if r["paper"] == paper and r["table"] == table and r["plot"] and r["value"] is not None]
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    variants = {row["variant"] for row in own}
    first: dict[tuple[str, str], float] = {}
    for row in own:
        first.setdefault((row["benchmark"], row["category"]), row["value"])
        words = [row["benchmark"], row["category"]] + ([row["variant"]] if len(variants) > 1 else [])
        groups[", ".join(word for word in words if word)].append(row)
    curves = []
    for label, members in groups.items():
        base = first[members[0]["benchmark"], members[0]["category"]] or 1.0
        x = [_number(row["parameter_value"]) for row in members]
        curves.append({"name": label, "x": x, "y": [100 * row["value"] / base for row in members]})
    return curves, x_title, "percent of the first value printed"


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def read_study(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """A study's document: `title`, `note`, `charts` (`lines`, `heat`, `dots`), `pictures` (data URLs) and `tables`.

    Returns None for a document of another kind, so that a stray JSON file breaks no page.
    """
    try:
        charts = [(str(chart.get("title", "")), _chart(chart)) for chart in document["charts"]]
        pictures = {str(stem): str(url) for stem, url in document.get("pictures", {}).items()}
        tables = [(str(t["title"]), list(t["columns"]), list(t["rows"])) for t in document.get("tables", ())]
        title, note = str(document.get("title", "Study")), str(document.get("note", ""))
    except (KeyError, TypeError, AttributeError, ValueError):
        return None
    return {"title": title, "note": note, "charts": charts, "pictures": pictures, "tables": tables}


def read_file(path: Path) -> Mapping[str, Any] | None:
    """The document in a study's JSON file; None where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _chart(chart: Mapping[str, Any]) -> go.Figure:
    if chart["kind"] == "lines":
        return lines(chart["series"], str(chart.get("x_title", "")), str(chart.get("y_title", "")))
    if chart["kind"] == "dots":
        return dots(chart["names"], chart["series"], str(chart.get("x_title", "")))
    return heat(chart["x"], chart["y"], chart["z"], str(chart.get("unit", "")))
