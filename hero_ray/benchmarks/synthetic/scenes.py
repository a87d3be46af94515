"""Random scenes: outlined shapes with digits on them, and small signs with words, on a textured background.

A scene is a high-resolution picture in miniature. Colours and large shapes survive the thumbnail; digits and words
are 5x7 bitmaps on single 8-pixel patches and can only be read in the local tiles.

Everything snaps to an 8-pixel grid and no object crosses the picture's centre lines or a 64-pixel tile border, counted
from the centre as AnyRes padding does. An object therefore lies in one quadrant and in one tile.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hero_ray.benchmarks.synthetic.backgrounds import Background
from hero_ray.benchmarks.synthetic.glyphs import COLOURS, SHAPES, TONES, WORDS, glyph, shape_masks

GRID = 8
TILE = 64
LARGE, SMALL = 24, 16
SIGN_WIDTH = 3 * GRID
BACKGROUND, FIRST_SIGN = -1, 100
_INK = {"white": ((240, 240, 240), (25, 25, 30)), "black": ((25, 25, 30), (240, 240, 240))}


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels."""

    left: int
    top: int
    width: int
    height: int

    def overlaps(self, other: "Box") -> bool:
        apart_x = self.left + self.width <= other.left or other.left + other.width <= self.left
        apart_y = self.top + self.height <= other.top or other.top + other.height <= self.top
        return not (apart_x or apart_y)


@dataclass(frozen=True, slots=True)
class Thing:
    """A coloured shape. Large ones carry a digit on a plate in their middle, small ones none."""

    shape: int
    colour: int
    digit: int | None
    box: Box


