"""From one chat job to what a model is asked: picture, kept tokens, prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from PIL import Image

from hero_ray.benchmarks.images import decode
from hero_ray.core.encoded import Budget, Encoded, Needs, Selection, keep_all
from hero_ray.engine.vlm import picture_id
from hero_ray.methods import create
from hero_ray.methods.base import Method
from hero_ray.models.base import Adapter, Request
from hero_ray.serve.engine_types import ChatJob
from hero_ray.serve.schemas import Pruning

POLICY: Literal["unpadded_rows"] = "unpadded_rows"


@dataclass(frozen=True)
class Spliced:
    """A job ready to generate."""

    job: ChatJob
    method: Method
    budget: Budget | None
    encoded: Encoded | None
    selection: Selection | None
    request: Request


def method_of(pruning: Pruning) -> Method:
    """The method a request names, its parameters checked."""
    return create(pruning.method, **pruning.parameters())


def splice(adapter: Adapter, job: ChatJob) -> Spliced:
    """Picture to kept tokens to a request."""
    method = method_of(job.pruning)
    prompt = adapter.prompt(job.text, job.question)
    if job.image is None:
        width = adapter.info.language.hidden
        empty = adapter.runner.embed(torch.zeros(1, dtype=torch.long))[:0].reshape(0, width)  # type: ignore[attr-defined]
        return Spliced(job, method, None, None, None, Request(prompt, empty, job.max_new_tokens))
    image = decode(job.image, job.max_pixels)
    needs = method.needs(adapter.vision)
    encoded = adapter.encode(adapter.prepare(image, picture_id(image)), needs)
    if needs.question:
        encoded = adapter.ask(encoded, job.question, needs, prompt)
    encoded, selection, budget, _ = choose(adapter, image, encoded, job.pruning, method)
    visual = adapter.assemble(encoded, selection, POLICY)
    return Spliced(job, method, budget, encoded, selection, Request(prompt, visual, job.max_new_tokens))


def choose(
    adapter: Adapter, image: Image.Image, encoded: Encoded, pruning: Pruning, method: Method
) -> tuple[Encoded, Selection, Budget, bool]:
    """(encoded, selection, budget, whether a smaller picture was encoded) for one pruning."""
    ratio = 1.0 if pruning.retention_ratio is None and pruning.tokens is None else pruning.retention_ratio
    tokens = pruning.tokens if pruning.retention_ratio is None else None
    budget = Budget.of(encoded.layout, ratio=ratio, tokens=tokens)
    if budget.is_full:
        return encoded, keep_all(encoded.layout), budget, False
    if method.stage == "image":
        plan = method.choose(adapter.plans(image.size), budget)
        encoded = adapter.encode(adapter.prepare(image, encoded.image_id, plan), Needs())
        return encoded, keep_all(encoded.layout), budget, True
    return encoded, method.select(encoded, budget), budget, False
