"""Requests to answers: batches, prefix reuse, greedy or sampled decoding, and splitting when memory runs out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from hero_ray.core.errors import DeviceMemoryError, ParameterError, PromptError
from hero_ray.core.looks import Looks
from hero_ray.models.base import Request
from hero_ray.models.batch import length_of, own_parts, share_groups, shared_parts, whole_prompts
from hero_ray.models.live import Positions
from hero_ray.models.rows import DecodedRows
from hero_ray.models.runner import DecodeState, Runner

log = logging.getLogger(__name__)

OnToken = Callable[[int, int], None]

_GREEDY_BELOW = 1e-6
"""Temperature below which logits over it may overflow; the draw is the largest there anyway."""

SHORTEST_SHARE = 0.5
"""Length of a batch's shortest row over its longest, at least. Between 0.5 and 0.7 sixteen cells of one picture take
1.2 ms of one core per answer on `hero-tiny`; without the cut 2.1 ms. Fewer batches would suit launch-bound decoding."""


@dataclass(frozen=True)
class GenerationOptions:
    """How answers are decoded.

    Attributes:
        batch_size: rows run together at most.
        share_prefix: compute the cache of prefix and picture once for requests that have them in common.
        ignore_eos: always produce `max_new_tokens`, for timing.
        temperature: 0 is greedy; above, tokens are drawn with the request's own generator.
        top_p: probability mass that is drawn from.
        seed: of the draws; every row draws as if it were asked alone, whatever its neighbours and its place among them.
        on_token: called with (request index, token id) as tokens appear, end token excluded.
        engine: `ours` or `vllm`, for an adapter that has both; "" leaves it to what a request needs.
    """

    batch_size: int = 64
    share_prefix: bool = True
    ignore_eos: bool = False
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    on_token: OnToken | None = None
    engine: str = ""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ParameterError(f"batch_size {self.batch_size} is not positive")
        if self.temperature < 0.0 or not 0.0 < self.top_p <= 1.0:
            raise ParameterError(f"temperature {self.temperature} must be >= 0 and top_p {self.top_p} in (0, 1]")


@dataclass(frozen=True)
class DecodedAnswer:
    """Token ids of one request (end token excluded) and what its prefill left behind."""

    token_ids: tuple[int, ...]
    visual_per_layer: tuple[int, ...]
    kv_bytes: int
    finish: Literal["stop", "length"]


@dataclass(frozen=True)
class Decoder:
    """Answers requests with one language model.

    Attributes:
        runner: the block loop.
        end: token ids that end an answer.
        context: positions the model was trained for.
        step: makes one decode step from (state, token ids); `Runner.decode`, or a captured graph on CUDA.
        in_place: prefixes that requests share are read where they lie, not copied for each of them.
    """

    runner: Runner
    end: frozenset[int]
    context: int
    step: Callable[[DecodeState, Tensor], Tensor] | None = None
    in_place: bool = False

    def answer(
        self,
        requests: Sequence[Request],
        pruner: Any = None,
        positions: Positions = "compact",
        options: GenerationOptions | None = None,
    ) -> list[DecodedAnswer]:
        """Answers in the order of the requests.

        With a pruner the requests are one batch, since the pruner's state belongs to it.

        Raises:
            PromptError: a prompt and its answer would not fit the model's context.
            DeviceMemoryError: one request alone, or a batch with a pruner, does not fit the device.
            NonFiniteScoreError: some row's logits are NaN or infinite; the largest of them would be token 0 for ever.
        """
        options = options or GenerationOptions()
        if not requests:
            return []
        for request in requests:
            check_length(request, self.context)
        answers: dict[int, DecodedAnswer] = {}
        for chunk in plan_chunks(requests, options) if pruner is None else [list(range(len(requests)))]:
            answers.update(self._answer_chunk(requests, chunk, pruner, positions, options))
        return [answers[index] for index in range(len(requests))]

    def prefill(
        self,
        requests: Sequence[Request],
        pruner: Any = None,
        positions: Positions = "compact",
        share_prefix: bool = True,
    ) -> DecodeState:
        """Run the prompts of a batch, sharing prefix and picture where requests have them in common."""
        room = max(request.max_new_tokens for request in requests)
        groups = share_groups(requests)
        turning = self.runner.turning  # a prefix alone would stand in the frequencies of a shorter prompt
        whole = turning is not None and max(map(length_of, requests)) > turning
        if whole or pruner is not None or not share_prefix or len(groups) == len(requests):
            return self.runner.prefill(whole_prompts(requests, self.runner.embed), pruner, positions, room)
        firsts = [requests[group[0]] for group in groups]
        parts = shared_parts(firsts, self.runner.embed)
        shared = self.runner.prefill(parts)
        group_of = torch.empty(len(requests), dtype=torch.long)
        for number, group in enumerate(groups):
            group_of[group] = number
        own = own_parts(requests, self.runner.embed)
        return self.runner.extend(shared, group_of, own, room, parts.lengths if self.in_place else None)

    def decode(self, state: DecodeState, token_ids: Tensor) -> Tensor:
        """One step over a prefilled batch, by the captured graph where there is one: logits [B, vocab]."""
        return self.runner.decode(state, token_ids) if self.step is None else self.step(state, token_ids)

    def _answer_chunk(
        self,
        requests: Sequence[Request],
        chunk: list[int],
        pruner: Any,
        positions: Positions,
        options: GenerationOptions,
    ) -> dict[int, DecodedAnswer]:
        mine = [requests[index] for index in chunk]
        looks = Looks()
        try:
            with looks.shared():
                state = self.prefill(mine, pruner, positions, options.share_prefix)
            rows = DecodedRows(mine, self.end, options.ignore_eos, looks)
            alive = self._decode(state, chunk, rows, options)
        except torch.OutOfMemoryError as error:
            if len(chunk) == 1 or pruner is not None:  # a pruner's state belongs to its whole batch
                raise DeviceMemoryError(
                    f"{len(chunk)} request(s) of up to {max(map(length_of, mine))} tokens do not fit the device's "
                    f"memory{' together; use a smaller batch' if len(chunk) > 1 else ''}: {error}"
                ) from error
            half = len(chunk) // 2
            log.warning("out of memory with %d requests together; going on with %d", len(chunk), half)
        else:
            per_layer, kv_bytes = state.visual_per_layer(alive), state.kv_bytes(alive)
            return {
                index: DecodedAnswer(tuple(rows.ids[row]), per_layer[row], kv_bytes[row], rows.finish(row))
                for row, index in enumerate(chunk)
            }
        # Outside the handler: the traceback it holds would keep the failed batch's tensors alive.
        torch.cuda.empty_cache()
        first = self._answer_chunk(requests, chunk[:half], pruner, positions, options)
        return first | self._answer_chunk(requests, chunk[half:], pruner, positions, options)

    def _decode(self, state: DecodeState, chunk: list[int], rows: DecodedRows, options: GenerationOptions) -> Tensor:
        """Decode a prefilled batch into `rows`; gives `state.alive()` on the CPU."""
        limit, logits, pick = rows.longest, state.logits, _Picker(chunk, options)
        unread, alive = [state.alive()], list[Tensor]()
        for count in range(limit):
            if options.temperature > 0.0:
                rows.check_next(logits)  # a draw breaks on what is not finite
            tokens = pick(logits)
            rows.add(logits, tokens)
            if options.on_token is not None or count + 1 == limit or rows.due(count, logits.device):
                known = [len(ids) for ids in rows.ids]
                alive += rows.look(*unread)
                unread = []
                rows.check(logits.dtype)  # before anyone sees a token
                if options.on_token is not None:
                    for row, ids in enumerate(rows.ids):
                        for token in ids[known[row] :]:
                            options.on_token(chunk[row], token)
                if rows.complete:
                    break
            if count + 1 < limit:
                logits = self.decode(state, tokens)
        return alive[0]


def check_length(request: Request, context: int) -> None:
    """Refuse a request that does not fit.

    Raises:
        PromptError: nothing to generate, or a prompt and its answer exceed the context.
    """
    if request.max_new_tokens < 1:
        raise PromptError(f"max_new_tokens is {request.max_new_tokens}; ask for at least 1")
    needed = length_of(request) + request.max_new_tokens
    if needed > context:
        raise PromptError(
            f"{request.visual.shape[0]} visual and {request.prompt.num_text} text tokens with "
            f"{request.max_new_tokens} new ones make {needed}, the model's context is {context}; "
            "shorten the question, lower max_new_tokens or the retention ratio"
        )


def plan_chunks(requests: Sequence[Request], options: GenerationOptions) -> list[list[int]]:
    """Cut requests into batches of like length, requests of one picture together. Depends on the requests alone.

    A batch ends where rows would be padded to more than twice their length: prefill work, attention of every decode
    step and cache bytes all grow with the longest row.
    """
    groups = share_groups(requests) if options.share_prefix else [[index] for index in range(len(requests))]
    groups.sort(key=lambda group: -length_of(requests[group[0]]))
    chunks: list[list[int]] = []
    for group in groups:
        for start in range(0, len(group), options.batch_size):
            part = group[start : start + options.batch_size]
            if chunks and _fits(part, chunks[-1], requests, options.batch_size):
                chunks[-1].extend(part)
            else:
                chunks.append(list(part))
    return chunks


def _fits(part: list[int], chunk: list[int], requests: Sequence[Request], batch_size: int) -> bool:
    alike = length_of(requests[part[0]]) >= SHORTEST_SHARE * length_of(requests[chunk[0]])
    return alike and len(chunk) + len(part) <= batch_size


class _Picker:
    """Next tokens from logits [B, vocab]: the largest, or a draw per row with the row's own generator."""

    def __init__(self, chunk: list[int], options: GenerationOptions) -> None:
        self._options = options
        self._generators = []
        if options.temperature > 0.0:
            for _ in chunk:
                generator = torch.Generator(device="cpu")
                generator.manual_seed(options.seed * 1_000_003)  # not by place: alone and in a batch draw alike
                self._generators.append(generator)

    def __call__(self, logits: Tensor) -> Tensor:
        if not self._generators or self._options.temperature < _GREEDY_BELOW:
            return logits.argmax(-1)
        shares = (logits.float() / self._options.temperature).softmax(-1).cpu()
        if self._options.top_p < 1.0:
            ordered, places = shares.sort(dim=-1, descending=True)
            beyond = ordered.cumsum(-1) - ordered >= self._options.top_p
            beyond[:, 0] = False  # a top_p that rounds to 0 leaves the likeliest
            shares = torch.zeros_like(shares).scatter(-1, places, ordered.masked_fill(beyond, 0.0))
        drawn = [
            torch.multinomial(row, 1, generator=generator)
            for row, generator in zip(shares, self._generators, strict=True)
        ]
        return torch.cat(drawn).to(logits.device)
