"""What a model replica does, without Ray: chat jobs in batches, streams, and explanations.

The same `models` and `methods` as the sweep. A fixed budget makes the prompts of a batch equally long, so requests with
like budgets run as one rectangle; others are left-padded.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from hero_ray import models
from hero_ray.benchmarks.images import decode
from hero_ray.encoded import Budget, Encoded, Needs, Selection, keep_all
from hero_ray.methods import create
from hero_ray.methods.base import Method
from hero_ray.models.base import Adapter, Generation, Prompt, Request
from hero_ray.profiling.ledger import ledger
from hero_ray.serve.engine_types import ChatJob, ChatResult
from hero_ray.serve.schemas import Pruning
from hero_ray.vlm import picture_id

POLICY: Literal["unpadded_rows"] = "unpadded_rows"
COLOUR = "#d55e00"
"""Outline of kept tokens; distinguishable with every common colour vision."""


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
        self,
        adapter: Adapter,
        picture: bytes,
        question: str,
        prunings: Sequence[Pruning],
        max_new_tokens: int,
        *,
        scores: bool = True,
        overlay: bool = False,
        max_pixels: int = 40_000_000,
    ) -> dict[str, Any]:
        """One picture under several prunings; the vision tower runs once for all that look at the whole picture."""
        started = time.perf_counter()
        image = decode(picture, max_pixels)
        methods = [method_of(pruning) for pruning in prunings]
        needs = Needs()
        for method in methods:
            needs = needs | method.needs(adapter.vision)
        prepared = adapter.prepare(image, picture_id(image))
        encoded = adapter.encode(prepared, needs)
        prompt = adapter.prompt(question, question)
        if needs.question:
            encoded = adapter.ask(encoded, question, needs, prompt)
        encode_ms = 1e3 * (time.perf_counter() - started)
        rows = [
            self._explain_one(adapter, image, encoded, prompt, pruning, method, max_new_tokens, scores, overlay)
            for pruning, method in zip(prunings, methods, strict=True)
        ]
        return {
            "model": adapter.info.name,
            "family": adapter.info.family,
            "random_weights": adapter.info.random_weights,
            "image": {"width": image.width, "height": image.height},
            "encode_ms": encode_ms,
            "encodes": 1 + sum(row["resized"] for row in rows),
            "results": rows,
        }

    def _explain_one(
        self,
        adapter: Adapter,
        image: Image.Image,
        encoded: Encoded,
        prompt: Prompt,
        pruning: Pruning,
        method: Method,
        max_new_tokens: int,
        scores: bool,
        overlay: bool,
    ) -> dict[str, Any]:
        started = time.perf_counter()
        own, selection, budget, resized = choose(adapter, image, encoded, pruning, method)
        visual = adapter.assemble(own, selection, POLICY)
        selected = time.perf_counter()
        pruner = None if budget.is_full else method.pruner_for(budget, [selection])
        request = Request(prompt, visual, max_new_tokens)
        generation = adapter.generate([request], pruner=pruner, positions=method.positions)[0]
        done = time.perf_counter()
        layout = own.layout
        keep = selection.keep.cpu()
        row: dict[str, Any] = {
            "method": pruning.method,
            "variant": method.variant,
            "parameters": method.parameters(),
            "retention_ratio": budget.ratio,
            "answer": generation.text,
            "resized": resized,
            "grid": list(layout.grid),
            "side": list(layout.side),
            "keep": base64.b64encode(np.packbits(keep.numpy().reshape(-1)).tobytes()).decode(),
            "kept_per_view": keep.sum(1).tolist(),
            "view_budgets": list(selection.view_budgets) if selection.view_budgets else None,
            "note": selection.note,
            "tokens": {
                "budget_nominal": budget.total,
                "n_selected": selection.n_selected,
                "n_visual_llm": int(visual.shape[0]),
                "n_text": prompt.num_text,
                "visual_per_layer": list(generation.visual_per_layer),
                "full": int(layout.sequence.shape[0]),
            },
            "ledger": ledger(
                adapter.info, [list(generation.visual_per_layer)], prompt.num_text, views=layout.num_views
            )[0],
            "kv_bytes": generation.kv_bytes,
            "timings_ms": {"select": 1e3 * (selected - started), "generate": 1e3 * (done - selected)},
        }
        if scores and selection.scores is not None:
            row["scores"] = [[round(value, 6) for value in view] for view in selection.scores.float().cpu().tolist()]
        if overlay:
            row["overlay"] = overlay_png(image, keep, own, adapter.info.family)
        return row


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


def overlay_png(image: Image.Image, keep: torch.Tensor, encoded: Encoded, family: str) -> str:
    """The picture with dropped tokens dimmed, as a data URL."""
    from hero_ray.masks import panels, side_by_side

    geometry = (*encoded.layout.grid, *encoded.layout.side)
    packed = np.packbits(keep.numpy().reshape(-1)).tobytes()
    png = side_by_side(panels(image, image.size, packed, geometry, family, COLOUR))
    return "data:image/png;base64," + base64.b64encode(png).decode()
