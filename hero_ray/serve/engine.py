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
from hero_ray.core.encoded import Needs
from hero_ray.engine import cut
from hero_ray.models.base import Adapter, Generation, Prompt, Request
from hero_ray.models.kept import resumable
from hero_ray.serve.engine_types import ChatJob, ChatReply, ChatResult, Piece
from hero_ray.serve.explanation import explain, pruning_of
from hero_ray.serve.joined import EngineThread, join, wait_for_room
from hero_ray.serve.kept import KeptCuts, digest
from hero_ray.serve.problems import Problem
from hero_ray.serve.spelling import StopWatch, before_stop, openai_logprobs, tokens_until
from hero_ray.serve.streams import Told
from hero_ray.serve.work import Caller


@dataclass(frozen=True)
class Turn:
    """A job ready to generate; `cut` is None where no picture was sent.

    `shares`: whether vLLM may look into its prefix cache, where it finds what others asked.
    """

    job: ChatJob
    request: Request
    cut: cut.Cut | None
    caller: Caller
    shares: bool = True

    @classmethod
    def of(cls, adapter: Adapter, job: ChatJob, caller: Caller, kept: KeptCuts) -> Turn:
        """Picture to kept tokens to a request.

        Of a conversation the tokens are chosen as they were for its first question, or by everything said so far.
        """
        caller.check()
        pruning, prompt = pruning_of(job.pruning), adapter.prompt(job.text, job.question, job.history)
        if job.image is None:
            nothing = adapter.runner.embed(torch.zeros(0, dtype=torch.long))  # [0, D]
            return cls(job, Request(prompt, nothing, job.max_new_tokens), None, caller, kept.on)
        chooser = prompt
        if job.history and job.pruning.by_question == "first":
            chooser = adapter.prompt(job.history[0][0], job.question)
        needs = pruning.method.needs(adapter.vision)
        asked = (job.question, chooser) if needs.question else ()
        held = kept.of(
            (adapter.info.name, digest(job.image), pruning.key, *asked),
            lambda: _cut(adapter, job, pruning, needs, chooser),
        )
        if not job.history:  # a question alone is run whole, so that it is answered the same whatever came before it
            held.prompt.prompt = None
        request = Request(prompt, held.cut.visual, job.max_new_tokens, held.prompt)
        return cls(job, request, held.cut, caller, kept.on)

    @property
    def alone(self) -> bool:
        """A draw depends on its row, a pruner belongs to its batch; greedy answers share one whatever their seeds."""
        return bool(self.job.temperature) or (self.cut is not None and self.cut.pruning.prunes_inside(self.cut.budget))

    @property
    def resumes(self) -> bool:
        """Whether the prompt goes on behind one that was kept; such turns share a batch of their own."""
        return resumable([self.request])


def _cut(adapter: Adapter, job: ChatJob, pruning: cut.Pruning, needs: Needs, prompt: Prompt) -> cut.Cut:
    assert job.image is not None
    image = decode(job.image, job.max_pixels)
    return cut.cut(cut.Picture(adapter, image, cut.picture_id(image), needs), pruning, job.question, prompt)


