"""One look per method, told apart by every eye and on every page."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

pytest.importorskip("plotly")

from dashboard import figures, speed_figures
from hero_ray.results.axes import AXES
from hero_ray.results.marks import marks
from hero_ray.results.shown import markers, palette
from tests.dashboard_rows import GRID, row


def test_every_method_has_a_look_of_its_own() -> None:
    from hero_ray.methods import names

    looks = [palette.look(name) for name in (*names(), "someones-own")]
    assert len({(look.colour, look.symbol) for look in looks}) == len(looks)
    assert palette.look("someones-own") == palette.look("someones-own")


def test_straw_men_are_muted_and_grey() -> None:
    from hero_ray.methods import get, names

    straw_men = [name for name in names() if get(name).straw_man]
    assert straw_men == ["downsample", "random", "random-llm", "spatial", "spatial-pool"]
    for look in (*map(palette.look, ("full", *straw_men)), palette.look("someones-own", straw_man=True)):
        assert (look.muted, look.colour) == (True, palette.GREY)
    assert not palette.look("hero").muted
    assert not palette.look("someones-own").muted


_VISION = {
    "usual": np.eye(3),
    "protanopia": np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]),
    "deuteranopia": np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]),
    "tritanopia": np.array([[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]]),
}
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])


def _linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _lab(linear: np.ndarray) -> np.ndarray:
    rgb_to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = rgb_to_xyz @ np.clip(linear, 0, 1) / np.array([0.9505, 1, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def _ciede2000(one: np.ndarray, two: np.ndarray) -> float:
    """Sharma, Wu and Dalal (2005), equations 2 to 22."""
    mean_c7 = (np.mean([np.hypot(*lab[1:]) for lab in (one, two)])) ** 7
    stretch = 1.5 - 0.5 * np.sqrt(mean_c7 / (mean_c7 + 25**7))
    (l1, a1, b1), (l2, a2, b2) = one, two
    c1, c2 = np.hypot(stretch * a1, b1), np.hypot(stretch * a2, b2)
    h1, h2 = (np.degrees(np.arctan2(b, stretch * a)) % 360 for a, b in ((a1, b1), (a2, b2)))
    turn = (h2 - h1 + 180) % 360 - 180 if c1 * c2 else 0.0
    middle = (h1 + turn / 2) % 360 if c1 * c2 else h1 + h2
    lightness, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    t = (
        1
        - 0.17 * np.cos(np.radians(middle - 30))
        + 0.24 * np.cos(np.radians(2 * middle))
        + 0.32 * np.cos(np.radians(3 * middle + 6))
        - 0.20 * np.cos(np.radians(4 * middle - 63))
    )
    in_l = (l2 - l1) / (1 + 0.015 * (lightness - 50) ** 2 / np.sqrt(20 + (lightness - 50) ** 2))
    in_c = (c2 - c1) / (1 + 0.045 * chroma)
    in_h = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2)) / (1 + 0.015 * chroma * t)
    bend = (
        -2 * np.sqrt(chroma**7 / (chroma**7 + 25**7)) * np.sin(np.radians(60 * np.exp(-(((middle - 275) / 25) ** 2))))
    )
    return float(np.sqrt(in_l**2 + in_c**2 + in_h**2 + bend * in_c * in_h))


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        ((50.0, 2.6772, -79.7751), (50.0, 0.0, -82.7485), 2.0425),
        ((50.0, 2.5, 0.0), (73.0, 25.0, -18.0), 27.1492),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((22.7233, 20.0904, -46.6940), (23.0331, 14.9730, -42.5619), 2.0373),
    ],
)
def test_the_distance_is_that_of_its_paper(one: tuple[float, ...], two: tuple[float, ...], expected: float) -> None:
    """Table 1 of Sharma, Wu and Dalal."""
    assert _ciede2000(np.array(one), np.array(two)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("kind", sorted(_VISION))
def test_colours_differ_for_every_kind_of_colour_vision(kind: str) -> None:
    """Simulation of Machado et al. (2009) at full severity."""
    colours = (*palette.COLOURS, palette.GREY)
    seen = [_lab(_VISION[kind] @ _linear(colour)) for colour in colours]
    assert min(_ciede2000(a, b) for a, b in itertools.combinations(seen, 2)) >= 12


def _contrast(one: str, two: str) -> float:
    """WCAG's ratio."""
    lights = [float(_LUMINANCE @ _linear(colour)) + 0.05 for colour in (one, two)]
    return max(lights) / min(lights)


@pytest.mark.parametrize("page", ["#FFFFFF", "#171614", "#121212"])
def test_colours_stand_out_from_light_and_dark_pages(page: str) -> None:
    for colour in (*palette.COLOURS, palette.GREY):
        assert _contrast(colour, page) >= 3.0, colour


@pytest.mark.parametrize("page", ["#FFFFFF", "#171614", "#121212"])
def test_all_that_is_drawn_in_a_chart_stands_out(page: str) -> None:
    """Lines, bars and markers of a frontier with intervals, and the bars of a request's stages."""
    found = marks([*GRID, row("someones-own", 0.4)])
    drawn = {trace.error_y.color for trace in figures.frontier(found, AXES["tokens"], "score").data}
    stage = {"label": "hero", "new_tokens": 8, "encode_ms": 1.0, "select_ms": 1.0, "prefill_ms": 1.0, "tpot_ms_p50": 1}
    drawn |= {bar.marker.color for bar in speed_figures.stage_bars([stage]).data}
    assert len(drawn) >= 5
    for colour in drawn:
        assert _contrast(colour, page) >= 3.0, colour


def test_figures_in_a_heatmap_can_be_read_on_every_shade() -> None:
    (drawn,) = figures.heatmap(["a"], ["b"], [[1.0]], [["+1.0*"]]).data
    assert drawn.textfont.color == figures.INK
    ends = [[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for _, colour in drawn.colorscale]
    places = [place for place, _ in drawn.colorscale]
    for at in np.linspace(0, 1, 101):
        shade = [round(float(np.interp(at, places, [end[c] for end in ends]))) for c in range(3)]
        assert _contrast("#{:02X}{:02X}{:02X}".format(*shade), figures.INK) >= 4.5, at


def test_every_symbol_of_a_method_can_be_drawn_without_plotly() -> None:
    from hero_ray.methods import names

    for name in (*names(), *(f"someones-{i}" for i in range(200))):
        for straw_man in (False, True):
            symbol = palette.look(name, straw_man).symbol
            assert markers.draw(symbol, 10, 20, 5, "#112233").startswith('<path d="M')
    drawn = {markers.draw(symbol, 0, 0, 5, "#112233") for symbol in {palette.look(n).symbol for n in names()}}
    assert len(drawn) == len({palette.look(n).symbol for n in names()})
