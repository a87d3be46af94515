"""Requests to answers: batches, prefix reuse, one draw or several, and splitting when memory runs out."""

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
from hero_ray.models.decoding import DecodeState
from hero_ray.models.draws import Chances, Picker, TokenChance
from hero_ray.models.kept import resumable, resumed
from hero_ray.models.live import Positions
from hero_ray.models.rows import DecodedRows
from hero_ray.models.runner import Runner

log = logging.getLogger(__name__)

OnToken = Callable[[int, int], object]
OnChance = Callable[[int, TokenChance], None]

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
        draws: answers to each request, which share its prefill; answer j of request i stands at i * draws + j and is
            drawn as a request of its own with seed + j would be.
        logprobs: tell how likely each token was, and so many of the likeliest ones at its place; None tells nothing.
        on_token: called with (answer index, token id) as tokens appear, end token excluded; where it gives True, no
            more of that answer is wanted.
        on_chance: called before it with (answer index, how likely the token was), where `logprobs` are asked for.
        engine: `ours` or `vllm`, for an adapter that has both; "" leaves it to what a request needs.
    """

    batch_size: int = 64
    share_prefix: bool = True
    ignore_eos: bool = False
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    draws: int = 1
    logprobs: int | None = None
    on_token: OnToken | None = None
    on_chance: OnChance | None = None
    engine: str = ""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ParameterError(f"batch_size {self.batch_size} is not positive")
        if self.draws < 1 or (self.logprobs or 0) < 0:
            raise ParameterError(f"draws {self.draws} must be >= 1 and logprobs {self.logprobs} None or >= 0")
        if self.temperature < 0.0 or not 0.0 < self.top_p <= 1.0:
            raise ParameterError(f"temperature {self.temperature} must be >= 0 and top_p {self.top_p} in (0, 1]")


@dataclass(frozen=True)
class DecodedAnswer:
    """Token ids of one request (end token excluded) and what its prefill left behind.

    `chances` has one entry per token where they were asked for.
    """

    token_ids: tuple[int, ...]
    visual_per_layer: tuple[int, ...]
    kv_bytes: int
    finish: Literal["stop", "length"]
    chances: tuple[TokenChance, ...] = ()


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
        """Answers in the order of the requests, `options.draws` to each.

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
        whole = [list(range(len(requests)))]
        for chunk in plan_chunks(requests, options) if pruner is None else whole:
            answers.update(self._answer_chunk(requests, chunk, pruner, positions, options))
        return [answers[index] for index in range(len(requests) * options.draws)]

    def prefill(
        self,
        requests: Sequence[Request],
        pruner: Any = None,
        positions: Positions = "compact",
        share_prefix: bool = True,
    ) -> DecodeState:
        """Run the prompts of a batch, sharing prefix and picture where requests have them in common."""
        room = max(request.max_new_tokens for request in requests)
        turning = self.runner.turning  # a prefix alone would stand in the frequencies of a shorter prompt
        keeps = pruner is None and turning is None and not self.runner.sizes
        if keeps and share_prefix and resumable(requests):
            kept, rest = resumed(requests)
            state = self.runner.extend(kept, torch.arange(len(rest)), own_parts(rest, self.runner.embed), room)
        else:
            state = self._prefill(requests, pruner, positions, share_prefix, room)
        for row, request in enumerate(requests if keeps else ()):
            if request.kept is not None:
                request.kept.keep(request, state, row)
        return state

    def _prefill(
        self, requests: Sequence[Request], pruner: Any, positions: Positions, share_prefix: bool, room: int
    ) -> DecodeState:
        groups, turning = share_groups(requests), self.runner.turning
        whole = turning is not None and max(map(length_of, requests)) > turning
        if whole or pruner is not None or not share_prefix or len(groups) == len(requests):
            return self.runner.prefill(whole_prompts(requests, self.runner.embed), pruner, positions, room)
        firsts = [requests[group[0]] for group in groups]
        parts = shared_parts(firsts, self.runner.embed)
        shared = self.runner.prefill(parts, wanted="none")
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
        mine, drawn = [requests[index] for index in chunk], range(options.draws)
        places = [index * options.draws + draw for index in chunk for draw in drawn]
        looks = Looks()
        try:
            with looks.shared():
                state = self.prefill(mine, pruner, positions, options.share_prefix)
            if options.draws > 1:
                state = state.repeated(options.draws, max(request.max_new_tokens for request in mine))
            rows = DecodedRows([one for one in mine for _ in drawn], self.end, options.ignore_eos, looks)
            alive = self._decode(state, places, rows, options)
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
                place: DecodedAnswer(
                    tuple(rows.ids[row]), per_layer[row], kv_bytes[row], rows.finish(row), rows.chances(row)
                )
                for row, place in enumerate(places)
            }
        # Outside the handler: the traceback it holds would keep the failed batch's tensors alive.
        torch.cuda.empty_cache()
        first = self._answer_chunk(requests, chunk[:half], pruner, positions, options)
        return first | self._answer_chunk(requests, chunk[half:], pruner, positions, options)

    def _decode(self, state: DecodeState, places: list[int], rows: DecodedRows, options: GenerationOptions) -> Tensor:
        """Decode a prefilled batch into `rows`, row i the answer `places[i]`; gives `state.alive()` on the CPU."""
        limit, logits = rows.longest, state.logits
        pick = Picker([options.seed + place % options.draws for place in places], options.temperature, options.top_p)
        unread, alive = [state.alive()], list[Tensor]()
        rows.noted = None if options.logprobs is None else Chances(options.logprobs)
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
                _tell(rows, known, places, options)
                if rows.complete:
                    break
            if count + 1 < limit:
                logits = self.decode(state, tokens)
        return alive[0]


def _tell(rows: DecodedRows, known: Sequence[int], places: Sequence[int], options: GenerationOptions) -> None:
    """Tell of every token behind the `known` first ones of each row."""
    for row, ids in enumerate(rows.ids if options.on_token is not None else ()):
        chances = rows.chances(row, known[row]) if options.on_chance is not None else ()
        for number, token in enumerate(ids[known[row] :]):
            if options.on_chance is not None and chances:
                options.on_chance(places[row], chances[number])
            if options.on_token is not None and options.on_token(places[row], token) is True:
                rows.stop(row)


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
    most = max(1, options.batch_size // options.draws)
    for group in groups:
        for start in range(0, len(group), most):
            part = group[start : start + most]
            if chunks and _fits(part, chunks[-1], requests, most):
                chunks[-1].extend(part)
            else:
                chunks.append(list(part))
    return chunks


def _fits(part: list[int], chunk: list[int], requests: Sequence[Request], batch_size: int) -> bool:
    alike = length_of(requests[part[0]]) >= SHORTEST_SHARE * length_of(requests[chunk[0]])
    return alike and len(chunk) + len(part) <= batch_size
