"""The evidence about each cell, growing picture by picture, and where it was decided."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from dashboard.figures import style
from hero_ray.results.early import Growth
from hero_ray.results.shown import palette


def growing(found: Sequence[Growth], margin: float) -> go.Figure:
    """A line per cell: upwards the e-value that it is within the margin, downwards that it is worse, whichever is more.

    Args:
        margin: in points.
    """
    figure = go.Figure()
    for item in sorted(found, key=lambda item: (palette.rank(item.method), item.key)):
        look = palette.look(item.method, item.straw_man)
        height = np.where(item.within >= item.worse, np.maximum(item.within, 0.0), -np.maximum(item.worse, 0.0))
        line = height / math.log(10)
        at = min(item.stop or line.size, line.size)
        says = item.reason or "not decided"
        hover = f"<b>{item.key}</b><br>{says}<br>after %{{x}} pictures<extra></extra>"
        x = np.arange(1, line.size + 1)
        figure.add_trace(
            go.Scatter(name=item.key, x=x[:at], y=line[:at], mode="lines", line={"color": look.colour, "width": 1.6},
                       legendgroup=item.key, hovertemplate=hover)
        )  # fmt: skip
        if item.stop and at:
            after = {"color": look.colour, "width": 1, "dash": "dot"}
            more: dict[str, Any] = {"legendgroup": item.key, "showlegend": False, "hovertemplate": hover}
            figure.add_trace(go.Scatter(x=x[at - 1 :], y=line[at - 1 :], mode="lines", line=after, **more))
            figure.add_trace(
                go.Scatter(x=[at], y=[line[at - 1]], mode="markers", name="decided",
                           marker={"color": look.colour, "symbol": look.symbol, "size": 11}, **more)
            )  # fmt: skip
    for limit in {item.limit / math.log(10) for item in found}:
        for side, text in ((1, f"surely within {margin:g} points"), (-1, "surely worse")):
            place = "top left" if side > 0 else "bottom left"
            figure.add_hline(side * limit, line_dash="dash", line_width=1, annotation_text=text,
                             annotation_position=place)  # fmt: skip
    title = "evidence, log10 of the e-value"
    return style(figure, 460, xaxis_title="pictures, in their random order", yaxis_title=title, hovermode="closest")
