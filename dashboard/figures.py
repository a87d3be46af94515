"""Charts of accuracy against cost and of methods over benchmarks: plain records to Plotly figures. No Streamlit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

import pandas  # noqa: F401  # Plotly looks at it where it is there: the second of two first visitors saw half of it
import plotly.graph_objects as go

from hero_ray.results.axes import Axis
from hero_ray.results.marks import Mark
from hero_ray.results.shown import palette

MANY = 400
"""Above so many markers intervals are left out of the picture (not of the hover) and WebGL draws."""

LEGEND, ROW, NAME = 12, 19, 15
"""Lines of a legend that a chart's height has room for, two side by side on a telephone; pixels of one; its letters."""

NEUTRAL = "rgba(128,132,140,0.9)"
GRID = "rgba(128,132,140,0.22)"
DIVERGING = [[0, "#E08214"], [0.25, "#FDB863"], [0.5, "#F7F7F7"], [0.75, "#92C5DE"], [1, "#4393C3"]]
"""Worse to better, light enough at both ends for text in INK."""
INK = "#111111"
CONFIG = {
    "displaylogo": False,
    "modeBarButtonsToRemove": ["lasso2d", "select2d", "autoScale2d", "sendChartToCloud"],
    "responsive": True,
}
"""No tool that only draws boxes, and none that offers to upload a chart to somebody's cloud."""


