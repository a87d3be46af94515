"""The answers of one picture cut into batches: of like length, and with what shares a prefix in one of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from hero_ray.core.engines import VLLM
from hero_ray.core.types import Cell, Sample
from hero_ray.engine.cut import Cut
from hero_ray.models.base import Request


@dataclass(frozen=True)
class AnswerJob:
    """One answer to generate: where it belongs and what goes in."""

    cell: Cell
    sample: Sample
    cut: Cut
    request: Request


def batches(jobs: Sequence[AnswerJob], size: int) -> Iterator[list[AnswerJob]]:
    """Batches of at most `size`. In-LLM methods prune whole batches, so each of them is alone with itself.

    vLLM gets everything of a picture at once and makes its own batches of it.
    """
    groups: dict[tuple[bool, str], list[AnswerJob]] = {}
    for job in jobs:
        pruning = job.cut.pruning
        inside = pruning.prunes_inside(job.cut.budget)
        groups.setdefault((inside, pruning.key if inside else job.cell.engine), []).append(job)
    for (inside, name), group in groups.items():
        ordered = _by_length(group)
        yield from _filled(
            [[job] for job in ordered] if inside else _sharing(ordered), len(group) if name == VLLM else size
        )


def distinct(batch: Sequence[AnswerJob]) -> tuple[list[AnswerJob], list[int]]:
    """The jobs of a batch that ask what none before does, and for every job the place of its like among them.

    Methods that choose the same tokens ask the same of them, but for those that go on choosing inside the LLM.
    """
    asked: list[AnswerJob] = []
    known: dict[tuple[object, ...], int] = {}
    places = []
    for job in batch:
        request = job.request
        alone = id(job) if job.cut.pruning.prunes_inside(job.cut.budget) else 0
        key = id(request.visual), request.prompt, request.max_new_tokens, id(request.kept), alone
        place = known.setdefault(key, len(asked))
        if place == len(asked):
            asked.append(job)
        places.append(place)
    return asked, places


def _by_length(jobs: Sequence[AnswerJob]) -> list[AnswerJob]:
    """Like lengths waste no padding; the key keeps an order that does not depend on which cells were missing.

    Behind one another stand those with the very same visual tokens, whatever method chose them.
    """
    places: dict[int, tuple[int, str, int]] = {}
    for number, job in enumerate(jobs):
        visual, key = job.request.visual, job.cut.pruning.key
        _, least, first = places.get(id(visual), (0, key, number))
        places[id(visual)] = visual.shape[0], min(key, least), first
    return sorted(jobs, key=lambda job: places[id(job.request.visual)])


def _sharing(jobs: Sequence[AnswerJob]) -> list[list[AnswerJob]]:
    return [list(alike) for _, alike in groupby(jobs, key=lambda job: id(job.request.visual))]


def _filled(parts: Sequence[list[AnswerJob]], size: int) -> Iterator[list[AnswerJob]]:
    """Parts joined to batches; one is only torn apart where it is too large, since a shared prefix is run in each."""
    batch: list[AnswerJob] = []
    for part in parts:
        if batch and len(batch) + len(part) > size:
            yield batch
            batch = []
        for start in range(0, len(part), size):
            if batch and start:
                yield batch
                batch = []
            batch = batch + part[start : start + size]
    if batch:
        yield batch
