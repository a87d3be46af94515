"""What a model replica does, without Ray: chat jobs in batches, streams, and explanations.

The same `models` and `methods` as the sweep. A fixed budget makes the prompts of a batch equally long, so requests with
like budgets run as one rectangle; others are left-padded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from hero_ray import models
from hero_ray.benchmarks.images import decode
from hero_ray.engine import cut
from hero_ray.models.base import Adapter, Generation, Request
from hero_ray.serve.engine_types import ChatJob, ChatResult
from hero_ray.serve.explanation import explain, pruning_of
from hero_ray.serve.problems import Problem
from hero_ray.serve.work import Caller


@dataclass(frozen=True)
class Turn:
    """A job ready to generate; `cut` is None where no picture was sent."""

    job: ChatJob
    request: Request
    cut: cut.Cut | None
    caller: Caller

    @classmethod
    def of(cls, adapter: Adapter, job: ChatJob, caller: Caller) -> Turn:
        """Picture to kept tokens to a request."""
        caller.check()
        pruning, prompt = pruning_of(job.pruning), adapter.prompt(job.text, job.question)
        if job.image is None:
            nothing = adapter.runner.embed(torch.zeros(0, dtype=torch.long))  # [0, D]
            return cls(job, Request(prompt, nothing, job.max_new_tokens), None, caller)
        image = decode(job.image, job.max_pixels)
        picture = cut.Picture(adapter, image, cut.picture_id(image), pruning.method.needs(adapter.vision))
        made = cut.cut(picture, pruning, job.question, prompt)
        return cls(job, Request(prompt, made.visual, job.max_new_tokens), made, caller)

    @property
    def alone(self) -> bool:
        """A draw depends on its row, a pruner belongs to its batch; greedy answers share one whatever their seeds."""
        return bool(self.job.temperature) or (self.cut is not None and self.cut.pruning.prunes_inside(self.cut.budget))


def generated(adapter: Adapter, turns: Sequence[Turn]) -> list[Generation | Exception]:
    """What each turn of a batch came to; where the batch fails as a whole, each is asked again by itself.

    A batch goes on while anyone waits for one of its answers.
    """

    def on_token(row: int, _: int) -> None:
        if all(turn.caller.gone for turn in turns):
            turns[row].caller.check()

    try:
        return list(generate(adapter, turns, on_token=on_token))
    except Problem as gone:
        return [gone] * len(turns)
    except Exception as error:
        return [error] if len(turns) == 1 else [made for turn in turns for made in generated(adapter, [turn])]


class Engine:
    """Models held by one replica, loaded when first asked for."""

    def __init__(self, model_args: dict[str, Any], threads: int | None = 1) -> None:
        if threads and not torch.cuda.is_available():
            torch.set_num_threads(threads)
        self._model_args = model_args

    def load(self, name: str) -> Adapter:
        """One adapter."""
        return models.load(name, **self._model_args)

    def answer(
        self, adapter: Adapter, jobs: Sequence[ChatJob], callers: Sequence[Caller] = ()
    ) -> list[ChatResult | Exception]:
        """Answers in the order of the jobs; a job that fails, or whose caller is gone, takes no other with it."""
        waiting = callers or [Caller() for _ in jobs]
        results: list[ChatResult | Exception | None] = [None] * len(jobs)
        groups: dict[int, list[tuple[int, Turn]]] = {}
        prepared: dict[int, float] = {}
        for place, job in enumerate(jobs):
            began = time.perf_counter()
            try:
                turn = Turn.of(adapter, job, waiting[place])
            except Exception as error:
                results[place] = error
                continue
            prepared[place] = time.perf_counter() - began
            groups.setdefault(place if turn.alone else -1, []).append((place, turn))
        for group in groups.values():
            began = time.perf_counter()
            made = generated(adapter, [turn for _, turn in group])
            for (place, turn), generation in zip(group, made, strict=True):
                if isinstance(generation, Exception):
                    results[place] = generation
                    continue
                seconds = {"prepare": prepared[place], "generate": time.perf_counter() - began}
                try:
                    results[place] = replace(finish(adapter, turn, generation), batch=len(group), seconds=seconds)
                except Exception as error:
                    results[place] = error
        return [result for result in results if result is not None]

    def stream(
        self, adapter: Adapter, job: ChatJob, emit: Callable[[str], None], caller: Caller | None = None
    ) -> ChatResult:
        """One answer; `emit` is told each new piece of text, "" where a token shows nothing yet.

        The pieces together are the result's text. A caller who leaves ends the generation.
        """
        turn = Turn.of(adapter, job, caller or Caller())
        tokens: list[int] = []
        shown = ""

        def on_token(_: int, token: int) -> None:
            nonlocal shown
            turn.caller.check()
            tokens.append(token)
            text = showable(adapter.tokenizer.decode(tokens), job.stops)
            piece = text[len(shown) :] if text.startswith(shown) else ""
            shown += piece
            emit(piece)

        generation = generate(adapter, [turn], on_token=on_token)[0]
        result = finish(adapter, turn, generation)
        if result.text.startswith(shown) and len(result.text) > len(shown):
            emit(result.text[len(shown) :])
        return result

    explain = staticmethod(explain)


def generate(adapter: Adapter, group: Sequence[Turn], **options: Any) -> list[Generation]:
    """One batch of jobs with equal sampling settings."""
    job, requests = group[0].job, [turn.request for turn in group]
    sampling = {"temperature": job.temperature, "top_p": job.top_p, "seed": job.seed}
    cuts = [turn.cut for turn in group if turn.cut is not None]
    return cut.generate(adapter, requests, cuts, **sampling, **options)


def before_stop(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    """Text before the first stop string, and whether there was one."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return (text[: min(places)], True) if places else (text, False)


def showable(text: str, stops: Sequence[str]) -> str:
    """The part of an unfinished text that later tokens cannot take back.

    Held back: whitespace at the ends, an unfinished character, and an end that may grow into a stop string.
    """
    text, stopped = before_stop(text.strip(), stops)
    text = text.rstrip("\ufffd")
    longest = 0 if stopped else max(map(len, stops), default=0) - 1
    for size in range(min(longest, len(text)), 0, -1):
        if any(stop.startswith(text[-size:]) for stop in stops):
            text = text[:-size]
            break
    return text.rstrip()


def finish(adapter: Adapter, turn: Turn, generation: Generation) -> ChatResult:
    """A generation as a chat result, stop strings applied."""
    text, stopped = before_stop(generation.text, turn.job.stops)
    visual: dict[str, Any] = {}
    if turn.cut is not None:
        visual = {
            "full": int(turn.cut.encoded.layout.sequence.shape[0]),
            "kept": int(turn.request.visual.shape[0]),
            "selected": turn.cut.selection.n_selected,
            "retention_ratio": turn.cut.budget.ratio,
            "kv_bytes": generation.kv_bytes,
        }
    return ChatResult(
        text=text.strip() if stopped else text,
        finish="stop" if stopped else generation.finish,
        prompt_tokens=turn.request.prompt.num_text + int(turn.request.visual.shape[0]),
        completion_tokens=_tokens_until(adapter, generation, turn.job.stops if stopped else ()),
        visual=visual,
    )


def _tokens_until(adapter: Adapter, generation: Generation, stops: Sequence[str]) -> int:
    ids = list(generation.token_ids)
    for count in range(1, len(ids)) if stops else ():
        if before_stop(adapter.tokenizer.decode(ids[:count]).strip(), stops)[1]:
            return count
    return len(ids)
