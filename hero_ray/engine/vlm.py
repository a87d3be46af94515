"""One model, one picture, one question, one method: the library's front door.

For many cells on one picture see `hero_ray.engine.evaluate`, for many pictures `hero_ray.sweep`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hero_ray.benchmarks.images import picture
from hero_ray.core.encoded import Budget, BudgetBase, Encoded, Selection
from hero_ray.core.layout import NewlinePolicy
from hero_ray.core.types import TokenCount
from hero_ray.engine.cut import Picture, Pruning, cut, generate, picture_id
from hero_ray.methods import create
from hero_ray.methods.base import Method
from hero_ray.models import load
from hero_ray.models.base import Adapter, Generation, Request

Source = Image.Image | str | Path | bytes | np.ndarray[Any, Any]


@dataclass(frozen=True)
class Output:
    """One answer and how it came about.

    Attributes:
        text: the answer.
        selection: which tokens survived; `selection.keep` is bool [views, tokens].
        tokens: token figures.
        generation: token ids, cache bytes and how the answer ended.
        encoded: the picture as the method saw it.
        budget: what the method was given.
    """

    text: str
    selection: Selection
    tokens: TokenCount
    generation: Generation
    encoded: Encoded
    budget: Budget


class VisionLanguageModel:
    """A loaded model with pruning methods in front of it.

    Attributes:
        adapter: the model taken apart; everything this class does can be done step by step with it.
    """

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter

    @property
    def info(self) -> Any:
        """What is known of the model: family, sizes, revision, device."""
        return self.adapter.info

    def generate(
        self,
        image: Source,
        question: str,
        method: str | Method = "full",
        retention_ratio: float | None = None,
        tokens: int | None = None,
        max_new_tokens: int = 64,
        budget_base: BudgetBase = "real",
        newline_policy: NewlinePolicy = "unpadded_rows",
        suffix: str = "",
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        on_token: Callable[[int, int], object] | None = None,
        **parameters: Any,
    ) -> Output:
        """Answer a question about a picture from a share of its visual tokens.

        Args:
            image: a PIL image, the path of one, encoded bytes or a numpy array [height, width, 3]; an EXIF orientation
                is applied.
            question: what the method reads, too, if it is text-aware.
            method: name of a registered method, or one made with `hero_ray.methods.create`.
            retention_ratio: share of visual tokens kept, in (0, 1]; 1 where neither it nor `tokens` is given.
            tokens: absolute budget instead of a ratio.
            suffix: put behind the question, for example a format instruction; methods do not read it.
            temperature, top_p, seed: of the draw; temperature 0 is greedy.
            on_token: called with (0, token id) as tokens appear; True ends the answer.
            parameters: of the method.

        Raises:
            UnknownNameError: no such method.
            BudgetError, ParameterError: out of range.
            ImageError: not a picture.
            PromptError: an empty question, or a prompt beyond the model's context.
        """
        chosen = create(method, **parameters) if isinstance(method, str) else method
        pruning = Pruning(chosen, retention_ratio, tokens, budget_base, newline_policy)
        opened = open_picture(image)
        whole = Picture(self.adapter, opened, picture_id(opened), chosen.needs(self.adapter.vision))
        prompt = self.adapter.prompt(question + suffix, question)
        made = cut(whole, pruning, question, prompt)
        generation = generate(
            self.adapter,
            [Request(prompt, made.visual, max_new_tokens)],
            [made],
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            on_token=on_token,
        )[0]
        count = made.count(prompt, generation)
        return Output(generation.text, made.selection, count, generation, made.encoded, made.budget)


def load_model(name: str, **options: Any) -> VisionLanguageModel:
    """A model by registered name, hub id or local folder, ready to generate.

    Options are those of `hero_ray.models.load`: `device`, `dtype`, `attention`, `clip_vision`, ...
    """
    return VisionLanguageModel(load(name, **options))


def open_picture(image: Source) -> Image.Image:
    """An RGB picture, decoded as sweeps and the service decode it.

    Raises:
        ImageError: no such file, or not a usable picture.
    """
    return picture(image)
