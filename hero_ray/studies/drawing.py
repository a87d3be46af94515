"""Attention over pictures, labelled sheets, and charts as plain images; no plotting library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from hero_ray.results.shown.palette import COLOURS

PANEL = 224
CAPTION = 22
_STOPS = np.array([[0, 32, 76], [66, 78, 108], [124, 123, 120], [188, 175, 111], [255, 234, 70]], np.float64)
"""Cividis at quarters: readable without colour vision."""
_FRAME = "#767676"


def shade(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Values in 0..1 as colours [..., 3]."""
    place = np.clip(np.nan_to_num(values), 0, 1) * (len(_STOPS) - 1)
    channels = [np.interp(place, np.arange(len(_STOPS)), _STOPS[:, c]) for c in range(3)]
    return np.stack(channels, -1).astype(np.uint8)


def over_picture(picture: Image.Image, scores: NDArray[np.float64], edge: int = PANEL) -> Image.Image:
    """A view with its token scores [rows, columns] laid over it, lowest dark and highest bright."""
    low, high = float(scores.min()), float(scores.max())
    scaled = (scores - low) / (high - low) if high > low else np.zeros_like(scores)
    colours = Image.fromarray(shade(scaled)).resize((edge, edge), Image.Resampling.NEAREST)
    return Image.blend(picture.convert("RGB").resize((edge, edge), Image.Resampling.BICUBIC), colours, 0.6)


def sheet(panels: Sequence[tuple[str, Image.Image]], columns: int, heading: str = "") -> Image.Image:
    """Captioned panels in rows of `columns`, a line of text above them."""
    width = max(image.width for _, image in panels) + 8
    height = max(image.height for _, image in panels) + CAPTION + 8
    lead = CAPTION if heading else 0
    rows = -(-len(panels) // columns)
    page = Image.new("RGB", (width * min(columns, len(panels)), height * rows + lead), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    draw.text((4, 3), heading, fill="black", font=font)
    for number, (caption, image) in enumerate(panels):
        left, top = number % columns * width + 4, number // columns * height + 4 + lead
        draw.text((left, top + 2), caption, fill="black", font=font)
        page.paste(image, (left, top + CAPTION))
    return page


def chart(record: Mapping[str, Any]) -> Image.Image:
    """A `lines`, `heat` or `dots` record as an image."""
    return {"heat": _heat, "dots": _dots, "lines": _lines}[record["kind"]](record)


def _heat(record: Mapping[str, Any]) -> Image.Image:
    values = np.array(record["z"], np.float64)
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    cell = max(8, min(40, 480 // max(values.shape)))
    colours = shade((values - low) / (high - low) if high > low else np.zeros_like(values))
    body = Image.fromarray(colours).resize((values.shape[1] * cell, values.shape[0] * cell), Image.Resampling.NEAREST)
    page = Image.new("RGB", (max(body.width + 60, 420), body.height + 70), "white")
    page.paste(body, (40, 30))
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(12)
    draw.text((40, 6), f"{record['title']}: {low:.2f} (dark) to {high:.2f} (bright)", fill="black", font=font)
    for number, label in enumerate(record["x"]):
        draw.text((40 + (number + 0.5) * cell, body.height + 34), str(label), fill="black", font=font, anchor="ma")
    for number, label in enumerate(record["y"]):
        draw.text((34, 30 + (number + 0.5) * cell), str(label), fill="black", font=font, anchor="rm")
    return page


def _lines(record: Mapping[str, Any]) -> Image.Image:
    width, height, left, top = 640, 320, 60, 34
    series = record["series"]
    page = Image.new("RGB", (width + left + 20, height + top + 50 + 18 * len(series)), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(12)
    xs = [float(x) for curve in series for x in curve["x"]]
    ys = [float(y) for curve in series for key in ("y", "low", "high") for y in curve.get(key, ())]
    x_low, x_high, y_low, y_high = min(xs), max(xs), min([0.0, *ys]), max(ys) or 1.0

    def at(x: float, y: float) -> tuple[float, float]:
        across = (x - x_low) / ((x_high - x_low) or 1.0)
        return left + across * width, top + height * (1 - (y - y_low) / ((y_high - y_low) or 1.0))

    draw.text((left, 8), f"{record['title']} ({record['y_title']})", fill="black", font=font)
    draw.rectangle((left, top, left + width, top + height), outline=_FRAME)
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        value = y_low + share * (y_high - y_low)
        draw.text((left - 6, at(x_low, value)[1]), f"{value:.2f}", fill="black", font=font, anchor="rm")
    for x in sorted(set(xs)):
        draw.text((at(x, y_low)[0], top + height + 6), f"{x:g}", fill="black", font=font, anchor="ma")
    draw.text((left + width / 2, top + height + 24), record["x_title"], fill="black", font=font, anchor="ma")
    for number, curve in enumerate(series):
        colour = COLOURS[number % len(COLOURS)]
        points = [at(float(x), float(y)) for x, y in zip(curve["x"], curve["y"], strict=True)]
        draw.line(points, fill=colour, width=2)
        for x, low, high in zip(curve["x"], curve.get("low", ()), curve.get("high", ()), strict=False):
            draw.line((at(float(x), low), at(float(x), high)), fill=colour, width=1)
        for x, y in points:
            draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=colour)
        _named(draw, left, top + height + 46 + 18 * number, colour, str(curve["name"]))
    return page


def _named(draw: ImageDraw.ImageDraw, x: float, y: float, colour: str, name: str) -> None:
    """A line of a legend: colours that stand out as marks are too light for text."""
    draw.ellipse((x, y + 4, x + 8, y + 12), fill=colour)
    draw.text((x + 14, y), name, fill="black", font=ImageFont.load_default(12))


def _dots(record: Mapping[str, Any]) -> Image.Image:
    width, left, top, step, names, series = 480, 150, 34, 22, record["names"], record["series"]
    bounds = [v for one in series for key in ("x", "low", "high") for v in one[key] if v is not None]
    low, high = min([0.0, *bounds]), max([0.0, *bounds])
    floor = top + step * len(names)
    page = Image.new("RGB", (left + width + 40, floor + 44 + 18 * len(series)), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(12)

    def at(x: float) -> float:
        return left + width * (x - low) / ((high - low) or 1.0)

    draw.text((8, 8), record["title"], fill="black", font=font)
    draw.line((at(0.0), top, at(0.0), floor), fill=_FRAME, width=1)
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        value = low + share * (high - low)
        draw.text((at(value), floor + 4), f"{value:.2f}", fill="black", font=font, anchor="ma")
    draw.text((left + width / 2, floor + 22), record["x_title"], fill="black", font=font, anchor="ma")
    for row, name in enumerate(names):
        y = top + step * (row + 0.5)
        draw.text((left - 8, y), str(name), fill="black", font=font, anchor="rm")
        for number, one in enumerate(series):
            colour, place = COLOURS[number % len(COLOURS)], y + 4 * (number - (len(series) - 1) / 2)
            x, lower, upper = one["x"][row], one["low"][row], one["high"][row]
            if x is None:
                continue
            if lower is not None and upper is not None:
                draw.line((at(lower), place, at(upper), place), fill=colour, width=1)
            draw.ellipse((at(x) - 3, place - 3, at(x) + 3, place + 3), fill=colour)
    for number, one in enumerate(series):
        _named(draw, left, floor + 40 + 18 * number, COLOURS[number % len(COLOURS)], str(one["name"]))
    return page
