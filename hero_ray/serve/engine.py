"""What a model replica does, without Ray: chat jobs in batches, streams, and explanations.

The same `models` and `methods` as the sweep. A fixed budget makes the prompts of a batch equally long, so requests with
like budgets run as one rectangle; others are left-padded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from hero_ray import models
from hero_ray.models.base import Adapter, Generation
from hero_ray.serve.engine_types import ChatJob, ChatResult
from hero_ray.serve.explanation import explain
from hero_ray.serve.schemas import Pruning
from hero_ray.serve.splice import Spliced, splice


class Engine:
    """Models held by one replica, loaded when first asked for."""

    def __init__(self, model_args: dict[str, Any], threads: int | None = 1) -> None:
        if threads and not torch.cuda.is_available():
            torch.set_num_threads(threads)
        self._model_args = model_args

    def load(self, name: str) -> Adapter:
        """One adapter."""
        return models.load(name, **self._model_args)

    def answer(self, adapter: Adapter, jobs: Sequence[ChatJob]) -> list[ChatResult | Exception]:
        """Answers in the order of the jobs; a job that fails takes no other with it."""
        results: list[ChatResult | Exception | None] = [None] * len(jobs)
        groups: dict[tuple[Any, ...], list[tuple[int, Spliced]]] = {}
        prepared: dict[int, float] = {}
        for place, job in enumerate(jobs):
            began = time.perf_counter()
            try:
                spliced = splice(adapter, job)
            except Exception as error:
                results[place] = error
                continue
            prepared[place] = time.perf_counter() - began
            inside = spliced.method.stage == "in-llm" and spliced.budget is not None and not spliced.budget.is_full
            # A draw depends on its row, so sampled answers run alone; greedy ones share a batch whatever their seeds.
            key = (spliced.method.positions, place if inside or job.temperature else -1)
            groups.setdefault(key, []).append((place, spliced))
        for group in groups.values():
            began = time.perf_counter()
            try:
                made = generate(adapter, [spliced for _, spliced in group])
            except Exception as error:
                for place, _ in group:
                    results[place] = error
                continue
            for (place, spliced), generation in zip(group, made, strict=True):
                seconds = {"prepare": prepared[place], "generate": time.perf_counter() - began}
                results[place] = replace(finish(adapter, spliced, generation), batch=len(group), seconds=seconds)
        return [result for result in results if result is not None]

    def stream(self, adapter: Adapter, job: ChatJob, emit: Callable[[str], None]) -> ChatResult:
        """One answer; `emit` is told each new piece of text, "" where a token shows nothing yet.

        The pieces together are the result's text. What `emit` raises ends the generation.
        """
        spliced = splice(adapter, job)
        tokens: list[int] = []
        shown = ""

        def on_token(_: int, token: int) -> None:
            nonlocal shown
            tokens.append(token)
            text = showable(adapter.tokenizer.decode(tokens), job.stops)  # type: ignore[attr-defined]
            piece = text[len(shown) :] if text.startswith(shown) else ""
            shown += piece
            emit(piece)

        generation = generate(adapter, [spliced], on_token=on_token)[0]
        result = finish(adapter, spliced, generation)
        if result.text.startswith(shown) and len(result.text) > len(shown):
            emit(result.text[len(shown) :])
        return result

    def explain(
        self, adapter: Adapter, picture: bytes, question: str, prunings: Sequence[Pruning], *limits: Any, **options: Any
    ) -> dict[str, Any]:
        """One picture under several prunings, as `hero_ray.serve.explanation.explain` tells it."""
        return explain(adapter, picture, question, prunings, *limits, **options)


def generate(adapter: Adapter, group: Sequence[Spliced], **options: Any) -> list[Generation]:
    """One batch of jobs with equal sampling settings."""
    first = group[0]
    pruner = None
    if first.budget is not None and not first.budget.is_full:
        selections = [spliced.selection for spliced in group if spliced.selection is not None]
        pruner = first.method.pruner_for(first.budget, selections)
    return adapter.generate(
        [spliced.request for spliced in group],
        pruner=pruner,
        positions=first.method.positions,
        temperature=first.job.temperature,
        top_p=first.job.top_p,
        seed=first.job.seed,
        **options,
    )


def cut(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    """Text before the first stop string, and whether there was one."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return (text[: min(places)], True) if places else (text, False)


def showable(text: str, stops: Sequence[str]) -> str:
    """The part of an unfinished text that later tokens cannot take back.

    Held back: whitespace at the ends, an unfinished character, and an end that may grow into a stop string.
    """
    text, stopped = cut(text.strip(), stops)
    text = text.rstrip("\ufffd")
    longest = 0 if stopped else max(map(len, stops), default=0) - 1
    for size in range(min(longest, len(text)), 0, -1):
        if any(stop.startswith(text[-size:]) for stop in stops):
            text = text[:-size]
            break
    return text.rstrip()


def finish(adapter: Adapter, spliced: Spliced, generation: Generation) -> ChatResult:
    """A generation as a chat result, stop strings applied."""
    text, stopped = cut(generation.text, spliced.job.stops)
    visual: dict[str, Any] = {}
    if spliced.encoded is not None and spliced.selection is not None and spliced.budget is not None:
        visual = {
            "full": int(spliced.encoded.layout.sequence.shape[0]),
            "kept": int(spliced.request.visual.shape[0]),
            "selected": spliced.selection.n_selected,
            "retention_ratio": spliced.budget.ratio,
            "kv_bytes": generation.kv_bytes,
        }
    return ChatResult(
        text=text.strip() if stopped else text,
        finish="stop" if stopped else generation.finish,
        prompt_tokens=spliced.request.prompt.num_text + int(spliced.request.visual.shape[0]),
        completion_tokens=_tokens_until(adapter, generation, spliced.job.stops if stopped else ()),
        visual=visual,
    )


def _tokens_until(adapter: Adapter, generation: Generation, stops: Sequence[str]) -> int:
    ids = list(generation.token_ids)
    for count in range(1, len(ids)) if stops else ():
        if cut(adapter.tokenizer.decode(ids[:count]).strip(), stops)[1]:  # type: ignore[attr-defined]
            return count
    return len(ids)