def generated(adapter: Adapter, turns: Sequence[Turn]) -> list[list[Generation] | Exception]:
    """What each turn of a batch came to; where the batch fails as a whole, each is asked again by itself.

    A batch goes on while anyone waits for one of its answers, an answer until a stop string of its job is there.
    """
    draws = _draws(turns[0])
    watches = [StopWatch(adapter.tokenizer, turn.job.stops) for turn in turns for _ in range(draws)]

    def on_token(answer: int, token: int) -> bool:
        if all(turn.caller.gone for turn in turns):
            turns[answer // draws].caller.check()
        return watches[answer](token)

    try:
        return list(generate(adapter, turns, on_token=on_token))
    except Problem as gone:
        return [gone] * len(turns)
    except Exception as error:
        return [error] if len(turns) == 1 else [made for turn in turns for made in generated(adapter, [turn])]


def _draws(turn: Turn) -> int:
    """Answers that have to be made; greedy ones are all alike."""
    return turn.job.choices if turn.job.temperature else 1


class Engine:
    """Models held by one replica, loaded when first asked for."""

    def __init__(self, model_args: dict[str, Any], threads: int | None = 1, kept_bytes: int = 0) -> None:
        if threads and not torch.cuda.is_available():
            torch.set_num_threads(threads)
        self._model_args = model_args
        self._kept = KeptCuts(kept_bytes)
        self._vllms: list[EngineThread] = []

    def load(self, name: str) -> Adapter:
        """One adapter; a vLLM behind it takes requests from many threads. One that made room for it is gone by then."""
        if self._vllms:
            self._vllms = wait_for_room(self._vllms)
        adapter = models.load(name, **self._model_args)
        if (started := join(adapter)) is not None:
            self._vllms.append(started)
        return adapter

    def check(self) -> None:
        """Raises: ReplicaError: an engine failed and answers no more."""
        for vllm in self._vllms:
            if vllm.broken is not None and not vllm.left:
                raise vllm.broken

    def turn(self, adapter: Adapter, job: ChatJob, caller: Caller) -> Turn:
        """A job made ready to generate, for `one` and `told`."""
        return Turn.of(adapter, job, caller, self._kept)

    def one(self, adapter: Adapter, turn: Turn) -> ChatResult | Exception:
        """The answers of one job, whatever else the adapter's engine is answering."""
        began = time.perf_counter()
        (made,) = generated(adapter, [turn])
        if isinstance(made, Exception):
            return made
        return replace(finish(adapter, turn, made), seconds={"generate": time.perf_counter() - began})

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
                turn = Turn.of(adapter, job, waiting[place], self._kept)
            except Exception as error:
                results[place] = error
                continue
            prepared[place] = time.perf_counter() - began
            groups.setdefault(place if turn.alone else -1 - turn.resumes, []).append((place, turn))
        for group in groups.values():
            began = time.perf_counter()
            made = generated(adapter, [turn for _, turn in group])
            self._kept.settle()
            for (place, turn), generations in zip(group, made, strict=True):
                if isinstance(generations, Exception):
                    results[place] = generations
                    continue
                seconds = {"prepare": prepared[place], "generate": time.perf_counter() - began}
                try:
                    results[place] = replace(finish(adapter, turn, generations), batch=len(group), seconds=seconds)
                except Exception as error:
                    results[place] = error
        return [result for result in results if result is not None]

    def stream(
        self, adapter: Adapter, job: ChatJob, emit: Callable[[Piece], None], caller: Caller | None = None
    ) -> ChatResult:
        """The answers of one job; `emit` is told each new piece of text as soon as it can be shown.

        The pieces of a choice together are its text, and their log-probabilities its own. A caller who leaves ends the
        generation.
        """
        result = self.told(adapter, self.turn(adapter, job, caller or Caller()), emit)
        self._kept.settle()
        return result

    def told(self, adapter: Adapter, turn: Turn, emit: Callable[[Piece], None]) -> ChatResult:
        """`stream` of a job that is ready, whatever else the adapter's engine is answering."""
        told = Told(adapter.tokenizer, turn.job, _draws(turn), emit, turn.caller)
        (generations,) = generate(adapter, [turn], on_token=told.token, on_chance=told.chance)
        result = finish(adapter, turn, generations)
        told.rest(result)
        return result

    explain = staticmethod(explain)


def generate(adapter: Adapter, group: Sequence[Turn], **options: Any) -> list[list[Generation]]:
    """One batch of jobs with equal sampling settings: the answers of each."""
    job, requests, draws = group[0].job, [turn.request for turn in group], _draws(group[0])
    wanted = [turn.job.logprobs for turn in group if turn.job.logprobs is not None]
    sampling = {"temperature": job.temperature, "top_p": job.top_p, "seed": job.seed, "draws": draws}
    sampling["share_prefix"] = group[0].shares
    cuts = [turn.cut for turn in group if turn.cut is not None]
    made = cut.generate(adapter, requests, cuts, **sampling, logprobs=max(wanted, default=None), **options)
    return [made[start : start + draws] for start in range(0, len(made), draws)]


def finish(adapter: Adapter, turn: Turn, generations: Sequence[Generation]) -> ChatResult:
    """The generations of a job as a chat result, stop strings applied. Greedy answers are all the one that was made."""
    visual: dict[str, Any] = {}
    if turn.cut is not None:
        visual = {
            "full": int(turn.cut.encoded.layout.sequence.shape[0]),
            "kept": int(turn.request.visual.shape[0]),
            "selected": turn.cut.selection.n_selected,
            "retention_ratio": turn.cut.budget.ratio,
            "kv_bytes": generations[0].kv_bytes,
        }
    choices = [_choice(adapter, turn.job, generation) for generation in generations]
    return ChatResult(
        choices=tuple(choices if len(choices) == turn.job.choices else choices * turn.job.choices),
        prompt_tokens=turn.request.prompt.num_text + int(turn.request.visual.shape[0]),
        visual=visual,
    )


def _choice(adapter: Adapter, job: ChatJob, generation: Generation) -> ChatReply:
    text, stopped = before_stop(generation.text, job.stops)
    count = tokens_until(adapter.tokenizer, generation.token_ids, job.stops if stopped else ())
    told = None
    if job.logprobs is not None:
        told = openai_logprobs(adapter.tokenizer, (), generation.chances[:count], job.logprobs)
    return ChatReply(text.strip() if stopped else text, "stop" if stopped else generation.finish, count, told)
