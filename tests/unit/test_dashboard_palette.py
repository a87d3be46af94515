"""One look per method, told apart by every eye and on every page."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

pytest.importorskip("plotly")

from hero_ray.results.shown import palette


def test_every_method_has_a_look_of_its_own() -> None:
    from hero_ray.methods import names

    looks = [palette.look(name) for name in (*names(), "someones-own")]
    assert len({(look.colour, look.symbol) for look in looks}) == len(looks)
    assert palette.look("someones-own") == palette.look("someones-own")


def test_straw_men_are_muted_and_grey() -> None:
    from hero_ray.methods import get, names

    straw_men = [name for name in names() if get(name).straw_man]
    assert straw_men == ["downsample", "random", "spatial", "spatial-pool"]
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


def _linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _lab(linear: np.ndarray) -> np.ndarray:
    rgb_to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = rgb_to_xyz @ np.clip(linear, 0, 1) / np.array([0.9505, 1, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("kind", sorted(_VISION))
def test_colours_differ_for_every_kind_of_colour_vision(kind: str) -> None:
    """Simulation of Machado et al. (2009) at full severity; 20 in CIE76 is far beyond just noticeable (2.3)."""
    colours = (*palette.COLOURS, palette.GREY)
    seen = [_lab(_VISION[kind] @ _linear(colour)) for colour in colours]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 20


@pytest.mark.parametrize("page", ["#FFFFFF", "#0E1117"])
def test_colours_stand_out_from_light_and_dark_pages(page: str) -> None:
    weights = np.array([0.2126, 0.7152, 0.0722])
    ground = float(weights @ _linear(page))
    for colour in (*palette.COLOURS, palette.GREY):
        light = float(weights @ _linear(colour))
        assert (max(light, ground) + 0.05) / (min(light, ground) + 0.05) >= 2.9, colour
