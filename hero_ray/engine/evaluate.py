"""One process, one picture, many cells: the heart of hero_ray, readable without knowing Ray.

A picture is encoded once. Every (method, budget) selects its tokens from that one encoding; selections that do not
look at the question are made once per picture. All answers of the picture are then generated in batches whose
composition depends on nothing but the picture, its questions and the cells.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from PIL import Image

from hero_ray.benchmarks.base import Benchmark
from hero_ray.core.encoded import Needs
from hero_ray.core.engines import AUTO, OURS
from hero_ray.core.errors import INFRASTRUCTURE, SelectionError
from hero_ray.core.looks import remembering
from hero_ray.core.plan import Settings, Unit
from hero_ray.core.types import Cell, Prediction, Sample
from hero_ray.engine.answer_costs import AnswerCosts
from hero_ray.engine.batches import AnswerJob, batches, distinct
from hero_ray.engine.cut import Counters, Cut, Picture, Pruning, cut, generate, needs_of
from hero_ray.models.base import Adapter, Generation, Request, Visual


@dataclass
class _Cuts:
    """What was cut of a picture so far: by (pruning, question), and the tokens that came of it (few questions make a
    method choose otherwise, and rows with the very same visual tensor share the cache of prefix and picture)."""

    made: dict[tuple[str, str], Cut] = field(default_factory=dict)
    visuals: dict[Any, Visual] = field(default_factory=dict)


@dataclass
class Memory:
    """Pictures that outlive an evaluator, so that they are encoded once over many sets of cells of one model.

    Attributes:
        needs: what every encoding captures; cells that share the memory read no more.
    """

    needs: Needs
    pictures: dict[str, Picture] = field(default_factory=dict)


@dataclass
class Evaluator:
    """Evaluates units against the cells of one model.

    Args:
        adapter: the loaded model.
        cells: cells of this model.
        benchmarks: by name, for prompts, pictures and scores.
        memory: where pictures are kept beyond a unit; None forgets them.
    """

    adapter: Adapter
    cells: Sequence[Cell]
    benchmarks: Mapping[str, Benchmark]
    settings: Settings = field(default_factory=Settings)
    counters: Counters = field(default_factory=Counters)
    memory: Memory | None = None

    @cached_property
    def prunings(self) -> dict[str, Pruning]:
        """By cell id."""
        base, policy = self.settings.budget_base, self.settings.newline_policy
        return {cell.id: Pruning.of(cell, base, policy) for cell in self.cells}

    @cached_property
    def asking(self) -> dict[str, bool]:
        """By cell id, whether its method reads the question."""
        return {name: one.method.needs(self.adapter.vision).question for name, one in self.prunings.items()}

    @cached_property
    def _costs(self) -> AnswerCosts:
        return AnswerCosts(self.adapter)

    @cached_property
    def needs(self) -> Needs:
        """Everything any cell reads, captured in one pass.

        Raises:
            SelectionError: more than the shared memory captures.
        """
        needs = needs_of(self.prunings.values(), self.adapter.vision)
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
            One prediction per (cell, sample); failures are predictions with `error_type` set.

        Raises:
            HeroRayError: one of `INFRASTRUCTURE`, which no other picture would escape; nothing else is raised.
        """
        jobs, predictions = self.prepared(unit, wanted, load)
        for batch in self.batches(jobs):
            predictions.extend(self.answered(batch))
        return predictions

    def prepared(
        self,
        unit: Unit,
        wanted: Collection[tuple[str, str]] | None = None,
        load: Callable[[], Image.Image] | None = None,
    ) -> tuple[list[AnswerJob], list[Prediction]]:
        """A unit encoded and cut: the answers to generate, and predictions of those that cannot be."""
        pairs = [(cell, sample) for sample in unit.samples for cell in self._cells_of(sample, wanted)]
        if not pairs:
            return [], []
        try:
            picture = self._picture(unit, load)
        except INFRASTRUCTURE:
            raise
        except Exception as error:
            return [], [failed(cell, sample, error) for cell, sample in pairs]
        jobs, predictions, cuts = [], [], _Cuts()
        with remembering():
            for cell, sample in pairs:
                try:
                    jobs.append(self._job(picture, cuts, cell, sample))
                except INFRASTRUCTURE:
                    raise
                except Exception as error:
                    predictions.append(failed(cell, sample, error))
        return jobs, predictions

    def job(self, unit: Unit, cell: Cell, sample: Sample) -> AnswerJob:
        """What one answer is generated from, for those who look at how it comes about."""
        return self._job(self._picture(unit, None), _Cuts(), cell, sample)

    def _picture(self, unit: Unit, load: Callable[[], Image.Image] | None) -> Picture:
        kept = {} if self.memory is None else self.memory.pictures
        if unit.image_key not in kept:
            first = unit.samples[0]
            image = load() if load else self.benchmarks[first.benchmark].load_image(first.image_ref)
            kept[unit.image_key] = Picture(self.adapter, image, unit.image_key, self.needs, self.counters)
        return kept[unit.image_key]

    def _job(self, picture: Picture, cuts: _Cuts, cell: Cell, sample: Sample) -> AnswerJob:
        """Everything one answer needs; `cuts` are those made of this picture so far.

        Raises:
            SelectionError: the method kept padding or nothing at all.
        """
        pruning, benchmark = self.prunings[cell.id], self.benchmarks[sample.benchmark]
        prompt = self.adapter.prompt(benchmark.prompt(sample, self.adapter.info.family), sample.question)
        # One cut serves every question that its method does not read, and every benchmark.
        key = (pruning.key, sample.question if self.asking[cell.id] else "")
        made = cuts.made.get(key)
        if made is None:
            made = cuts.made[key] = cut(picture, pruning, sample.question, prompt, cuts.visuals)
        limit = self.settings.max_new_tokens or benchmark.max_new_tokens
        return AnswerJob(cell, sample, made, Request(prompt, made.visual, limit))

    def _cells_of(self, sample: Sample, wanted: Collection[tuple[str, str]] | None) -> list[Cell]:
        mine = [cell for cell in self.cells if cell.benchmark == sample.benchmark]
        return [cell for cell in mine if wanted is None or (cell.id, sample.key) in wanted]

    def batches(self, jobs: Sequence[AnswerJob]) -> Iterator[list[AnswerJob]]:
        """Jobs of one picture as the batches they are answered in."""
        return batches(jobs, self.settings.batch_size)

    def answered(self, batch: list[AnswerJob]) -> list[Prediction]:
        """Answer and score one batch; where it fails as a whole, its answers one by one."""
        asked, places = distinct(batch)
        requests, cuts = [job.request for job in asked], [job.cut for job in asked]
        both = getattr(self.adapter.info, "engine", OURS) == AUTO
        named = {"engine": batch[0].cell.engine} if both else {}  # as the cell's id says, whatever this picture needs
        try:
            made = generate(self.adapter, requests, cuts, batch_size=len(asked), **named)
        except INFRASTRUCTURE:
            raise
        except Exception as error:
            if len(batch) == 1:
                return [failed(batch[0].cell, batch[0].sample, error)]
            # One by one, so that what one answer cannot bear costs no other its place.
            return [prediction for job in batch for prediction in self.answered([job])]
        return self.predicted(batch, [made[place] for place in places])

    def predicted(self, batch: Sequence[AnswerJob], generations: Sequence[Generation]) -> list[Prediction]:
        """Score what was answered."""
        self.counters.answers += len(batch)
        return [self._predict(job, generation) for job, generation in zip(batch, generations, strict=True)]

    def _predict(self, job: AnswerJob, generation: Generation) -> Prediction:
        try:
            benchmark = self.benchmarks[job.sample.benchmark]
            scores = benchmark.score(generation.text, job.sample.references, job.sample)
        except Exception as error:
            return replace(failed(job.cell, job.sample, error), text=generation.text)
        tokens = job.cut.count(job.request.prompt, generation)
        new_tokens = max(1, len(generation.token_ids))
        flops, before_llm = self._costs.of(job.cut, job.request.prompt, job.sample, tokens, new_tokens)
        layout = job.cut.encoded.layout
        return Prediction(
            cell_id=job.cell.id,
            sample=job.sample,
            text=generation.text,
            scores=scores,
            tokens=tokens,
            flops=flops,
            encode_flops=before_llm,
            kv_bytes=generation.kv_bytes,
            keep_mask=job.cut.mask,
            geometry=(*layout.grid, *layout.side),
        )


def failed(cell: Cell, sample: Sample, error: BaseException) -> Prediction:
    """The row that stands for a sample that could not be answered or scored."""
    message = str(error).strip() or repr(error)
    return Prediction(cell.id, sample, error_type=type(error).__name__, error_message=message[:2000])
