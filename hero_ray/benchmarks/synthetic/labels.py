"""What every patch of a view shows: targets for training a vision tower, and saliency ground truth."""

import numpy as np
from numpy.typing import NDArray

from hero_ray.benchmarks.synthetic.backgrounds import SHADES, TEXTURES
from hero_ray.benchmarks.synthetic.glyphs import COLOUR_NAMES, SHAPES, TONES, WORDS
from hero_ray.benchmarks.synthetic.scenes import BACKGROUND, FIRST_SIGN, Scene

# Label 0 of the first five means "none". Texture and shade hold on bare background only, the quadrant of the view on
# objects only: asked everywhere, it was known on background and forgotten where it matters.
HEADS = {
    "shape": 1 + len(SHAPES),
    "colour": 1 + len(COLOUR_NAMES),
    "digit": 1 + 10,
    "word": 1 + len(WORDS),
    "tone": 1 + len(TONES),
    "texture": len(TEXTURES),
    "shade": len(SHADES),
    "quadrant": 4,
}
IGNORED = -100
PADDING = -2

Labels = NDArray[np.int64]


def patch_labels(
    scene: Scene, owner: NDArray[np.int16], plates: NDArray[np.bool_], rows: int, columns: int, fine: bool
) -> Labels:
    """Label the cells of a `rows` x `columns` grid laid over (a part of) the scene.

    Args:
        owner: Owner map of what the grid covers, `[height, width]`, -2 where it is padding.
        plates: Digit plates of the same area.
        fine: Whether digits and words are large enough to be read; otherwise their labels are "none".

    Returns:
        `[len(HEADS), rows, columns]`.
    """
    labels = np.zeros((len(HEADS), rows, columns), np.int64)
    shape, colour, digit, word, tone, texture, shade, quadrant = labels
    best = np.full((rows, columns), 0.2 if fine else 0.12)
    for i, thing in enumerate(scene.things):
        share = _share(owner == i, rows, columns)
        here = share > best
        best[here] = share[here]
        shape[here], colour[here] = 1 + thing.shape, 1 + thing.colour
        if fine and thing.digit is not None:
            digit[_share((owner == i) & plates, rows, columns) > 0.2] = 1 + thing.digit
    for i, sign in enumerate(scene.signs):
        here = _share(owner == FIRST_SIGN + i, rows, columns) > 0.15
        tone[here] = 1 + sign.tone
        word[here] = 1 + sign.word if fine else 0
    bare = _share(owner == BACKGROUND, rows, columns) > 0.9
    texture[:] = np.where(bare, scene.texture, IGNORED)
    shade[:] = np.where(bare, scene.shade, IGNORED)
    taken = (shape > 0) | (tone > 0)
    lower, right = np.indices((rows, columns)) >= np.array([rows / 2, columns / 2])[:, None, None]
    quadrant[:] = np.where(taken, 2 * lower + right, IGNORED)
    return labels


def _share(mask: NDArray[np.bool_], rows: int, columns: int) -> NDArray[np.float64]:
    """How much of each grid cell is set, in [0, 1]."""
    height, width = mask.shape[0] // rows, mask.shape[1] // columns
    cells = mask.reshape(rows, height, columns, width)
    shares: NDArray[np.float64] = cells.mean((1, 3))
    return shares
