"""Answers from vLLM: a prompt's embeddings go in, as they would into our own blocks, token ids come out.

vLLM checks little of what it is handed: rows of another width can leave it unusable, NaN becomes token 0, and an answer
that passes its longest sequence is cut without a word. So everything is checked before it gets there, and an error that
comes all the same ends the worker. Shape letters: S positions, D width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from hero_ray.core.errors import ParameterError, PromptError, ReplicaError
from hero_ray.models.base import LanguageShape, Request
from hero_ray.models.batch import length_of
from hero_ray.models.engines.ending import end_vllm
from hero_ray.models.engines.line import WINDOW, EngineLine, LineRequest
from hero_ray.models.finite import check_logits, refuse_features
from hero_ray.models.generation import DecodedAnswer, GenerationOptions, check_length
from hero_ray.models.live import Positions

NAN_TOKEN = 0
"""What logits of NaN decode to."""


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

    @cached_property
    def line(self) -> EngineLine:
        """What is under way in the engine, of all who share it."""
        return EngineLine(self.engine, self.handed_over, self.end)

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
        asked, rows = drawn(requests, options), list[LineRequest]()
        for start in range(0, len(asked), size):
            rows += self._run(asked[start : start + size], start, options)
        return self.answered(rows)

    def first_tokens(self, requests: Sequence[Request], share_prefix: bool = True) -> list[tuple[int, float]]:
        """The first token of every answer, the end token too, with its natural log-probability."""
        self._check(requests)
        asked = GenerationOptions(ignore_eos=True, share_prefix=share_prefix, logprobs=0)
        short = [Request(request.prompt, request.visual, 1) for request in requests]
        return [(row.ids[0], row.chances[0].logprob) for row in self._run(short, 0, asked)]

    def close(self) -> None:
        """Give back what the engine holds; it is asked no more."""
        end_vllm(self.engine)

    @property
    def block(self) -> int:
        """Positions of one block of the cache, which is given out whole."""
        return int(self.engine.vllm_config.cache_config.block_size)

    def put(self, requests: Sequence[Request], options: GenerationOptions) -> list[LineRequest]:
        """Queue requests behind those that are under way; `line.step` moves all of them on.

        Raises:
            PromptError, NonFiniteScoreError: as `answer`; nothing of these requests is queued then.
        """
        self._check(requests)
        rows = [LineRequest(request, options, place) for place, request in enumerate(drawn(requests, options))]
        self.line.put(rows)
        return rows

    def answered(self, rows: Sequence[LineRequest]) -> list[DecodedAnswer]:
        """What came of requests that are over.

        Raises:
            NonFiniteScoreError: the logits of one were NaN.
        """
        for options, suspects in groupby((row for row in rows if NAN_TOKEN in row.ids), key=lambda row: row.options):
            self._check_finite(list(suspects), options)
        return [self._answered(row) for row in rows]

    def _answered(self, row: LineRequest) -> DecodedAnswer:
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

    def _check_finite(self, suspects: Sequence[LineRequest], options: GenerationOptions) -> None:
        """Token 0 is what NaN decodes to, and rare otherwise: such answers are asked again for their log-probabilities.

        Raises:
            NonFiniteScoreError: the logits of one were NaN.
        """
        if suspects and not options.temperature:
            again = GenerationOptions(ignore_eos=options.ignore_eos, share_prefix=options.share_prefix, logprobs=0)
            rows = self._run([row.request for row in suspects], 0, again)
            fine = [all(math.isfinite(chance.logprob) for chance in row.chances) for row in rows]
            check_logits(fine, [], self.dtype)

    def _run(self, requests: Sequence[Request], first: int, options: GenerationOptions) -> list[LineRequest]:
        """One window of requests until all are answered; the first is number `first` to `options.on_token`."""
        rows = [LineRequest(request, options, first + place) for place, request in enumerate(requests)]
        self.line.put(rows)
        try:
            while not all(row.over for row in rows):
                self.line.step()
                for row in rows:
                    if row.error is not None:
                        raise row.error
        except ReplicaError:
            raise
        except BaseException:
            self.line.drop([row for row in rows if not row.over])
            raise
        return rows

    def _embedded(self, request: Request) -> Tensor:
        """The whole prompt as rows [S, D] on the CPU, in a storage of their own: a view would travel whole."""
        prefix, suffix = (
            self.embed(torch.tensor(ids, dtype=torch.long)) for ids in (request.prompt.prefix, request.prompt.suffix)
        )
        assert isinstance(request.visual, Tensor)
        rows = torch.cat([prefix, request.visual.to(prefix.device, prefix.dtype), suffix])
        return rows.detach().to("cpu", self.dtype)

    def handed_over(self, row: LineRequest) -> tuple[dict[str, Any], Any]:
        """A prompt as vLLM takes it, and how it is to be answered."""
        options, request = row.options, row.request
        sampling = self.sampling(
            growing=options.on_token is not None,
            temperature=options.temperature,
            top_p=options.top_p,
            seed=options.seed + row.place % options.draws if options.temperature else None,
            max_tokens=request.max_new_tokens,
            stop_token_ids=[] if options.ignore_eos else sorted(self.end),
            ignore_eos=options.ignore_eos,
            logprobs=options.logprobs,
            skip_reading_prefix_cache=not options.share_prefix,
            detokenize=False,
        )
        return {"prompt_embeds": self._embedded(request)}, sampling


def drawn(requests: Sequence[Request], options: GenerationOptions) -> list[Request]:
    """Every request as often as it is to be answered; the prompt of all but the first is in the prefix cache."""
    return [request for request in requests for _ in range(options.draws)]


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
    )