@dataclass(frozen=True, slots=True)
class Sign:
    """A white or black board with a three-letter word, one letter per patch."""

    word: int
    tone: int
    box: Box


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that is true of a picture, without a pixel of it: what questions are made of.

    Attributes:
        things: The shapes, in drawing order.
        signs: At most one white and one black board.
        texture: Index into `TEXTURES`.
        shade: Index into `SHADES`.
    """

    width: int
    height: int
    things: tuple[Thing, ...]
    signs: tuple[Sign, ...]
    texture: int
    shade: int

    def quadrant(self, box: Box) -> str:
        """Where a box lies: "top left", "top right", "bottom left" or "bottom right"."""
        vertical = "top" if box.top + box.height / 2 < self.height / 2 else "bottom"
        horizontal = "left" if box.left + box.width / 2 < self.width / 2 else "right"
        return f"{vertical} {horizontal}"


@dataclass(frozen=True, eq=False)
class Scene(Facts):
    """A drawn picture and everything that is true of it.

    Attributes:
        image: RGB, uint8 `[height, width, 3]`.
        owner: int16 `[height, width]`: -1 background, i for thing i, 100 + i for sign i.
        plates: bool `[height, width]`: the digit plates.
    """

    image: NDArray[np.uint8]
    owner: NDArray[np.int16]
    plates: NDArray[np.bool_]


def compose(rng: np.random.Generator, width: int, height: int) -> Scene:
    """Draw one random scene of `width` x `height` pixels, both multiples of 16.

    Shapes and colours repeat on purpose now and then, so that counting is not always one and uniqueness is not given.
    """
    background = Background.drawn(rng, width, height)
    canvas = _Canvas(background.painted(width, height), width, height)
    facts = _filled(rng, canvas, background)
    image = np.clip(canvas.pixels, 0, 255).astype(np.uint8)
    parts = (facts.things, facts.signs, facts.texture, facts.shade)
    return Scene(width, height, *parts, image, canvas.owner, canvas.plates)


def imagine(rng: np.random.Generator, width: int, height: int) -> Facts:
    """What `compose` would draw, without a pixel of it: a quarter of the time."""
    background = Background.drawn(rng, width, height)
    return _filled(rng, _Places(width, height), background)


def _filled(rng: np.random.Generator, places: "_Places", background: Background) -> Facts:
    """Put signs and things where there is room."""
    width, height = places.width, places.height
    signs = _place_signs(rng, places)
    things: list[Thing] = []
    area = width * height / TILE**2
    low, high = (1, 4) if area <= 1 else (2, 5) if area <= 2 else (3, 8)
    for _ in range(int(rng.integers(low, high + 1))):
        thing = _random_thing(rng, places, things)
        if thing is not None:
            places.draw_thing(thing, _Brush.drawn(rng), index=len(things))
            things.append(thing)
    return Facts(width, height, tuple(things), signs, background.texture, background.shade)


def _place_signs(rng: np.random.Generator, places: "_Places") -> tuple[Sign, ...]:
    """One or two signs (rarely none on a single tile), never of the same tone and never the same word."""
    draw = rng.random()
    if places.width * places.height <= TILE**2:
        number = 0 if draw < 0.35 else 1 if draw < 0.8 else 2
    else:
        number = 1 if draw < 0.3 else 2
    words, tones = rng.permutation(len(WORDS)), rng.permutation(len(TONES))
    signs: list[Sign] = []
    for i in range(number):
        box = places.free_box(rng, SIGN_WIDTH, GRID)
        if box is not None:
            signs.append(Sign(int(words[i]), int(tones[i]), box))
            places.draw_sign(signs[-1], index=i)
    return tuple(signs)


def _random_thing(rng: np.random.Generator, places: "_Places", earlier: Sequence[Thing]) -> Thing | None:
    shape, colour = int(rng.integers(len(SHAPES))), int(rng.integers(len(COLOURS)))
    if earlier and rng.random() < 0.3:
        shape = earlier[int(rng.integers(len(earlier)))].shape
    if earlier and rng.random() < 0.2:
        colour = earlier[int(rng.integers(len(earlier)))].colour
    size = SMALL if rng.random() < 0.25 else LARGE
    digit = int(rng.integers(10)) if size == LARGE else None
    box = places.free_box(rng, size, size)
    return None if box is None else Thing(shape, colour, digit, box)


def _lines(length: int) -> tuple[int, ...]:
    """The coordinates no object may cross: the centre and the tile borders of the centred, padded canvas."""
    tiles = -(-length // TILE)
    offset = (tiles * TILE - length) // 2
    return (length // 2, *(TILE * k - offset for k in range(1, tiles)))


@dataclass(frozen=True)
class _Brush:
    """What chance decides of how a thing is drawn: how bright, its tint [3], and the tone of its plate."""

    brightness: float
    tint: NDArray[np.float64]
    tone: int

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> "_Brush":
        return cls(rng.uniform(0.85, 1.08), rng.uniform(-10, 10, 3), int(rng.integers(2)))


class _Places:
    """What is taken of a picture that nobody looks at."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._taken: list[Box] = []
        self._lines = _lines(width), _lines(height)

    def free_box(self, rng: np.random.Generator, width: int, height: int, attempts: int = 40) -> Box | None:
        """A free place on the grid, remembered as taken; None when none was found."""
        for _ in range(attempts):
            left = GRID * int(rng.integers((self.width - width) // GRID + 1))
            top = GRID * int(rng.integers((self.height - height) // GRID + 1))
            box = Box(left, top, width, height)
            crosses = any(left < x < left + width for x in self._lines[0])
            crosses |= any(top < y < top + height for y in self._lines[1])
            if not crosses and not any(box.overlaps(other) for other in self._taken):
                self._taken.append(box)
                return box
        return None

    def draw_thing(self, thing: Thing, brush: _Brush, index: int) -> None:
        """Nothing is seen."""

    def draw_sign(self, sign: Sign, index: int) -> None:
        """Nothing is seen."""


class _Canvas(_Places):
    """The picture while it is being drawn."""

    def __init__(self, pixels: NDArray[np.float32], width: int, height: int) -> None:
        super().__init__(width, height)
        self.pixels = pixels
        self.owner = np.full((height, width), BACKGROUND, np.int16)
        self.plates = np.zeros((height, width), bool)

    def draw_thing(self, thing: Thing, brush: _Brush, index: int) -> None:
        """Fill, dark outline and digit plate. The outline makes edges readable on any background."""
        box, name = thing.box, SHAPES[thing.shape]
        rows, columns = slice(box.top, box.top + box.height), slice(box.left, box.left + box.width)
        whole, inside = (mask[..., None] for mask in shape_masks(name, box.width))
        pure = np.asarray(tuple(COLOURS.values())[thing.colour], np.float32)
        fill = pure * brush.brightness + brush.tint
        region = self.pixels[rows, columns]
        region[:] = region * (1 - whole) + (10 + fill * 0.12) * (whole - inside) + fill * inside
        self.owner[rows, columns][whole[..., 0] > 0.5] = index
        if thing.digit is not None:
            self._draw_plate(
                Box(box.left + GRID, box.top + GRID, GRID, GRID), str(thing.digit), TONES[brush.tone], index
            )

    def _draw_plate(self, box: Box, character: str, tone: str, index: int) -> None:
        board, ink = _INK[tone]
        self.pixels[box.top : box.top + 8, box.left : box.left + 7] = board
        self.pixels[box.top : box.top + 7, box.left + 1 : box.left + 6][glyph(character)] = ink
        self.owner[box.top : box.top + 8, box.left : box.left + 8] = index
        self.plates[box.top : box.top + 8, box.left : box.left + 8] = True

    def draw_sign(self, sign: Sign, index: int) -> None:
        board, ink = _INK[TONES[sign.tone]]
        box = sign.box
        self.pixels[box.top : box.top + 8, box.left : box.left + SIGN_WIDTH] = board
        for place, letter in enumerate(WORDS[sign.word]):
            left = box.left + GRID * place
            self.pixels[box.top : box.top + 7, left + 1 : left + 6][glyph(letter)] = ink
        self.owner[box.top : box.top + 8, box.left : box.left + SIGN_WIDTH] = FIRST_SIGN + index
