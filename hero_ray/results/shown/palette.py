"""One look per method everywhere: a colour and a marker that together are unique, also to colour-blind eyes.

Colours stay between 3:1 contrast on white and on the dark page, so that one set serves both. Straw men are grey;
methods that share a colour differ in their marker. The unit tests simulate three kinds of colour blindness.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Look:
    """How a method is drawn: a colour as #rrggbb, a Plotly marker symbol, and whether it stands back."""

    colour: str
    symbol: str
    muted: bool = False


AMBER, BLUE, TEAL, RED = "#C38700", "#5A4BFF", "#2DA578", "#E11E4B"
GREEN, PERIWINKLE, PLUM, ROSE = "#007800", "#8787FF", "#875A96", "#A54B69"
GREY = "#80848C"
COLOURS = (AMBER, BLUE, TEAL, RED, GREEN, PERIWINKLE, PLUM, ROSE)
"""Found by search: any two, GREY included, are 12 or more apart in CIEDE2000 for every kind of colour vision."""

_LOOKS = {
    "full": Look(GREY, "star", True),
    "random": Look(GREY, "x", True),
    "spatial": Look(GREY, "cross", True),
    "spatial-pool": Look(GREY, "square-open", True),
    "downsample": Look(GREY, "triangle-down", True),
    "random-llm": Look(GREY, "bowtie", True),
    "hero": Look(AMBER, "circle"),
    "hired": Look(BLUE, "square"),
    "fastervlm": Look(TEAL, "diamond"),
    "ptp": Look(RED, "triangle-up"),
    "globalcom2": Look(GREEN, "pentagon"),
    "prumerge": Look(PERIWINKLE, "hexagon"),
    "prumerge+": Look(PERIWINKLE, "hexagram"),
    "fastv": Look(PLUM, "triangle-left"),
    "sparsevlm": Look(ROSE, "triangle-right"),
    "vtw": Look(GREEN, "bowtie"),
    "pdrop": Look(PLUM, "hourglass"),
    "gsearch": Look(BLUE, "star-diamond"),
    "visionzip": Look(RED, "diamond-tall"),
    "divprune": Look(ROSE, "diamond-wide"),
    "dart": Look(AMBER, "star-triangle-up"),
    "vispruner": Look(TEAL, "octagon"),
    "holov": Look(BLUE, "star-square"),
    "cdpruner": Look(PERIWINKLE, "star-triangle-down"),
    "scope": Look(TEAL, "square"),
    "hiprune": Look(AMBER, "diamond"),
    "vscan": Look(RED, "circle"),
    "visiontrim": Look(BLUE, "triangle-up"),
    "otprune": Look(ROSE, "circle"),
    "mmtok": Look(GREEN, "square"),
    "transprune": Look(PLUM, "circle"),
    "feather": Look(PERIWINKLE, "square"),
    "ivc-prune": Look(PERIWINKLE, "triangle-up"),
    "fitprune": Look(AMBER, "triangle-left"),
}
_SPARE_SYMBOLS = ("circle-x", "square-x", "diamond-cross", "circle-cross", "square-cross", "diamond-x")
VARIANT_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")

ORDER = tuple(_LOOKS)
"""Methods in the order of legends and tables: straw men first, as in the papers."""


def look(method: str, straw_man: bool = False) -> Look:
    """The look of a method; one from outside the package gets one derived from its name, a straw man in grey."""
    if method in _LOOKS:
        return _LOOKS[method]
    number = int.from_bytes(hashlib.sha256(method.encode()).digest()[:4], "big")
    if straw_man:
        return Look(GREY, _SPARE_SYMBOLS[number % len(_SPARE_SYMBOLS)], True)
    return Look(COLOURS[number % len(COLOURS)], _SPARE_SYMBOLS[number // len(COLOURS) % len(_SPARE_SYMBOLS)])


def rank(method: str) -> tuple[int, str]:
    """Sort key for legends and tables."""
    return (ORDER.index(method) if method in ORDER else len(ORDER), method)
