"""The synthetic benchmarks as plain rows, the same for everyone who asks with the same arguments."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from hero_ray.benchmarks.synthetic.questions import BENCHMARKS, choose_questions
from hero_ray.benchmarks.synthetic.scenes import Facts, Scene, compose, imagine
from hero_ray.core.errors import UnknownNameError

# Each split draws from its own family of seeds, so no scene is shared between them.
SPLITS = {"train": 0, "validation": 1, "test": 2}
NUM_IMAGES = 100
QUESTIONS_PER_IMAGE = {
    "synth-attribute": 4,
    "synth-digits": 4,
    "synth-words": 2,
    "synth-exist": 4,
    "synth-count": 3,
    "synth-position": 3,
    "synth-scene": 2,
}
# (width, height) and share: two and four tiles, most of them with padding that AnyRes must cut away again.
CANVASES: tuple[tuple[tuple[int, int], float], ...] = (
    ((128, 128), 0.40),
    ((128, 64), 0.10),
    ((64, 128), 0.10),
    ((128, 96), 0.10),
    ((96, 128), 0.10),
    ((128, 112), 0.06),
    ((112, 128), 0.06),
    ((96, 64), 0.04),
    ((64, 96), 0.04),
)
"""Sizes need no rescaling under AnyRes with 64-pixel tiles, so objects keep to the patch grid."""


def scene_at(split: str, index: int, seed: int = 0) -> Scene:
    """The `index`-th scene of a split; it does not depend on any other."""
    return compose(*_begun(split, index, seed))


@lru_cache(maxsize=2**12)  # 2 KB each
def facts_at(split: str, index: int, seed: int = 0) -> Facts:
    """What is true of a scene, without drawing it."""
    return imagine(*_begun(split, index, seed))


def _begun(split: str, index: int, seed: int) -> tuple[np.random.Generator, int, int]:
    """A scene's own random numbers, its width and its height."""
    rng = np.random.default_rng([SPLITS[split], seed, index])
    sizes, shares = zip(*CANVASES, strict=True)
    return rng, *sizes[int(rng.choice(len(sizes), p=shares))]


@lru_cache(maxsize=16)
def _drawn(split: str, index: int, seed: int) -> Scene:
    return scene_at(split, index, seed)


def questions(
    name: str,
    split: str = "test",
    num_images: int = NUM_IMAGES,
    questions_per_image: int | None = None,
    seed: int = 0,
) -> Iterator[dict[str, Any]]:
    """Rows of one synthetic benchmark, image by image, without the images.

    Every benchmark asks about the same images in the same order, so an image is encoded once for all of them.

    Args:
        name: One of `BENCHMARKS`, for example "synth-digits".
        split: "train", "validation" (to choose and tune) or "test" (to report).
        num_images: How many images, counted from the first.
        questions_per_image: At most this many; fewer where a scene allows fewer. None takes the benchmark's own.

    Yields:
        Dicts with index (of the image), image_id, question_id, question, answers (list of one), category.

    Raises:
        UnknownNameError: if the name or the split is unknown.
    """
    if name not in BENCHMARKS:
        raise UnknownNameError("synthetic benchmark", name, BENCHMARKS)
    if split not in SPLITS:
        raise UnknownNameError("split", split, SPLITS)
    limit = QUESTIONS_PER_IMAGE[name] if questions_per_image is None else questions_per_image
    for index in range(num_images):
        scene, image_id = facts_at(split, index, seed), f"{split}-{seed}-{index:05d}"
        rng = np.random.default_rng([SPLITS[split], seed, index, 1 + list(BENCHMARKS).index(name)])
        for number, question in enumerate(choose_questions(scene, BENCHMARKS[name], limit, rng)):
            yield {
                "index": index,
                "image_id": image_id,
                "question_id": f"{name}-{image_id}-{number}",
                "question": question.text,
                "answers": [question.answer],
                "category": question.category,
            }


def documents(
    name: str,
    split: str = "test",
    num_images: int = NUM_IMAGES,
    questions_per_image: int | None = None,
    seed: int = 0,
) -> Iterator[dict[str, Any]]:
    """The rows of `questions` with their image (RGB) beside them."""
    for row in questions(name, split, num_images, questions_per_image, seed):
        yield {"image": Image.fromarray(_drawn(split, row["index"], seed).image), **row}
