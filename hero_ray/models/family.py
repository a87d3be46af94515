"""What all model families share: encode under taps, attach a question, splice kept tokens, answer in batches.

A family adds how it cuts pictures, runs its tower and orders views. Shape letters: V views, N tokens per view,
D width of the LLM, C width of the projector's input, H heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from hero_ray.core.encoded import Encoded, Needs, Question, Selection, keep_all
from hero_ray.core.engines import COPIED, IN_PLACE
from hero_ray.core.errors import ParameterError, PromptError, SelectionError
from hero_ray.core.layout import NEWLINE, NewlinePolicy
from hero_ray.core.text import clean_text
from hero_ray.models.base import Generation, ModelInfo, Prompt, Request, Visual
from hero_ray.models.batch import whole_prompts
from hero_ray.models.encoding import TowerEncoder
from hero_ray.models.generation import DecodedAnswer, Decoder, GenerationOptions
from hero_ray.models.graphs import GraphedDecode
from hero_ray.models.prompts import FRAMES, PromptStyle, build_prompt
from hero_ray.models.runner import Runner
from hero_ray.models.tokenizer import Tokenizer


@dataclass(frozen=True)
class Parts:
    """Everything an adapter is built from.

    Attributes:
        model: the stock transformers model, used as a weight holder.
        end: token ids that end an answer.
        image_token: what the tokenizer knows as one picture token.
        graphs: decode steps are replayed as CUDA graphs.
        in_place: a prefix that questions share is read where it lies.
        settings: image-processor settings and family options read from the checkpoint.
    """

    info: ModelInfo
    model: Any
    tokenizer: Tokenizer
    style: PromptStyle
    end: frozenset[int]
    image_token: str
    settings: dict[str, Any]
    graphs: bool = False
    in_place: bool = False


class FamilyAdapter(TowerEncoder):
    """Base of the adapters; see `hero_ray.models.base.Adapter` for the contract.

    Attributes:
        info, vision: what is known of the model and its tower.
        runner: the block loop; `runner.prefill` and `runner.decode` are the steps that timings are put around.
        decoder: batches, prefix reuse and decoding on top of it; None where another engine holds the blocks.
        engine: who answers in the decoder's place, None where nobody does. end: token ids that end an answer.
        style, image_token: how it is asked, and what stands for one picture token there.
    """

    family = ""

    def __init__(self, parts: Parts) -> None:
        self.info = parts.info
        self.model = parts.model
        self.tokenizer = parts.tokenizer
        self.style, self.image_token = parts.style, parts.image_token
        self._core = parts.model.model
        self.runner = Runner(self._core.language_model, parts.model.lm_head, parts.info.attention)
        if parts.graphs and (self.runner.sizes or self.runner.turning):
            raise ParameterError("graphs need blocks without sliding windows and with one set of rotary frequencies")
        if parts.in_place:
            self._check_in_place(parts)
        step = GraphedDecode(self.runner) if parts.graphs else None
        self.end = parts.end
        self.decoder: Any = Decoder(self.runner, parts.end, parts.info.context, step, parts.in_place)
        self.engine: Any = None
        self._device = self.runner.embed(torch.zeros(1, dtype=torch.long)).device
        self._prompts: dict[tuple[str, str | None], Prompt] = {}

    def _check_in_place(self, parts: Parts) -> None:
        wrong = {
            "graphs=True, which captures steps over one cache": parts.graphs,
            f"attention={parts.info.attention}, which tells no sums": parts.info.attention != "sdpa",
            "sliding windows, which hide a part of the prefix": bool(self.runner.sizes),
        }
        if found := [why for why, is_so in wrong.items() if is_so]:
            raise ParameterError(f"prefix={IN_PLACE} does not go with {' and '.join(found)}; use prefix={COPIED}")

    # -- question ---------------------------------------------------------------------------------------------------

    def prompt(self, text: str, question: str | None = None, history: Sequence[tuple[str, str]] = ()) -> Prompt:
        """Token ids of the chat template around a user text; `question` marks the instruction span inside it.

        Args:
            history: turns before it, each what the user said and what was answered.

        Raises:
            PromptError: an empty text, more than one picture in it, or turns that this model's template words unlike
                one question.
        """
        key = (text, question)
        made = None if history else self._prompts.get(key)
        if made is None:
            made = build_prompt(self.tokenizer, self.style, text, question, None, self.image_token, history)
            if not history:  # nobody says a conversation twice
                if len(self._prompts) >= 4096:
                    self._prompts.clear()
                self._prompts[key] = made
        return made

    @torch.no_grad()
    def ask(self, encoded: Encoded, question: str, needs: Needs, prompt: Prompt) -> Encoded:
        """Attach a question: CLIP scores, LLM rows on the unpruned prompt; only what `needs` names.

        Families without a paired text tower leave what is CLIP's None.
        """
        text = clean_text(question.strip())
        images, patches, plain = map(encoded.cls_embedding.get, ("projected", "projected_patches", "plain_patches"))
        clip = self.clip if needs.clip else None
        span, frame = prompt.suffix[slice(*prompt.instruction)], set(map(self.tokenizer.special, FRAMES))
        words = [token for token in prompt.prefix + prompt.suffix if token not in frame]
        return encoded.asked(
            Question(
                text=text,
                clip_score=clip.score(images, text) if clip and needs.clip_score and images is not None else None,
                clip_tokens=clip.score(patches, text) if clip and needs.clip_tokens and patches is not None else None,
                clip_words=clip.words(text) if clip and needs.clip_words and plain is not None else None,
                clip_patches=plain if clip and needs.clip_words else None,
                llm_attention=self._llm_rows(encoded, prompt, needs.llm_attention),
                llm_embedding=self._embedded(span).mean(0) if needs.llm_embedding else None,
                llm_words=self._embedded(span) if needs.llm_words else None,
                prompt_embedding=self._embedded(words).mean(0) if needs.prompt_embedding else None,
            )
        )

    def _embedded(self, tokens: Sequence[int]) -> Tensor:
        """Input embeddings of some tokens: [Q, D], fp32."""
        return self.runner.embed(torch.tensor(tokens)).float()

    def _llm_rows(self, encoded: Encoded, prompt: Prompt, layers: frozenset[int]) -> dict[int, Tensor]:
        """Instruction rows [H, Q, V, N] of LLM blocks, newline columns left out."""
        if not layers:
            return {}
        if self.decoder is None:
            raise ParameterError(
                "with engine=vllm no block of the language model is ours to look into; use engine=auto"
            )
        if max(layers) > self.runner.num_layers:
            raise PromptError(f"LLM block {max(layers)} was asked of a model with {self.runner.num_layers} blocks")
        visual = self.assemble(encoded, keep_all(encoded.layout), "unpadded_rows")
        batch = whole_prompts([Request(prompt, visual, 1)], self.runner.embed)
        text = batch.lengths[0] - len(prompt.suffix)
        first, last = prompt.instruction
        queries = torch.arange(text + first, text + last, device=self._device)[None]
        rows = self.runner.rows_of(batch, layers, queries)
        sequence = encoded.layout.sequence  # on the CPU, where reading costs no wait
        patch = sequence >= 0
        columns = (len(prompt.prefix) + patch.nonzero()[:, 0]).to(self._device)
        tokens = sequence[patch].to(self._device)
        found = {}
        for layer, row in rows.items():
            flat = row.new_zeros(*row.shape[1:3], encoded.layout.valid.numel())
            flat[..., tokens] = row[0][..., columns]
            found[layer] = flat.unflatten(-1, tuple(encoded.layout.valid.shape))
        return found

    # -- language ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def assemble(self, encoded: Encoded, selection: Selection, policy: NewlinePolicy) -> Visual:
        """Visual embeddings [n_visual_llm, D] in LLM order.

        Raises:
            SelectionError: the order names a token or an extra row that is not there.
        """
        return self._spliced(encoded, selection, policy)

    def _spliced(self, encoded: Encoded, selection: Selection, policy: NewlinePolicy) -> Tensor:
        sequence = selection.sequence(encoded.layout, policy).to(self._device)
        source = encoded.features if selection.edited is None else selection.edited
        flat = source.reshape(-1, source.shape[-1])
        extra = selection.extra
        newline = getattr(self._core, "image_newline", None)
        if selection.order is not None:  # the layout's own order is right by construction
            _check_order(selection.order, flat.shape[0], 0 if extra is None else extra.shape[0], newline is not None)
        visual = flat[sequence.clamp(min=0).to(flat.device)]
        if selection.edited is not None:  # what was dropped need not be projected
            visual = self._in_llm_space(visual, selection)
        if newline is not None:
            visual = torch.where((sequence == NEWLINE)[:, None], newline.to(visual.dtype), visual)
        if extra is not None and len(extra):
            added = self._in_llm_space(extra, selection).to(visual.dtype)
            visual = torch.where((sequence <= -2)[:, None], added[(-2 - sequence).clamp(min=0)], visual)
        return visual

    def _in_llm_space(self, tensor: Tensor, selection: Selection) -> Tensor:
        tensor = tensor.to(self._device, self.model.dtype)
        return self._projected(tensor) if selection.space == "projector_input" else tensor

    def generate(
        self,
        requests: Sequence[Request],
        pruner: Any = None,
        positions: Literal["compact", "keep"] = "compact",
        **options: Any,
    ) -> list[Generation]:
        """Greedy answers, batched; options are the fields of `GenerationOptions`.

        Raises:
            PromptError: a prompt and its answer exceed the context.
            DeviceMemoryError: one request alone does not fit.
        """
        answers = (self.engine or self.decoder).answer(requests, pruner, positions, GenerationOptions(**options))
        return self.spoken(answers)

    def spoken(self, answers: Sequence[DecodedAnswer]) -> list[Generation]:
        """Token ids as text."""
        return [
            Generation(
                text=self.tokenizer.decode(answer.token_ids).strip(),
                token_ids=answer.token_ids,
                visual_per_layer=answer.visual_per_layer,
                kv_bytes=answer.kv_bytes,
                finish=answer.finish,
                chances=answer.chances,
            )
            for answer in answers
        ]


def _check_order(order: Tensor, tokens: int, extra: int, has_newline: bool) -> None:
    if not order.numel():
        return
    low, high = int(order.min()), int(order.max())
    if high >= tokens or low < -1 - extra:
        raise SelectionError(
            f"the order spans {low}..{high}; there are {tokens} tokens and {extra} extra rows (-2 is the first)"
        )
    if not has_newline and bool((order == NEWLINE).any()):
        raise SelectionError("the order holds a newline, which this family has no embedding for")