def style(figure: go.Figure, height: int = 460, **layout: Any) -> go.Figure:
    """Margins, grid and legend that read on light and dark and on a telephone.

    Args:
        height: in pixels, with a legend of up to `LEGEND` series; more of them make it higher, not the chart smaller.
    """
    named = [one for one in figure.data if one.name and one.showlegend is not False]
    for one in named:
        one.name = "<br>".join(wrap(one.name, NAME))
    lines = sum(one.name.count("<br>") + 1 for one in named)
    figure.update_layout(
        height=height + ROW * max(0, (lines - LEGEND) // 2),
        margin={"l": 8, "r": 8, "t": 30, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        hoverlabel={"align": "left"},
        legend={
            "orientation": "h",
            "traceorder": "normal",
            "yref": "container",
            "y": 0,
            "yanchor": "bottom",
            "x": 0,
            "title": None,
            "maxheight": 0.7,
        },
        **layout,
    )
    figure.update_xaxes(gridcolor=GRID, zeroline=False, automargin=True)
    figure.update_yaxes(gridcolor=GRID, zeroline=False, automargin=True)
    return figure


def frontier(
    marks: Sequence[Mark],
    axis: Axis,
    y_title: str,
    line: Sequence[Mark] = (),
    published: Sequence[Mapping[str, Any]] = (),
    log_x: bool = False,
    unit: tuple[float, str] | None = None,
) -> go.Figure:
    """Score against one cost: a series per method with intervals, the Pareto line with its band.

    Args:
        marks: points that may share the axis.
        line: those on the Pareto line, cheapest first.
        published: points printed in papers: `method label x y source`, x in the axis's base unit.
        unit: (factor, name) of the cost's unit; default: the one that suits these marks.
    """
    factor, name = unit or axis.unit([mark.costs[axis.name] for mark in marks])
    x_title = axis.headed(name)
    x_title = x_title[0].upper() + x_title[1:]
    figure = go.Figure()
    if line:
        _pareto_line(figure, line, axis, factor)
    groups: dict[tuple[str, str], list[Mark]] = defaultdict(list)
    for mark in marks:
        groups[mark.method, mark.name.series].append(mark)
    crowded = len(marks) > MANY
    names = sorted(groups, key=lambda key: (palette.rank(key[0]), key[1]))
    variants: dict[str, int] = defaultdict(int)
    for method, series in names:
        figure.add_trace(_series(method, series, groups[method, series], axis, factor, variants[method], crowded))
        variants[method] += 1
    _published_points(figure, published, factor)
    style(figure, 500, xaxis_title=x_title, yaxis_title=y_title, hovermode="closest")
    figure.update_xaxes(rangemode="tozero" if not log_x else "normal", type="log" if log_x else "linear")
    if axis.higher_is_cheaper:
        figure.update_xaxes(autorange="reversed", title=f"{x_title} (faster to the left)")
    return figure


def _series(
    method: str, series: str, members: Sequence[Mark], axis: Axis, factor: float, variant: int, crowded: bool
) -> Any:
    look = palette.look(method, members[0].straw_man)
    members = sorted(members, key=lambda mark: mark.costs[axis.name] or 0.0)
    dash = palette.VARIANT_DASHES[variant % len(palette.VARIANT_DASHES)]
    kind = go.Scattergl if crowded else go.Scatter
    bars = None
    if not crowded and any(mark.low is not None for mark in members):
        bars = {
            "type": "data",
            "symmetric": False,
            "array": [0 if mark.high is None else mark.high - mark.value for mark in members],
            "arrayminus": [0 if mark.low is None else mark.value - mark.low for mark in members],
            "thickness": 1,
            "width": 3,
            "color": look.colour,
        }
    return kind(
        name=series,
        x=[(mark.costs[axis.name] or 0.0) / factor for mark in members],
        y=[mark.value for mark in members],
        error_y=bars,
        mode="markers" if crowded or len(members) == 1 else "lines+markers",
        line={"color": look.colour, "width": 1, "dash": "dot" if look.muted else dash},
        marker={"color": look.colour, "symbol": look.symbol, "size": 9 if look.muted else 11},
        customdata=[[*_hover(mark), *mark.cells[0]] for mark in members],
        hovertemplate="<b>%{customdata[0]}</b><br>%{customdata[1]}<br>%{customdata[2]}<extra></extra>",
    )


def _hover(mark: Mark) -> tuple[str, str, str]:
    spread = "" if mark.low is None or mark.high is None else f" ({mark.low:.1f} to {mark.high:.1f})"
    people = f"n = {mark.n:,}" + (f" questions on {mark.n_clusters:,} pictures" if mark.n_clusters else "")
    lines = [people]
    tokens = mark.costs["tokens"]
    if tokens is not None:
        lines.append(f"{tokens:,.1f} visual tokens")
    if mark.n_failed:
        lines.append(f"{mark.n_failed:,} samples failed")
    if mark.note:
        lines.append(mark.note)
    return str(mark.name), f"{mark.value:.1f}{spread}", "<br>".join(lines)


def _pareto_line(figure: go.Figure, best: Sequence[Mark], axis: Axis, factor: float) -> None:
    x = [(mark.costs[axis.name] or 0.0) / factor for mark in best]
    high = [mark.value if mark.high is None else mark.high for mark in best]
    low = [mark.value if mark.low is None else mark.low for mark in best]
    hidden = {"width": 0, "shape": "hv"}
    plain: dict[str, Any] = {"mode": "lines", "hoverinfo": "skip"}
    band = {"fill": "tonexty", "fillcolor": "rgba(128,132,140,0.16)", "showlegend": False}
    figure.add_trace(go.Scatter(x=x, y=high, line=hidden, name="band, upper edge", showlegend=False, **plain))
    figure.add_trace(go.Scatter(x=x, y=low, line=hidden, name="band, lower edge", **band, **plain))
    figure.add_trace(
        go.Scatter(
            x=x,
            y=[mark.value for mark in best],
            name="Pareto line",
            line={"color": NEUTRAL, "width": 2, "shape": "hv"},
            **plain,
        )
    )


def _published_points(figure: go.Figure, published: Sequence[Mapping[str, Any]], factor: float) -> None:
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for point in published:
        groups[point["method"], point["label"]].append(point)
    for i, ((method, label), members) in enumerate(groups.items()):
        look = palette.look(method)
        figure.add_trace(
            go.Scatter(
                name="published (hollow)",
                showlegend=i == 0,  # each paper, table and model would bury our own; the hover names them
                x=[point["x"] / factor for point in members],
                y=[point["y"] for point in members],
                mode="markers",
                marker={
                    "color": look.colour,
                    "symbol": f"{look.symbol.removesuffix('-open')}-open",
                    "size": 12,
                    "line": {"width": 2},
                },
                text=[point["source"] for point in members],
                hovertemplate=f"<b>{label}</b><br>%{{y:.1f}}<br>%{{text}}<extra></extra>",
            )
        )


def heatmap(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
    texts: Sequence[Sequence[str]],
) -> go.Figure:
    """Difference from the baseline, method by benchmark: blue better, orange worse, white equal."""
    largest = max((abs(value) for row in values for value in row if value is not None), default=1.0) or 1.0
    figure = go.Figure(
        go.Heatmap(
            z=values,
            x=list(columns),
            y=list(rows),
            text=texts,
            texttemplate="%{text}",
            zmin=-largest,
            zmax=largest,
            zmid=0,
            xgap=2,
            ygap=2,
            colorscale=DIVERGING,
            textfont={"color": INK},
            colorbar={"title": "points", "thickness": 10},
            hovertemplate="%{y}<br>%{x}: %{text} points<extra></extra>",
        )
    )
    style(figure, 130 + 34 * max(1, len(rows)))
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_xaxes(showgrid=False)
    return figure
