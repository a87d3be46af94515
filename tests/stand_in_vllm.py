"""A stand-in for vLLM's engine that answers as the real one was seen to, its silences included.

The language model behind it is the adapter's own, asked one prompt at a time: what is tested with it is everything that
hero_ray does around an engine, on machines without one. `tests/integration/test_vllm.py` asks the real one.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import torch

from hero_ray import models
from hero_ray.models.base import Prompt, Request
from hero_ray.models.batch import whole_prompts
from hero_ray.models.engines import EitherEngine
from hero_ray.models.engines.vllm import decoder


def sampling(growing: bool, **settings: Any) -> Any:
    """What `vllm.SamplingParams` would be made of."""
    return SimpleNamespace(growing=growing, **settings)


@dataclass(eq=False)
class StandInEngine:
    """`add_request`, `step`, `abort_request` and `has_unfinished_requests` of vLLM's in-process engine.

    Attributes:
        asked: (name, rows, sampling) of every request, in order; `skipped`: names that were taken back.
        deltas: tokens that arrive together where answers grow; several do.
        broken: whether it was handed rows of another shape, after which it fails for good.
        fails: raise this at the next step.
        ended: what was ended of it, in order: `all` by vLLM's own ending.
    """

    adapter: Any
    max_model_len: int
    deltas: tuple[int, ...] = (1, 3)
    asked: list[tuple[str, torch.Tensor, Any]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    steps: int = 0
    broken: bool = False
    fails: Exception | None = None
    ended: list[str] = field(default_factory=list)
    vllm_config: Any = field(default_factory=lambda: SimpleNamespace(cache_config=SimpleNamespace(block_size=32)))
    _open: deque[tuple[str, list[int], list[dict[int, float]], str, Any]] = field(default_factory=deque)

    def add_request(self, name: str, prompt: dict[str, torch.Tensor], params: Any) -> None:
        rows = prompt["prompt_embeds"]
        self.asked.append((name, rows, params))
        if self.broken or rows.shape[-1] != self.adapter.info.language.hidden:
            self.broken = True
            raise RuntimeError("The size of tensor a must match the size of tensor b")
        if not len(rows):
            raise ValueError("The decoder prompt cannot be empty")
        if len(rows) > self.max_model_len:
            raise ValueError(f"This model's maximum context length is {self.max_model_len} tokens.")
        self._open.append((name, *self._answer(rows, params), params))

    def _answer(self, rows: torch.Tensor, params: Any) -> tuple[list[int], list[dict[int, float]], str]:
        room = min(params.max_tokens, self.max_model_len - len(rows))  # cut without a word
        if not bool(rows.isfinite().all()):
            return [0] * room, [{0: float("nan")}] * room, "length"
        request = Request(Prompt((), (), (0, 0)), rows, room)
        state = self.adapter.runner.prefill(whole_prompts([request], self.adapter.runner.embed), room=room)
        ids, logprobs = list[int](), list[dict[int, float]]()
        generator = torch.Generator().manual_seed(params.seed or 0)  # the real one's draws are other draws
        for _ in range(room):
            chances = state.logits[0].float().log_softmax(-1)
            drawn = torch.multinomial((state.logits[0] / (params.temperature or 1)).softmax(-1), 1, generator=generator)
            ids.append(int(drawn if params.temperature else chances.argmax()))
            best = chances.topk(params.logprobs or 0).indices.tolist()
            logprobs.append({token: float(chances[token]) for token in dict.fromkeys([ids[-1], *best])})
            if ids[-1] in params.stop_token_ids:
                return ids, logprobs, "stop"  # the end token is among them
            self.adapter.runner.decode(state, torch.tensor(ids[-1:]))
        return ids, logprobs, "length"

    def step(self) -> list[Any]:
        self.steps += 1
        if self.fails is not None:
            self.broken = True
            raise self.fails
        name, ids, logprobs, reason, params = self._open.popleft()
        if not params.growing:
            return [_output(name, ids, logprobs, reason, params)]
        size = self.deltas[self.steps % len(self.deltas)]
        if len(ids) <= size:
            return [_output(name, ids, logprobs, reason, params)]
        self._open.append((name, ids[size:], logprobs[size:], reason, params))
        return [_output(name, ids[:size], logprobs[:size], None, params)]

    def abort_request(self, names: list[str]) -> None:
        self.skipped += names
        self._open = deque(one for one in self._open if one[0] not in names)

    def has_unfinished_requests(self) -> bool:
        return bool(self._open)

    @property
    def engine_core(self) -> Any:
        """The client of a core in the same process."""
        note = self.ended.append
        core = SimpleNamespace(
            model_executor=SimpleNamespace(shutdown=lambda: note("workers")),
            scheduler=SimpleNamespace(shutdown=lambda: note("scheduler")),
        )
        finalizer = SimpleNamespace(detach=lambda: note("detached"))
        return SimpleNamespace(engine_core=core, _finalizer=finalizer, shutdown=lambda: note("all"))


def _output(name: str, ids: list[int], logprobs: list[dict[int, float]], reason: str | None, params: Any) -> Any:
    told = [{token: SimpleNamespace(logprob=value) for token, value in step.items()} for step in logprobs]
    wanted = told if params.logprobs is not None else None
    one = SimpleNamespace(token_ids=list(ids), logprobs=wanted, finish_reason=reason)
    return SimpleNamespace(request_id=name, outputs=[one], finished=reason is not None)


def stand_in_model(name: str = "hero-tiny", kind: type[StandInEngine] = StandInEngine) -> Any:
    """An embedded model on both engines, the stand-in as vLLM; `load(name, engine="auto")` gives it with a real one."""
    adapter: Any = models.load(name)
    adapter.engine = EitherEngine(adapter.decoder, decoder(kind(adapter, 4096), sampling, adapter, 4096))
    adapter.info = replace(adapter.info, engine="auto")
    return adapter
