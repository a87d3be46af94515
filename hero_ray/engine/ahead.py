"""Many pictures through one vLLM: the next are encoded and cut while requests of the others are under way.

A picture with few questions leaves a serving engine's batch half empty. Here every step of the engine takes what all
open pictures still owe, and a picture is handed back as soon as its last answer is there, in no given order. Memory is
bounded twice: so many pictures are open, and so many requests wait.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from PIL import Image

from hero_ray.core.engines import VLLM
from hero_ray.core.errors import INFRASTRUCTURE
from hero_ray.core.plan import Unit
from hero_ray.core.types import Prediction
from hero_ray.engine.batches import AnswerJob
from hero_ray.engine.evaluate import Evaluator
from hero_ray.models.engines import vllm_of
from hero_ray.models.engines.line import WINDOW, LineRequest
from hero_ray.models.generation import GenerationOptions

MOST_OPEN = 8
"""Pictures whose encodings and kept tokens are held at once."""


@dataclass(frozen=True)
class UnitAsked:
    """A unit as `Evaluator.evaluate` is asked it."""

    unit: Unit
    wanted: Collection[tuple[str, str]] | None = None
    load: Callable[[], Image.Image] | None = None


@dataclass(frozen=True)
class _Open:
    """A picture under way: what is answered already, and its jobs in vLLM's line."""

    unit: Unit
    predictions: list[Prediction]
    jobs: list[AnswerJob]
    rows: list[LineRequest]

    @property
    def over(self) -> bool:
        return all(row.over for row in self.rows)


def evaluate_ahead(evaluator: Evaluator, asked: Iterable[UnitAsked]) -> Iterator[tuple[Unit, list[Prediction]]]:
    """Answer and score units as `Evaluator.evaluate` does, several at a time; each is given as it is done.

    Args:
        evaluator: over a model whose language model vLLM holds.
        asked: taken one by one, no sooner than there is room for another.

    Raises:
        HeroRayError: as `Evaluator.evaluate`; units that were not given are not answered then.
    """
    decoder: Any = vllm_of(evaluator.adapter)
    opened: list[_Open] = []

    def done() -> Iterator[tuple[Unit, list[Prediction]]]:
        for one in [one for one in opened if one.over]:
            opened.remove(one)
            yield one.unit, one.predictions + _closed(evaluator, decoder, one)

    try:
        for each in asked:
            opened.append(_begun(evaluator, decoder, each))
            yield from done()
            while len(opened) >= MOST_OPEN or len(decoder.line) >= WINDOW:
                decoder.line.step()
                yield from done()
        while opened:
            yield from done()
            if opened:
                decoder.line.step()
    except BaseException as error:
        if not isinstance(error, INFRASTRUCTURE):  # the engine may be unusable then, and its process ends
            decoder.line.drop([row for one in opened for row in one.rows])
        raise


def _begun(evaluator: Evaluator, decoder: Any, asked: UnitAsked) -> _Open:
    """Encode and cut a picture and put what vLLM answers of it into the line; the rest is answered here."""
    jobs, predictions = evaluator.prepared(asked.unit, asked.wanted, asked.load)
    begun = _Open(asked.unit, predictions, [], [])
    for batch in evaluator.batches(jobs):
        if batch[0].cell.engine == VLLM:
            try:
                rows = decoder.put([job.request for job in batch], GenerationOptions())
            except INFRASTRUCTURE:
                raise
            except Exception:  # one of them cannot be asked: one by one, each has its own error
                predictions.extend(evaluator.answered(batch))
            else:
                begun.jobs.extend(batch)
                begun.rows.extend(rows)
        else:
            predictions.extend(evaluator.answered(batch))
    return begun


def _closed(evaluator: Evaluator, decoder: Any, one: _Open) -> list[Prediction]:
    """Predictions of a picture's jobs, all of them over."""
    try:
        answers = decoder.answered(one.rows)
    except INFRASTRUCTURE:
        raise
    except Exception:  # logits of one were NaN: one by one, the others keep their answers
        return evaluator.answered(one.jobs)
    adapter: Any = evaluator.adapter
    return evaluator.predicted(one.jobs, adapter.spoken(answers))
