"""The second question: what a dialogue loses when its picture was pruned for the first question it asks.

A served picture is pruned once, and its cache answers whatever is asked later. Every later question about a picture is
answered twice, from the tokens chosen for that question and from those chosen for the picture's first one. Methods that
read no question lose nothing by construction. Inside the LLM the boundary decisions of the first question are replayed:
visual tokens stand before the question, so their states, and what a method merged of them, are the same for any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hero_ray import methods
from hero_ray.benchmarks.base import Benchmark, main_score
from hero_ray.core.errors import InputError
from hero_ray.core.types import Sample
from hero_ray.engine.cut import Cut, Picture, Pruning, cut, generate, needs_of
from hero_ray.methods import create
from hero_ray.methods.base import LayerPruner, LayerState, Survivors
from hero_ray.models.base import Request
from hero_ray.stats import paired
from hero_ray.studies import asking
from hero_ray.studies.records import FigureTable, Study, StudyRequest, dots

NAME = "second-question"
TASKS = ("synth-attribute", "synth-digits", "synth-words", "synth-exist")
COLUMNS = (
    "method", "benchmark", "reads the question", "own tokens", "first question's", "loss", "low", "high",
    "answers changed", "tokens in common", "n", "pictures",
)  # fmt: skip


class Recorded(LayerPruner):
    """Another pruner, and what it decided about the only row of its batch.

    Attributes:
        boundaries: block about to run -> (which of the live visual tokens live on, in order; the whole answer).
    """

    def __init__(self, inner: LayerPruner) -> None:
        self._inner = inner
        self.boundaries: dict[int, tuple[Any, Survivors]] = {}

    def watches(self, layer: int, num_layers: int) -> bool:
        return self._inner.watches(layer, num_layers)

    def before(self, state: LayerState) -> Survivors | None:
        said = self._inner.before(state)
        if said is not None:
            self.boundaries[state.layer] = said.keep[0][state.visual[0]].clone(), said
        return said

    def after(self, state: LayerState) -> None:
        self._inner.after(state)


class Replayed(LayerPruner):
    """The decisions of another question, whatever this one would have chosen."""

    def __init__(self, recorded: Recorded) -> None:
        self._boundaries = recorded.boundaries

    def before(self, state: LayerState) -> Survivors | None:
        if state.layer not in self._boundaries:
            return None
        alive, said = self._boundaries[state.layer]
        keep = state.valid.clone()
        keep[0, state.visual[0]] = alive
        return replace(said, keep=keep)


@dataclass(frozen=True)
class Twice:
    """One later question: its score from its own tokens and from the first question's.

    Attributes:
        common: share of the first question's tokens that it would have kept too; None inside the LLM.
    """

    method: str
    sample: Sample
    own: float
    first: float
    changed: bool
    common: float | None


def pruned_by(names: Sequence[str], ratio: float) -> dict[str, Pruning]:
    """Methods that choose among the tokens of the whole picture.

    Raises:
        InputError: none of them does.
    """
    made = {name: Pruning(create(name), ratio) for name in names}
    found = {name: one for name, one in made.items() if one.method.stage != "image" and name != "full"}
    if not found:
        raise InputError(f"{', '.join(names)} choose no tokens of a picture; name methods with --methods")
    return found


def ask_twice(picture: Picture, pruning: Pruning, asked: Sequence[tuple[Benchmark, Sample]]) -> list[Twice]:
    """Every question but the first about one picture, answered from both sets of tokens."""
    adapter = picture.adapter
    prompts = [asking.prompt_of(adapter, benchmark, sample) for benchmark, sample in asked]
    cuts = [cut(picture, pruning, sample.question, p) for (_, sample), p in zip(asked, prompts, strict=True)]

    def request(place: int, made: Cut) -> Request:
        room = adapter.info.context - made.visual.shape[0] - prompts[place].num_text
        return Request(prompts[place], made.visual, max(1, min(asked[place][0].max_new_tokens, room)))

    replayed = None
    if (inner := pruning.pruner(cuts[0].budget, [cuts[0].selection])) is not None:
        recorded = Recorded(inner)
        adapter.generate([request(0, cuts[0])], pruner=recorded, positions=pruning.method.positions)
        replayed = Replayed(recorded)
    found = []
    for place, (benchmark, sample) in enumerate(asked):
        if place == 0:
            continue
        (own,) = generate(adapter, [request(place, cuts[place])], [cuts[place]])
        first, common = own, 1.0
        if replayed is not None:
            again = [request(place, cuts[0])]
            (first,) = adapter.generate(again, pruner=replayed, positions=pruning.method.positions)
        elif cuts[place].visual is not cuts[0].visual:
            (first,) = generate(adapter, [request(place, cuts[0])], [cuts[0]])
            kept = cuts[0].selection.keep
            common = float((kept & cuts[place].selection.keep).sum() / kept.sum().clamp(min=1))
        found.append(
            Twice(
                pruning.method.name,
                sample,
                own=main_score(benchmark, own.text, sample),
                first=main_score(benchmark, first.text, sample),
                changed=own.text != first.text,
                common=None if replayed is not None else common,
            )
        )
    return found


def run(request: StudyRequest) -> Study:
    """Answer every later question about `limit` pictures of every benchmark twice, by every method.

    Raises:
        InputError: no picture has several questions.
    """
    adapter = request.adapter
    prunings = pruned_by(request.methods or methods.names(), request.ratio)
    needs = needs_of(prunings.values(), adapter.vision)
    twice: list[Twice] = []
    for image, asked in asking.dialogues(asking.opened(request, TASKS), request.limit):
        picture = Picture(adapter, image, asked[0][1].image_key, needs)
        for pruning in prunings.values():
            twice += ask_twice(picture, pruning, asked)
    if not twice:
        raise InputError(
            "no picture has a second question; name benchmarks that ask several, such as gqa, with --tasks"
        )
    rows = [_row(method, name, group, prunings[method]) for (method, name), group in _grouped(twice).items()]
    note = (
        f"{request.ratio:.0%} of the tokens, {adapter.info.name}. Loss: score from a question's own tokens minus score "
        "from those of the picture's first question, 95 % intervals over pictures. The first question is not repeated "
        "in the prompt, so nothing but the tokens differs. Methods that read no question are the check: they lose 0."
    )
    table = FigureTable("Later questions, from their own and from the first question's tokens", COLUMNS, tuple(rows))
    return Study(
        NAME,
        "The second question: tokens chosen for another one",
        note,
        charts=(_chart(rows),),
        tables=(table,),
        findings={f"{row[0]}/{row[1]}": row[5] for row in rows},
    )


def _chart(rows: Sequence[tuple[Any, ...]]) -> dict[str, Any]:
    """Loss by method, a dot per benchmark and one for all of them; methods that lose most first."""
    cells = {(row[0], row[1]): row for row in rows}
    named = list(dict.fromkeys(row[1] for row in rows))
    overall = "all" if "all" in named else named[0]
    of_methods = sorted({row[0] for row in rows}, key=lambda name: -(cells[name, overall][5] or 0.0))
    series = []
    for benchmark in sorted(named, key=lambda name: name != "all"):
        found = [cells.get((method, benchmark)) for method in of_methods]
        columns = [[None if row is None else row[place] for row in found] for place in (5, 6, 7)]
        series.append({"name": benchmark} | dict(zip(("x", "low", "high"), columns, strict=True)))
    return dots("Loss with the first question's tokens", of_methods, series, "score lost (95 % interval)")


def _grouped(twice: Sequence[Twice]) -> dict[tuple[str, str], list[Twice]]:
    """By method and benchmark, "all" of them together among these."""
    groups: dict[tuple[str, str], list[Twice]] = {}
    for one in twice:
        for name in (one.sample.benchmark, "all"):
            groups.setdefault((one.method, name), []).append(one)
    several = len({one.sample.benchmark for one in twice}) > 1
    return {key: group for key, group in sorted(groups.items()) if several or key[1] != "all"}


def _row(method: str, benchmark: str, group: Sequence[Twice], pruning: Pruning) -> tuple[Any, ...]:
    clusters = np.array([one.sample.image_key for one in group])
    own, first = (np.array([getattr(one, side) for one in group]) for side in ("own", "first"))
    loss = paired(own, first, clusters)
    common = [one.common for one in group if one.common is not None]
    bounds = tuple(None if v is None else round(v, 4) for v in (loss.difference, loss.low, loss.high))
    reads = "yes" if pruning.method.text_aware else "no"
    means = tuple(round(float(side.mean()), 4) for side in (own, first))
    changed = round(float(np.mean([one.changed for one in group])), 4)
    shared = round(float(np.mean(common)), 4) if common else None
    return (method, benchmark, reads, *means, *bounds, changed, shared, len(group), len(set(clusters)))
