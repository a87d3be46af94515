"""Answers from vLLM: a prompt's embeddings go in, as they would into our own blocks, token ids come out.

vLLM checks little of what it is handed: rows of another width can leave it unusable, NaN becomes token 0, and an answer
that passes its longest sequence is cut without a word. So everything is checked before it gets there, and an error that
comes all the same ends the worker. Shape letters: S positions, D width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, Literal

import torch
from torch import Tensor

from hero_ray.core.errors import ParameterError, PromptError, ReplicaError
from hero_ray.models.base import LanguageShape, Request
from hero_ray.models.batch import length_of
from hero_ray.models.draws import TokenChance
from hero_ray.models.finite import check_logits, refuse_features
from hero_ray.models.generation import DecodedAnswer, GenerationOptions, check_length
from hero_ray.models.live import Positions

WINDOW = 256
"""Requests handed over at once at most: vLLM copies every prompt's rows, 5 MB each for a 7B at a fifth of its tokens.
"""

NAN_TOKEN = 0
"""What logits of NaN decode to."""


@dataclass
class _Row:
    """One answer under way. `ids`: its tokens so far; `chances`: of each, the end token too, where asked for."""

    request: Request
    ids: list[int] = field(default_factory=list)
    chances: list[TokenChance] = field(default_factory=list)
    finish: Literal["stop", "length"] | None = None


@dataclass(frozen=True)
class VllmDecoder:
    """Answers requests with a language model that vLLM holds.

    Attributes:
        engine: `vllm.LLMEngine`, in this process.
        sampling: `vllm.SamplingParams` from its settings; `outputs` told as they grow or at their end.
        embed: input embeddings of token ids.
        end: token ids that end an answer.
        context: the longest prompt with its answer that the engine takes.
        shape, dtype: of the language model.
    """

    engine: Any
    sampling: Callable[..., Any]
    embed: Callable[[Tensor], Tensor]
    end: frozenset[int]
    context: int
    shape: LanguageShape
    dtype: torch.dtype
    _numbers: Iterator[int]

    def answer(
        self,
        requests: Sequence[Request],
        pruner: Any = None,
        positions: Positions = "compact",
        options: GenerationOptions | None = None,
    ) -> list[DecodedAnswer]:
        """Answers in the order of the requests, `options.draws` to each, handed over `options.batch_size` at a time.

        Sampled draws are vLLM's own: they repeat with their seed, but are not the draws of our blocks.

        Raises:
            ParameterError: a pruner, which would have to stand between vLLM's blocks.
            PromptError: a prompt and its answer exceed the context, or its rows are not the language model's.
            NonFiniteScoreError: rows or logits that are NaN or infinite.
            ReplicaError: vLLM failed; it may answer nonsense from here on.
        """
        options = options or GenerationOptions()
        if pruner is not None:
            raise ParameterError(
                "vLLM cannot drop tokens between its blocks; use engine=auto or engine=ours for methods that do"
            )
        self._check(requests)
        size = min(options.batch_size, WINDOW)
        asked = [request for request in requests for _ in range(options.draws)]  # their prompt is in the prefix cache
        rows: list[_Row] = []
        for start in range(0, len(asked), size):
            rows += self._run(asked[start : start + size], start, options)
        self._check_finite([row for row in rows if NAN_TOKEN in row.ids], options)
        return [self._answered(row) for row in rows]

    def first_tokens(self, requests: Sequence[Request], share_prefix: bool = True) -> list[tuple[int, float]]:
        """The first token of every answer, the end token too, with its natural log-probability."""
        self._check(requests)
        asked = GenerationOptions(ignore_eos=True, share_prefix=share_prefix, logprobs=0)
        short = [Request(request.prompt, request.visual, 1) for request in requests]
        return [(row.ids[0], row.chances[0].logprob) for row in self._run(short, 0, asked)]

    def _answered(self, row: _Row) -> DecodedAnswer:
        shape, visual = self.shape, int(row.request.visual.shape[0])
        per_token = 2 * shape.num_layers * shape.num_kv_heads * shape.head_dim * self.dtype.itemsize
        layers = (visual,) * shape.num_layers
        return DecodedAnswer(
            tuple(row.ids),
            layers,
            length_of(row.request) * per_token,
            row.finish or "length",
            tuple(row.chances[: len(row.ids)]),
        )

    def _check(self, requests: Sequence[Request]) -> None:
        looked_at: set[int] = set()
        for request in requests:
            check_length(request, self.context)
            visual = request.visual
            if not isinstance(visual, Tensor):
                raise PromptError(
                    "visual tokens have places of their own (M-RoPE), which vLLM is not told; use engine=ours"
                )
            if visual.dim() != 2 or visual.shape[1] != self.shape.hidden or not visual.is_floating_point():
                raise PromptError(
                    f"visual rows are {str(visual.dtype).removeprefix('torch.')} {tuple(visual.shape)}; expected "
                    f"floating point [n, {self.shape.hidden}], the language model's width"
                )
            if length_of(request) == 0:
                raise PromptError("the prompt is empty: neither a picture's tokens nor text; expected at least one")
            if id(visual) not in looked_at and not bool(visual.isfinite().all()):
                refuse_features(visual.dtype)
            looked_at.add(id(visual))

    def _check_finite(self, suspects: Sequence[_Row], options: GenerationOptions) -> None:
        """Token 0 is what NaN decodes to, and rare otherwise: such answers are asked again for their log-probabilities.

        Raises:
            NonFiniteScoreError: the logits of one were NaN.
        """
        if suspects and not options.temperature:
            again = GenerationOptions(ignore_eos=options.ignore_eos, share_prefix=options.share_prefix, logprobs=0)
            rows = self._run([row.request for row in suspects], 0, again)
            fine = [all(math.isfinite(chance.logprob) for chance in row.chances) for row in rows]
            check_logits(fine, [], self.dtype)

    def _run(self, requests: Sequence[Request], first: int, options: GenerationOptions) -> list[_Row]:
        """One window of requests until all are answered; the first is number `first` to `options.on_token`."""
        rows = [_Row(request) for request in requests]
        under_way: dict[str, int] = {}
        try:
            for place, row in enumerate(rows):
                name = str(next(self._numbers))
                prompt = {"prompt_embeds": self._embedded(row.request)}
                seeded = replace(options, seed=options.seed + (first + place) % options.draws)
                self._tell(self.engine.add_request, name, prompt, self._sampling(row.request, seeded))
                under_way[name] = place
            while under_way:
                for output in self._tell(self.engine.step):
                    if output.request_id in under_way:
                        self._take(output, under_way, rows, first, options)
        except ReplicaError:
            raise
        except BaseException:  # whoever was told of a token does not want the rest
            self._abandon(under_way)
            raise
        return rows

    def _tell(self, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except Exception as error:
            why = " ".join(str(error).split())[:300]
            raise ReplicaError(f"vLLM failed, and may be unusable now: {type(error).__name__}: {why}") from error

    def _abandon(self, under_way: dict[str, int]) -> None:
        """Take back what nobody waits for any more."""
        self.engine.abort_request(list(under_way))
        while self.engine.has_unfinished_requests():
            self.engine.step()

    def _embedded(self, request: Request) -> Tensor:
        """The whole prompt as rows [S, D] on the CPU, in a storage of their own: a view would travel whole."""
        prefix, suffix = (
            self.embed(torch.tensor(ids, dtype=torch.long)) for ids in (request.prompt.prefix, request.prompt.suffix)
        )
        assert isinstance(request.visual, Tensor)
        rows = torch.cat([prefix, request.visual.to(prefix.device, prefix.dtype), suffix])
        return rows.detach().to("cpu", self.dtype)

    def _sampling(self, request: Request, options: GenerationOptions) -> Any:
        return self.sampling(
            growing=options.on_token is not None,
            temperature=options.temperature,
            top_p=options.top_p,
            seed=options.seed if options.temperature else None,
            max_tokens=request.max_new_tokens,
            stop_token_ids=[] if options.ignore_eos else sorted(self.end),
            ignore_eos=options.ignore_eos,
            logprobs=options.logprobs,
            skip_reading_prefix_cache=not options.share_prefix,
            detokenize=False,
        )

    def _take(
        self, output: Any, under_way: dict[str, int], rows: list[_Row], first: int, options: GenerationOptions
    ) -> None:
        """Note the tokens of one output; several may come at once, the end token among them."""
        place = under_way[output.request_id]
        row, told = rows[place], output.outputs[0]
        steps = zip(told.token_ids, told.logprobs or (), strict=False)
        chances = [_chance(int(token), step, options.logprobs or 0) for token, step in steps]
        row.chances += chances
        for number, token in enumerate(told.token_ids):
            if token in self.end and not options.ignore_eos:
                row.finish = "stop"
                break
            row.ids.append(int(token))
            if options.on_chance is not None and chances:
                options.on_chance(first + place, chances[number])
            if options.on_token is not None:
                options.on_token(first + place, int(token))
        if output.finished:
            del under_way[output.request_id]
            row.finish = row.finish or "length"
            cut = row.finish == "length" and len(row.ids) < row.request.max_new_tokens
            if cut or told.finish_reason not in ("stop", "length"):
                raise ReplicaError(
                    f"vLLM ended an answer after {len(row.ids)} of {row.request.max_new_tokens} tokens without an end "
                    f"token ({told.finish_reason}); expected it to go on"
                )


def _chance(token: int, told: Mapping[int, Any], most: int) -> TokenChance:
    """One step of vLLM's log-probabilities: of the token itself, then of the likeliest ones, which may be it again."""
    likeliest = sorted(told.items(), key=lambda one: (-one[1].logprob, one[0]))[:most]
    return TokenChance(token, float(told[token].logprob), tuple((int(one), float(x.logprob)) for one, x in likeliest))


def decoder(engine: Any, sampling: Callable[..., Any], adapter: Any, context: int) -> VllmDecoder:
    """A decoder for an adapter whose language model `engine` holds."""
    return VllmDecoder(
        engine=engine,
        sampling=sampling,
        embed=adapter.runner.embed,
        end=adapter.end,
        context=context,
        shape=adapter.info.language,
        dtype=adapter.model.dtype,
        _numbers=count(),
    )
