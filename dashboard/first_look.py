"""A picture of the frontier for whoever has just come: there at once, in the place where the chart will be.

Plotly's script has 4.7 MB, and a browser that never was here reads and starts it for longer than all the rest of the
page takes. Until it has drawn, the report's own chart of the same points stands there: without hover and zoom, but
with every point, bar and name. Where it lies and when it goes is in the style of `app`, which need not import this.
"""

from __future__ import annotations

import base64
from collections.abc import Collection
from dataclasses import replace

import streamlit as st

from dashboard.figures import MANY
from hero_ray.results.axes import axis
from hero_ray.results.frontiers import Frontier
from hero_ray.results.report.svg import frontier_chart

DARK = "filter:invert(1) hue-rotate(180deg)"
"""The report's white turned dark, colours kept."""


def due() -> bool:
    """Whether this visitor sees the page for the first time; says so once."""
    if "seen" in st.session_state:
        return False
    st.session_state["seen"] = True
    return True


def picture(chart: Frontier, shown: Collection[str], unit: tuple[float, str]) -> str:
    """The chart as the address of a picture; "" where the report draws another chart than this page.

    Args:
        shown: labels of the contenders that the filters leave.
    """
    placed = tuple(entry for entry in chart.placed if entry.point.id in shown)
    if not placed or len(placed) > MANY or axis(chart.axis).higher_is_cheaper:
        return ""
    drawn = frontier_chart(replace(chart, placed=placed), unit=unit)
    return f"data:image/svg+xml;base64,{base64.b64encode(drawn.encode()).decode()}"


def show(address: str) -> None:
    """Put a picture where the next element will be; nothing for "", in an element all the same, so that none moves."""
    slot = st.empty()
    if address:
        look = f' style="{DARK}"' if st.context.theme.type == "dark" else ""
        slot.html(f'<div class="first-look"><img alt="" src="{address}"{look}></div>')
