"""Charts as plain SVG text, so that a report needs no script and no network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from hero_ray.results.axes import axis
from hero_ray.results.frontiers import AVERAGE, Frontier
from hero_ray.results.shown import markers, palette
from hero_ray.stats.frontier import staircase

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 64, 190, 28, 52
RIGHT_EDGE = WIDTH - RIGHT + 12
RADIUS, ROW = 4.5, 18
LONGEST = 24
"""Letters of a method's name that the legend has room for."""


@dataclass(frozen=True)
class Overlaid:
    """A printed point drawn hollow beside ours: x, y (in points of 100) and what to call it."""

    x: float
    y: float
    label: str


@dataclass(frozen=True)
class Scale:
    """A linear map from data to pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 1)

    def ticks(self, wanted: int = 6) -> list[float]:
        rough = (self.high - self.low) / wanted
        power = 10 ** math.floor(math.log10(rough))
        step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough)
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def padded(values: Sequence[float], start: float, end: float) -> Scale:
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or max(abs(high), 1.0) * 0.1
    return Scale(low - room, high + room, start, end)


def frontier_chart(chart: Frontier, overlay: Sequence[Overlaid] = (), unit: tuple[float, str] | None = None) -> str:
    """Score against cost: every method's own marker with 95 % bars, the frontier filled and joined as a staircase.

    Args:
        unit: (factor, name) that costs are shown in; the axis's base unit if None.
    """
    entries = chart.placed
    bounds = [
        value
        for entry in entries
        for value in (entry.point.value, entry.point.low, entry.point.high)
        if value is not None
    ]
    x = padded([e.point.cost for e in entries] + [o.x for o in overlay], LEFT, WIDTH - RIGHT)
    y = padded(bounds + [o.y for o in overlay], HEIGHT - BOTTOM, TOP)
    names = sorted({_method(entry.point.label) for entry in entries}, key=palette.rank)
    looks = {name: _look(chart, name) for name in names}
    share = chart.title == AVERAGE
    factor, name = unit or axis(chart.axis).units[0]
    across = Scale(x.low / factor, x.high / factor, x.start, x.end)
    title = "share of the unpruned score, %" if share else "score, points of 100"
    parts = [_frame(across, y, axis(chart.axis).headed(name), title)]
    parts.append(_staircase(chart, x, y))
    for entry in sorted(entries, key=lambda entry: entry.state == "frontier"):  # what matters most on top
        point = entry.point
        look = looks[_method(point.label)]
        at_x, at_y = x(point.cost), y(point.value)
        if point.low is not None and point.high is not None:
            low, high = y(point.low), y(point.high)
            bar = f'x1="{at_x}" x2="{at_x}" y1="{low}" y2="{high}"'
            parts.append(f'<line {bar} stroke="{look.colour}" stroke-width="1.5"/>')
        title = f"{point.label}: {point.value:.1f} at {point.cost / factor:.4g} ({entry.state})"
        filled = entry.state == "frontier"
        parts.append(markers.draw(look.symbol, at_x, at_y, RADIUS, look.colour, filled, escape(title)))
    parts += [_overlaid(each, x, y) for each in overlay]
    parts += [_legend(name, looks[name], place) for place, name in enumerate(names)]
    parts.append(_text(RIGHT_EDGE, TOP + 20 + ROW * len(names), "filled: on the frontier"))
    body, height = "\n".join(parts), max(HEIGHT, TOP + 32 + ROW * len(names))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(_said(chart))}" font-family="sans-serif" font-size="12">\n{body}\n</svg>'
    )


def _method(label: str) -> str:
    """The method of a contender's label: `hero:alpha=0.7@20%` is hero's."""
    return label.partition("@")[0].partition(":")[0]


def _look(chart: Frontier, name: str) -> palette.Look:
    straw_man = any(mark.straw_man for mark in chart.marks.values() if mark.method == name)
    return palette.look(name, straw_man)


def _said(chart: Frontier) -> str:
    """The chart in words; the table beside it has every figure."""
    best = [entry.point.label for entry in chart.placed if entry.state == "frontier"]
    return (
        f"{chart.title} against {axis(chart.axis).label}: {len(chart.placed)} cells, on the frontier {', '.join(best)}"
    )


def _text(x: float, y: float, text: str) -> str:
    return f'<text x="{x}" y="{y}">{escape(text)}</text>'


def _frame(x: Scale, y: Scale, label: str, title: str) -> str:
    floor, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = [f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>']
    for tick in y.ticks():
        at = y(tick)
        parts.append(f'<line x1="{LEFT}" x2="{right}" y1="{at}" y2="{at}" stroke="#e5e5e5"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{at + 4}" text-anchor="end">{tick:g}</text>')
    for tick in x.ticks():
        at = x(tick)
        parts.append(f'<line x1="{at}" x2="{at}" y1="{floor}" y2="{floor + 5}" stroke="#444444"/>')
        parts.append(f'<text x="{at}" y="{floor + 19}" text-anchor="middle">{tick:.4g}</text>')
    parts.append(f'<path d="M{LEFT},{TOP} V{floor} H{right}" fill="none" stroke="#444444"/>')
    parts.append(f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 12}" text-anchor="middle">{escape(label)}</text>')
    parts.append(_text(LEFT, TOP - 10, title))
    return "\n".join(parts)


def _staircase(chart: Frontier, x: Scale, y: Scale) -> str:
    costs, values = staircase(chart.placed)
    if not costs:
        return ""
    path = f"M{x(costs[0])},{y(values[0])}"
    for cost, value in zip(costs[1:], values[1:], strict=True):
        path += f" H{x(cost)} V{y(value)}"
    return f'<path d="{path}" fill="none" stroke="#767676" stroke-dasharray="5 4"/>'


def _overlaid(each: Overlaid, x: Scale, y: Scale) -> str:
    at_x, at_y = x(each.x), y(each.y)
    return (
        f'<path d="M{at_x - 5},{at_y} L{at_x},{at_y - 5} L{at_x + 5},{at_y} L{at_x},{at_y + 5} Z" fill="none" '
        f'stroke="#777777"><title>{escape(each.label)}</title></path>'
    )


def _legend(name: str, look: palette.Look, place: int) -> str:
    top = TOP + 8 + ROW * place
    name = name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
    return markers.draw(look.symbol, RIGHT_EDGE + 6, top, RADIUS, look.colour) + _text(RIGHT_EDGE + 18, top + 4, name)
