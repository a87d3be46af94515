"""One process, one picture, many cells: the heart of hero_ray, readable without knowing Ray.

A picture is encoded once. Every (method, budget) selects its tokens from that one encoding; selections that do not
look at the question are made once per picture. All answers of the picture are then generated in batches whose
composition depends on nothing but the picture, its questions and the cells.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from hero_ray.benchmarks.base import Benchmark
from hero_ray.core.encoded import Budget, BudgetBase, Encoded, ImagePlan, Needs, NewlinePolicy, Selection, keep_all
from hero_ray.core.errors import SelectionError
from hero_ray.core.plan import Unit, digest
from hero_ray.core.types import Cell, Prediction, Sample, TokenCount
from hero_ray.costs.ledger import answer_cost
from hero_ray.costs.scoring import method_scoring
from hero_ray.methods import create
from hero_ray.methods.base import Method
from hero_ray.models.base import Adapter, Generation, Prompt, Request


@dataclass(frozen=True)
class Settings:
    """What all cells of a sweep share."""

    batch_size: int = 64
    budget_base: BudgetBase = "real"
    newline_policy: NewlinePolicy = "unpadded_rows"
    max_new_tokens: int | None = None


@dataclass(frozen=True)
class Pruning:
    """A method at one budget; the cells that differ in nothing but the benchmark share it."""

    key: str
    method: Method
    ratio: float | None
    tokens: int | None

    @classmethod
    def of(cls, cell: Cell) -> Pruning:
        method = create(cell.method, variant=cell.variant, **cell.params)
        ratio = None if cell.tokens is not None else cell.retention_ratio
        key = digest([cell.method, cell.variant, dict(cell.params), ratio, cell.tokens])
        return cls(key, method, ratio, cell.tokens)

    def budget(self, encoded: Encoded, base: BudgetBase) -> Budget:
        return Budget.of(encoded.layout, ratio=self.ratio, tokens=self.tokens, base=base)


@dataclass(frozen=True)
class Job:
    """One answer to generate: where it belongs and what goes in."""

    cell: Cell
    pruning: Pruning
    sample: Sample
    selection: Selection
    encoded: Encoded
    budget: Budget
    request: Request


@dataclass
class Counters:
    """Work done, for the proof that a picture is encoded once."""

    encodes: int = 0
    resized_encodes: int = 0
    selections: int = 0
    answers: int = 0


@dataclass
class Memory:
    """Encodings that outlive an evaluator, so that pictures are encoded once over many sets of cells of one model.

    Attributes:
        needs: what every encoding captures; cells that share the memory read no more.
        encoded: by picture. asked: by picture and question.
    """

    needs: Needs
    encoded: dict[str, Encoded] = field(default_factory=dict)
    asked: dict[tuple[str, str], Encoded] = field(default_factory=dict)


@dataclass
class Evaluator:
    """Evaluates units against the cells of one model.

    Args:
        adapter: the loaded model.
        cells: cells of this model.
        benchmarks: by name, for prompts, pictures and scores.
        memory: where encodings are kept beyond a unit; None forgets them.
    """

    adapter: Adapter
    cells: Sequence[Cell]
    benchmarks: Mapping[str, Benchmark]
    settings: Settings = Settings()
    counters: Counters = field(default_factory=Counters)
    memory: Memory | None = None

    @cached_property
    def prunings(self) -> dict[str, Pruning]:
        """By cell id; cells of several benchmarks share one object per key."""
        shared: dict[str, Pruning] = {}
        table = {}
        for cell in self.cells:
            pruning = Pruning.of(cell)
            table[cell.id] = shared.setdefault(pruning.key, pruning)
        return table

    @cached_property
    def needs(self) -> Needs:
        """Everything any cell reads, captured in one pass.

        Raises:
            SelectionError: more than the shared memory captures.
        """
        needs = Needs()
        for pruning in self.prunings.values():
            needs = needs | pruning.method.needs(self.adapter.vision)
        if self.memory is None:
            return needs
        if needs | self.memory.needs != self.memory.needs:
            raise SelectionError(f"cells read {needs}, but the shared encodings capture only {self.memory.needs}")
        return self.memory.needs

    def evaluate(
        self,
        unit: Unit,
        wanted: Collection[tuple[str, str]] | None = None,
        load: Callable[[], Image.Image] | None = None,
    ) -> list[Prediction]:
        """Answer and score every question of a unit in every cell of its benchmark.

        Args:
            unit: the picture and its questions.
            wanted: (cell id, sample key) of the answers still missing; None means all.
            load: gives the picture, where it was decoded ahead; None reads it from the benchmark.

        Returns:
            One prediction per (cell, sample); failures are predictions with `error_type` set, never exceptions.
        """
        pairs = [(cell, sample) for sample in unit.samples for cell in self._cells_of(sample, wanted)]
        if not pairs:
            return []
        try:
            first = unit.samples[0]
            image = load() if load else self.benchmarks[first.benchmark].load_image(first.image_ref)
            view = PictureView(self, image, unit.image_key)
        except Exception as error:
            return [failed(cell, sample, error) for cell, sample in pairs]
        jobs, predictions = [], []
        for cell, sample in pairs:
            try:
                jobs.append(view.job(cell, sample))
            except Exception as error:
                predictions.append(failed(cell, sample, error))
        for batch in self._batches(jobs):
            predictions.extend(self._answer(batch))
        return predictions

    def _cells_of(self, sample: Sample, wanted: Collection[tuple[str, str]] | None) -> list[Cell]:
        mine = [cell for cell in self.cells if cell.benchmark == sample.benchmark]
        return [cell for cell in mine if wanted is None or (cell.id, sample.key) in wanted]

    def _batches(self, jobs: list[Job]) -> Iterable[list[Job]]:
        """Cut jobs into batches of like length; in-LLM methods prune whole batches, so each is alone with itself."""
        groups: dict[str, list[Job]] = {}
        for job in jobs:
            inside = job.pruning.method.stage == "in-llm" and not job.budget.is_full
            groups.setdefault(job.pruning.key if inside else "", []).append(job)
        for group in groups.values():
            ordered = sorted(group, key=lambda job: (job.request.visual.shape[0], job.pruning.key))
            for start in range(0, len(ordered), self.settings.batch_size):
                yield ordered[start : start + self.settings.batch_size]

    def _answer(self, batch: list[Job]) -> list[Prediction]:
        try:
            generations = self._generate(batch)
        except Exception as error:
            if len(batch) == 1:
                return [failed(batch[0].cell, batch[0].sample, error)]
            return [prediction for job in batch for prediction in self._answer([job])]
        self.counters.answers += len(batch)
        return [self._predict(job, generation) for job, generation in zip(batch, generations, strict=True)]

    def _generate(self, batch: list[Job]) -> list[Generation]:
        method, budget = batch[0].pruning.method, batch[0].budget
        pruner = None if budget.is_full else method.pruner_for(budget, [job.selection for job in batch])
        requests = [job.request for job in batch]
        return self.adapter.generate(requests, pruner=pruner, positions=method.positions, batch_size=len(batch))

    def _predict(self, job: Job, generation: Generation) -> Prediction:
        try:
            benchmark = self.benchmarks[job.sample.benchmark]
            scores = benchmark.score(generation.text, job.sample.references, job.sample)
        except Exception as error:
            return replace(failed(job.cell, job.sample, error), text=generation.text)
        tokens = TokenCount(
            budget_nominal=job.budget.total,
            n_selected=job.selection.n_selected,
            n_visual_llm=job.request.visual.shape[0],
            n_text=job.request.prompt.num_text,
            visual_per_layer=generation.visual_per_layer,
        )
        layout = job.encoded.layout
        cost = answer_cost(
            self.adapter.info,
            visual_per_layer=tokens.visual_per_layer,
            text_tokens=tokens.n_text,
            new_tokens=max(1, len(generation.token_ids)),
            views=layout.num_views,
            scoring=self._scoring(job),
        )
        return Prediction(
            cell_id=job.cell.id,
            sample=job.sample,
            text=generation.text,
            scores=scores,
            tokens=tokens,
            flops=cost.total_flops,
            kv_bytes=generation.kv_bytes,
            keep_mask=np.packbits(job.selection.keep.cpu().numpy().reshape(-1)).tobytes(),
            geometry=(*layout.grid, *layout.side),
        )

    def _scoring(self, job: Job) -> float:
        """FLOPs the method adds before the LLM, as if this answer were asked alone."""
        bypassed = job.budget.is_full or job.pruning.method.stage == "image"
        needs = Needs() if bypassed else job.pruning.method.needs(self.adapter.vision)
        return method_scoring(self.adapter, needs, job.encoded.layout, job.request.prompt, job.sample.question)


class PictureView:
    """One picture under evaluation: its encodings, selections and spliced embeddings, each made once."""

    def __init__(self, evaluator: Evaluator, image: Image.Image, image_key: str) -> None:
        self._evaluator = evaluator
        self._adapter = evaluator.adapter
        self._image, self._key = image, image_key
        self._encodings: dict[ImagePlan | None, Encoded] = {}
        memory = evaluator.memory
        if memory is not None and image_key in memory.encoded:
            self._encodings[None] = memory.encoded[image_key]
        self._asked: dict[tuple[str, str], Encoded] = {} if memory is None else memory.asked
        self._prompts: dict[tuple[str, str], Prompt] = {}
        self._spliced: dict[tuple[str, str], tuple[Selection, Encoded, Budget, Tensor]] = {}

    def job(self, cell: Cell, sample: Sample) -> Job:
        """Everything one answer needs.

        Raises:
            SelectionError: the method kept padding or nothing at all.
        """
        pruning = self._evaluator.prunings[cell.id]
        prompt = self._prompt(sample)
        reads_question = pruning.method.needs(self._adapter.vision).question
        key = (pruning.key, sample.question if reads_question else "")
        if key not in self._spliced:
            self._spliced[key] = self._splice(pruning, sample if reads_question else None)
        selection, encoded, budget, visual = self._spliced[key]
        limit = self._evaluator.settings.max_new_tokens or self._evaluator.benchmarks[sample.benchmark].max_new_tokens
        return Job(cell, pruning, sample, selection, encoded, budget, Request(prompt, visual, limit))

    def _prompt(self, sample: Sample) -> Prompt:
        key = (sample.benchmark, sample.key)
        if key not in self._prompts:
            benchmark = self._evaluator.benchmarks[sample.benchmark]
            text = benchmark.prompt(sample, self._adapter.info.family)
            self._prompts[key] = self._adapter.prompt(text, sample.question)
        return self._prompts[key]

    def _splice(self, pruning: Pruning, sample: Sample | None) -> tuple[Selection, Encoded, Budget, Tensor]:
        settings = self._evaluator.settings
        encoded = self._encode(None)
        budget = pruning.budget(encoded, settings.budget_base)
        if budget.is_full:
            selection = keep_all(encoded.layout)
        elif pruning.method.stage == "image":
            plan = pruning.method.choose(self._adapter.plans(self._image.size), budget)
            encoded = self._encode(plan)
            selection = keep_all(encoded.layout)
        else:
            if sample is not None:
                encoded = self._ask(encoded, sample)
            selection = pruning.method.select(encoded, budget)
            self._evaluator.counters.selections += 1
            check_selection(selection, encoded, pruning.method.name)
        return selection, encoded, budget, self._adapter.assemble(encoded, selection, settings.newline_policy)

    def _encode(self, plan: ImagePlan | None) -> Encoded:
        if plan not in self._encodings:
            prepared = self._adapter.prepare(self._image, self._key, plan)
            needs = self._evaluator.needs if plan is None else Needs()
            self._encodings[plan] = self._adapter.encode(prepared, needs)
            if plan is None:
                self._evaluator.counters.encodes += 1
                if self._evaluator.memory is not None:
                    self._evaluator.memory.encoded[self._key] = self._encodings[plan]
            else:
                self._evaluator.counters.resized_encodes += 1
        return self._encodings[plan]

    def _ask(self, encoded: Encoded, sample: Sample) -> Encoded:
        key = (self._key, sample.question)
        if key not in self._asked:
            prompt = self._prompt(sample)
            self._asked[key] = self._adapter.ask(encoded, sample.question, self._evaluator.needs, prompt)
        return self._asked[key]


def check_selection(selection: Selection, encoded: Encoded, method: str) -> None:
    """Refuse a selection that would put padding, or nothing, before the LLM.

    Raises:
        SelectionError: naming the method.
    """
    valid = encoded.layout.valid
    if selection.keep.shape != valid.shape:
        raise SelectionError(
            f"{method} returned a mask of {tuple(selection.keep.shape)}, expected {tuple(valid.shape)}"
        )
    if bool((selection.keep & ~valid.to(selection.keep.device)).any()):
        raise SelectionError(f"{method} kept padding tokens; only tokens of the picture may survive")
    if selection.n_selected == 0 and selection.extra is None:
        raise SelectionError(f"{method} kept no visual token at all")


def failed(cell: Cell, sample: Sample, error: BaseException) -> Prediction:
    """The row that stands for a sample that could not be answered or scored."""
    message = str(error).strip() or repr(error)
    return Prediction(cell.id, sample, error_type=type(error).__name__, error_message=message[:2000])


def describe(counters: Counters) -> dict[str, Any]:
    """Counters as plain numbers."""
    return dict(vars(counters))
