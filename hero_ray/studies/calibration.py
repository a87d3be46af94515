"""Find what a method needs to know of one model, on pictures and questions that are not the ones reported.

G-Search looks for the lowest keep rate of every block that leaves accuracy as it is; VTW for the first depth at which
the picture may go without changing what the model would say first; FitPrune for the tokens that receive least in every
block (`hero_ray.studies.fitting`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch

from hero_ray.benchmarks.base import Benchmark
from hero_ray.core.encoded import Budget
from hero_ray.core.errors import InputError
from hero_ray.core.plan import Settings, Unit, units
from hero_ray.core.types import Cell, Prediction, Sample, Scored
from hero_ray.engine.cut import Picture, Pruning, cut
from hero_ray.engine.evaluate import Evaluator
from hero_ray.methods import create, gsearch, vtw
from hero_ray.methods.base import LayerPruner
from hero_ray.methods.fitprune import FitPrune
from hero_ray.methods.kit import dropping
from hero_ray.models.base import Adapter, Request
from hero_ray.models.batch import whole_prompts
from hero_ray.studies import fitting
from hero_ray.studies.asking import prompt_of

GRID = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
WHOLE = Pruning(create("full"))
NOMINAL_RATIO = 0.5
"""A schedule ignores the budget; anything below 1 lets it act."""


@dataclass(frozen=True)
class Calibration:
    """What was found.

    Attributes:
        method: an entry for a sweep file's `methods`, or None where nothing passes.
        trials: (what was tried, its figure) in the order tried.
        samples: questions behind every figure.
    """

    method: dict[str, Any] | None
    trials: tuple[tuple[Any, float], ...]
    samples: int


@dataclass(frozen=True)
class Questions:
    """The questions to calibrate on, by benchmark."""

    benchmarks: Mapping[str, Benchmark]
    samples: tuple[Sample, ...]

    @classmethod
    def of(cls, benchmarks: Sequence[Benchmark], limit: int | None) -> Questions:
        """The first `limit` documents of each benchmark.

        Raises:
            InputError: there are none.
        """
        samples = tuple(sample for benchmark in benchmarks for sample in benchmark.samples(limit=limit))
        if not samples:
            raise InputError("there are no questions to calibrate on; give other --tasks or a larger --limit")
        return cls({benchmark.name: benchmark for benchmark in benchmarks}, samples)

    @property
    def units(self) -> tuple[Unit, ...]:
        return tuple(units(self.samples))


def calibrate(
    method: Literal["gsearch", "vtw", "fitprune"],
    adapter: Adapter,
    questions: Questions,
    tolerance: float | None = None,
    progress: Callable[[str], None] = lambda message: None,
) -> Calibration:
    """Search one method's schedule on one model.

    Args:
        tolerance: gsearch: share of the unpruned accuracy that may be lost (.005); vtw: mean KL divergence of the first
            answer token that passes (.003); fitprune: share of the picture's FLOPs in the LLM that is to be left (.4).

    Raises:
        InputError: the unpruned model answers nothing right, so that no share of its accuracy means anything.
    """
    if method == "gsearch":
        return _gsearch(adapter, questions, 0.005 if tolerance is None else tolerance, progress)
    if method == "fitprune":
        return _fitprune(adapter, questions, 0.4 if tolerance is None else tolerance, progress)
    return _vtw(adapter, questions, 0.003 if tolerance is None else tolerance, progress)


def _gsearch(adapter: Adapter, questions: Questions, eps: float, progress: Callable[[str], None]) -> Calibration:
    whole = accuracy(adapter, questions, None)
    if not whole > 0.0:
        raise InputError(f"{adapter.info.name} answers no calibration question right unpruned; give other --tasks")
    trials: list[tuple[Any, float]] = []

    def quality(block: int, rates: tuple[float, ...]) -> float:
        share = accuracy(adapter, questions, rates) / whole
        trials.append((list(rates), share))
        progress(f"block {block}, rates {', '.join(f'{rate:g}' for rate in rates)}: {100 * share:.1f}% of full")
        return share

    found = gsearch.search(quality, adapter.info.language.num_layers, GRID, eps)
    entry = {"name": "gsearch", "params": {"schedule": list(found)}}
    return Calibration(entry, tuple(trials), len(questions.samples))


def accuracy(adapter: Adapter, questions: Questions, rates: tuple[float, ...] | None) -> float:
    """Main metrics as shares, averaged over benchmarks; `rates` None is the unpruned model.

    Raises:
        InputError: a question could not be answered.
    """
    name, params = ("full", {}) if rates is None else ("gsearch", create("gsearch", schedule=rates).parameters())
    ratio = 1.0 if rates is None else NOMINAL_RATIO
    cells = [
        Cell(task, adapter.info.name, name, "exact", params, ratio, task, benchmark.flavour)
        for task, benchmark in questions.benchmarks.items()
    ]
    evaluator = Evaluator(adapter, cells, questions.benchmarks, Settings())
    answers: dict[str, list[Scored]] = {task: [] for task in questions.benchmarks}
    for unit in questions.units:
        for answer in evaluator.evaluate(unit):
            answers[answer.sample.benchmark].append(_scored(answer))
    return sum(_main(questions.benchmarks[task], scored) for task, scored in answers.items()) / len(answers)


def _scored(answer: Prediction) -> Scored:
    if answer.error_type is not None:
        raise InputError(f"question {answer.sample.key} failed: {answer.error_type}: {answer.error_message}")
    return Scored(answer.sample, answer.text, answer.scores)


def _main(benchmark: Benchmark, scored: Sequence[Scored]) -> float:
    metrics = benchmark.aggregate(scored)
    value = next(metric.value for metric in metrics if metric.name == benchmark.main_metric and not metric.category)
    return value / benchmark.scale


def _vtw(adapter: Adapter, questions: Questions, eta: float, progress: Callable[[str], None]) -> Calibration:
    depths = adapter.info.language.num_layers
    requests = _requests(adapter, questions)
    whole = [first_token(adapter, request, None) for request in requests]
    trials: list[tuple[Any, float]] = []

    def divergence(depth: int) -> float:
        method = _withdrawal(depth, depths)
        total = 0.0
        for request, log_full in zip(requests, whole, strict=True):
            total += vtw.divergence(first_token(adapter, request, method), log_full)
        trials.append((depth, total / len(requests)))
        progress(f"withdrawn after block {depth}: divergence {total / len(requests):.3g}")
        return total / len(requests)

    found = vtw.search(divergence, depths, eta, first=dropping.after_block(5, depths))
    entry = None
    if found is not None:
        params = {"after_block": _withdrawal(found, depths).after_block}
        entry = {"name": "vtw", "variant": "paper", "params": params}
    return Calibration(entry, tuple(trials), len(requests))


def _fitprune(adapter: Adapter, questions: Questions, left: float, progress: Callable[[str], None]) -> Calibration:
    if not 0.0 < left < 1.0:
        raise InputError(f"fitprune: --tolerance {left:g}; expected the share of FLOPs to be left, in (0, 1)")
    requests = _requests(adapter, questions)
    trials: list[tuple[Any, float]] = []

    def tell(tried: fitting.Fitted) -> None:
        trials.append((tried.alpha, 1.0 - tried.saved))
        progress(f"alpha {tried.alpha:.3f}: {100 * tried.saved:.1f}% of FLOPs saved")

    with torch.no_grad():
        prompts = [partial(_send, adapter, request) for request in requests]
        found = fitting.search(prompts, adapter.info.language, 1.0 - left, tell)
    entry = None
    if found is not None:
        entry = {"name": "fitprune", "params": {"schedule": [round(share, 6) for share in found.schedule]}}
    return Calibration(entry, tuple(trials), len(requests))


def _send(adapter: Adapter, request: Request, pruner: LayerPruner) -> None:
    prompts = whole_prompts([request], adapter.runner.embed)
    adapter.runner.prefill(prompts, pruner=pruner, positions=FitPrune.positions, room=1)


def _withdrawal(depth: int, num_layers: int) -> vtw.VTW:
    """The method that withdraws after `depth` blocks of this model; its parameter counts blocks of a 32-deep one."""
    methods = (vtw.VTW(variant="paper", after_block=block) for block in range(1, 32))
    for method in methods:
        if method.depth(1.0, num_layers) == depth:
            return method
    raise InputError(f"no withdrawal of a 32-block model falls on block {depth} of {num_layers}")


def _requests(adapter: Adapter, questions: Questions) -> list[Request]:
    made = []
    for unit in questions.units:
        first = unit.samples[0]
        image = questions.benchmarks[first.benchmark].load_image(first.image_ref)
        visual = cut(Picture(adapter, image, unit.image_key), WHOLE).visual
        for sample in unit.samples:
            made.append(Request(prompt_of(adapter, questions.benchmarks[sample.benchmark], sample), visual, 1))
    return made


@torch.no_grad()
def first_token(adapter: Adapter, request: Request, method: vtw.VTW | None) -> torch.Tensor:
    """Log distribution of the first answer token: float64 [vocab]."""
    budget = Budget(1, NOMINAL_RATIO, "real", 2)
    pruner = None if method is None else method.pruner(budget)
    positions = vtw.VTW.positions
    state = adapter.runner.prefill(
        whole_prompts([request], adapter.runner.embed), pruner=pruner, positions=positions, room=1
    )
    return torch.as_tensor(state.logits[0].double().log_softmax(-1))
