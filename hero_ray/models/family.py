"""What all model families share: encode under taps, attach a question, splice kept tokens, answer in batches.

A family adds how it cuts pictures, runs its tower and orders views. Shape letters: V views, N tokens per view,
D width of the LLM, C width of the projector's input, H heads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from hero_ray.encoded import (
    NEWLINE,
    Encoded,
    ImagePlan,
    Needs,
    NewlinePolicy,
    Question,
    Selection,
    VisionInfo,
    keep_all,
)
from hero_ray.errors import PromptError, SelectionError
from hero_ray.models.base import Generation, ModelInfo, Prepared, Prompt, Request
from hero_ray.models.batch import whole_prompts
from hero_ray.models.clip_text import ClipSide
from hero_ray.models.generation import Decoder, GenerationOptions
from hero_ray.models.graphs import GraphedDecode
from hero_ray.models.prompts import PromptStyle, build_prompt
from hero_ray.models.runner import Runner
from hero_ray.models.taps import ClsTaps, TapPoint, pool_patches, rows_of
from hero_ray.models.tokenizer import Tokenizer


@dataclass(frozen=True)
class Parts:
    """Everything an adapter is built from.

    Attributes:
        model: the stock transformers model, used as a weight holder.
        end: token ids that end an answer.
        image_token: what the tokenizer knows as one picture token.
        system: replaces the style's system sentence.
        graphs: decode steps are replayed as CUDA graphs.
        settings: image-processor settings and family options read from the checkpoint.
    """

    info: ModelInfo
    model: Any
    tokenizer: Tokenizer
    style: PromptStyle
    end: frozenset[int]
    image_token: str
    settings: dict[str, Any]
    system: str | None = None
    graphs: bool = False


class FamilyAdapter:
    """Base of the adapters; see `hero_ray.models.base.Adapter` for the contract.

    Attributes:
        info, vision: what is known of the model and its tower.
        runner: the block loop; `runner.prefill` and `runner.decode` are the steps that timings are put around.
        decoder: batches, prefix reuse and decoding on top of it.
    """

    vision: VisionInfo
    family = ""

    def __init__(self, parts: Parts) -> None:
        self.info = parts.info
        self.model = parts.model
        self.tokenizer = parts.tokenizer
        self._load_clip: Callable[[], ClipSide] | None = None
        self._style, self._system, self._image_token = parts.style, parts.system, parts.image_token
        self._core = parts.model.model
        self.runner = Runner(self._core.language_model, parts.model.lm_head, parts.info.attention)
        step = GraphedDecode(self.runner) if parts.graphs else None
        self.decoder = Decoder(self.runner, parts.end, parts.info.context, step)
        self._device = self.runner.embed(torch.zeros(1, dtype=torch.long)).device
        self._prompts: dict[tuple[str, str | None], Prompt] = {}

    def attach_clip(self, load: Callable[[], ClipSide]) -> None:
        """Where CLIP's text side comes from; it is read when a method first asks for it."""
        self._load_clip = load

    @cached_property
    def clip(self) -> ClipSide | None:
        """CLIP text tower and projections, or None where the model has no paired text tower."""
        return self._load_clip() if self._load_clip is not None else None

    # -- what a family provides -------------------------------------------------------------------------------------

    def prepare(self, image: Image.Image, image_id: str = "", plan: ImagePlan | None = None) -> Prepared:
        """Cut a picture into views; CPU only."""
        raise NotImplementedError

    def plans(self, size: tuple[int, int]) -> tuple[ImagePlan, ...]:
        """Cheaper looks at a picture of (width, height), most tokens first."""
        raise NotImplementedError

    def _tap_points(self) -> dict[int, TapPoint]:
        raise NotImplementedError

    def _run_tower(self, pixels: Tensor, taken: frozenset[int]) -> dict[int, Tensor]:
        """Outputs [V, 1 + patches, C] of the 1-based tower blocks in `taken`."""
        raise NotImplementedError

    def _projector_input(self, features: Tensor) -> Tensor:
        """Tokens [V, N, C] as the projector takes them, from the feature block's output."""
        raise NotImplementedError

    def _post_norm(self, states: Tensor) -> Tensor:
        """The tower's last norm."""
        raise NotImplementedError

    # -- vision -----------------------------------------------------------------------------------------------------

    def encode(self, prepared: Prepared, needs: Needs) -> Encoded:
        """One pass of the vision tower and projector, capturing what `needs` names.

        Raises:
            ParameterError: a layer the tower does not have.
        """
        return self.encode_many([prepared], needs)[0]

    @torch.no_grad()
    def encode_many(self, prepared: Sequence[Prepared], needs: Needs) -> list[Encoded]:
        """Several pictures in one pass per view size. In half precision a picture's values then depend, within
        rounding, on what it is batched with; `encode` alone never does."""
        results: dict[int, Encoded] = {}
        by_size: dict[torch.Size, list[int]] = {}
        for index, picture in enumerate(prepared):
            by_size.setdefault(picture.pixels.shape[1:], []).append(index)
        for members in by_size.values():
            captured = self._capture(torch.cat([prepared[index].pixels for index in members]), needs)
            start = 0
            for index in members:
                views = slice(start, start + prepared[index].layout.num_views)
                results[index] = self._encoded(prepared[index], captured, views)
                start = views.stop
        return [results[index] for index in range(len(prepared))]

    def _capture(self, pixels: Tensor, needs: Needs) -> Encoded:
        """All views of a batch, before they are dealt out to their pictures."""
        depth, feature = self.vision.num_layers, self.vision.feature_layer
        sources = set(needs.cls_embedding)
        reads_clip = bool(needs.clip_score or needs.clip_tokens or "projected" in sources)
        clip = self.clip if reads_clip else None  # reading it loads it
        clip_image = clip is not None and bool(needs.clip_score or "projected" in sources)
        own_clip = clip_image and clip is not None and clip.vision_model is None
        taken = {feature} | ({depth} if own_clip or sources & {"last_pre_ln", "post_ln"} else set())
        deepest = max([*taken, *needs.cls_attention, *needs.cls_logits, *needs.keys])
        pixels = pixels.to(self._device, self.model.dtype)
        with ClsTaps(self._tap_points(), needs) as taps:
            outputs = self._run_tower(pixels, frozenset(taken | {min(deepest, depth)}))
        tokens = self._projector_input(outputs[feature])
        fold = round(self.vision.patches_per_token**0.5)
        embeddings = {}
        for source in sources - {"projected"}:
            states = outputs[feature if source == "feature_layer" else depth][:, 0]
            embeddings[source] = (self._post_norm(states) if source == "post_ln" else states).float()
        if clip_image:
            embeddings["projected"] = self._clip_views(pixels, outputs)
        if needs.clip_tokens and clip is not None and clip.vision_model is None:
            # CDPruner: patch states of the feature block through post-norm and projection, [V, N, P].
            embeddings["projected_patches"] = clip.project(outputs[feature][:, 1:], self._post_norm)
        return Encoded(
            image_id="",
            layout=None,  # type: ignore[arg-type]  # set per picture
            vision=self.vision,
            features=self._core.multi_modal_projector(tokens),
            projector_input=tokens if needs.projector_input else None,
            cls_attention={layer: pool_patches(row, fold) for layer, row in taps.attention.items()},
            cls_logits={layer: pool_patches(row, fold) for layer, row in taps.logits.items()},
            cls_query=dict(taps.query),
            keys={layer: _pool_keys(keys, fold) for layer, keys in taps.keys.items()},
            cls_embedding=embeddings,
        )

    def _clip_views(self, pixels: Tensor, outputs: dict[int, Tensor]) -> Tensor:
        """CLIP's image embedding of every view [V, P], fp32, from the tower itself or from CLIP's own."""
        assert self.clip is not None
        if self.clip.vision_model is None:
            return self.clip.project(outputs[self.vision.num_layers][:, 0], self._post_norm)
        tower = self.clip.vision_model
        side = tower.config.image_size
        resized = self._clip_pixels(pixels, side)
        return self.clip.project(tower(resized.to(tower.dtype)).last_hidden_state[:, 0], tower.post_layernorm)

    def _clip_pixels(self, pixels: Tensor, side: int) -> Tensor:
        """The same views as CLIP's own tower wants them; here only resized where the plan shrank them."""
        if pixels.shape[-1] == side:
            return pixels
        return torch.nn.functional.interpolate(pixels.float(), size=(side, side), mode="bicubic", antialias=True)

    def _encoded(self, prepared: Prepared, captured: Encoded, views: slice) -> Encoded:
        tokens = captured.projector_input
        return replace(
            captured,
            image_id=prepared.image_id,
            layout=prepared.layout,
            features=captured.features[views],
            projector_input=None if tokens is None else tokens[views],
            cls_attention=rows_of(captured.cls_attention, views),
            cls_logits=rows_of(captured.cls_logits, views),
            cls_query=rows_of(captured.cls_query, views),
            keys=rows_of(captured.keys, views),
            cls_embedding={source: tensor[views] for source, tensor in captured.cls_embedding.items()},
        )

    # -- question ---------------------------------------------------------------------------------------------------

    def prompt(self, text: str, question: str | None = None) -> Prompt:
        """Token ids of the chat template around a user text; `question` marks the instruction span inside it.

        Raises:
            PromptError: an empty text, or more than one picture in it.
        """
        key = (text, question)
        if key not in self._prompts:
            if len(self._prompts) >= 4096:
                self._prompts.clear()
            self._prompts[key] = build_prompt(
                self.tokenizer, self._style, text, question, self._system, self._image_token
            )
        return self._prompts[key]

    @torch.no_grad()
    def ask(self, encoded: Encoded, question: str, needs: Needs, prompt: Prompt) -> Encoded:
        """Attach a question: CLIP scores, LLM rows on the unpruned prompt; only what `needs` names.

        Families without a paired text tower leave `clip_score` and `clip_tokens` None.
        """
        text = question.strip()
        images, patches = encoded.cls_embedding.get("projected"), encoded.cls_embedding.get("projected_patches")
        clip = self.clip if needs.clip_score or needs.clip_tokens else None
        span = prompt.suffix[prompt.instruction[0] : prompt.instruction[1]]
        return encoded.asked(
            Question(
                text=text,
                clip_score=clip.score(images, text) if clip and needs.clip_score and images is not None else None,
                clip_tokens=clip.score(patches, text) if clip and needs.clip_tokens and patches is not None else None,
                llm_attention=self._llm_rows(encoded, prompt, needs.llm_attention),
                llm_embedding=self.runner.embed(torch.tensor(span)).float().mean(0) if needs.llm_embedding else None,
            )
        )

    def _llm_rows(self, encoded: Encoded, prompt: Prompt, layers: frozenset[int]) -> dict[int, Tensor]:
        """Instruction rows [H, Q, V, N] of LLM blocks, newline columns left out."""
        if not layers:
            return {}
        if max(layers) > self.runner.num_layers:
            raise PromptError(f"LLM block {max(layers)} was asked of a model with {self.runner.num_layers} blocks")
        visual = self.assemble(encoded, keep_all(encoded.layout), "unpadded_rows")
        batch = whole_prompts([Request(prompt, visual, 1)], self.runner.embed)
        text = batch.lengths[0] - len(prompt.suffix)
        first, last = prompt.instruction
        queries = torch.arange(text + first, text + last, device=self._device)[None]
        rows = self.runner.rows_of(batch, layers, queries)
        sequence = encoded.layout.sequence.to(self._device)
        patch = sequence >= 0
        columns = len(prompt.prefix) + patch.nonzero()[:, 0]
        found = {}
        for layer, row in rows.items():
            flat = row.new_zeros(*row.shape[1:3], encoded.layout.valid.numel())
            flat[..., sequence[patch]] = row[0][..., columns]
            found[layer] = flat.unflatten(-1, tuple(encoded.layout.valid.shape))
        return found

    # -- language ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def assemble(self, encoded: Encoded, selection: Selection, policy: NewlinePolicy) -> Tensor:
        """Visual embeddings [n_visual_llm, D] in LLM order.

        Raises:
            SelectionError: the order names a token or an extra row that is not there.
        """
        sequence = selection.sequence(encoded.layout, policy).to(self._device)
        features = encoded.features
        if selection.edited is not None:
            features = self._in_llm_space(selection.edited, selection)
        flat = features.reshape(-1, features.shape[-1])
        extra = selection.extra
        rows = 0 if extra is None else extra.shape[0]
        if sequence.numel() and (int(sequence.max()) >= flat.shape[0] or int(sequence.min()) < -1 - rows):
            raise SelectionError(
                f"the order spans {int(sequence.min())}..{int(sequence.max())}; there are {flat.shape[0]} tokens and "
                f"{rows} extra rows (-2 is the first)"
            )
        visual = flat[sequence.clamp(min=0)]
        newline = getattr(self._core, "image_newline", None)
        if newline is not None:
            visual = torch.where((sequence == NEWLINE)[:, None], newline.to(visual.dtype), visual)
        elif bool((sequence == NEWLINE).any()):
            raise SelectionError(f"{self.info.family} has no newline embedding, yet the order holds one")
        if extra is not None:
            added = self._in_llm_space(extra, selection).to(visual.dtype)
            place = sequence <= -2
            visual[place] = added[-2 - sequence[place]]
        return visual

    def _in_llm_space(self, tensor: Tensor, selection: Selection) -> Tensor:
        tensor = tensor.to(self._device, self.model.dtype)
        return self._core.multi_modal_projector(tensor) if selection.space == "projector_input" else tensor

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
        answers = self.decoder.answer(requests, pruner, positions, GenerationOptions(**options))
        return [
            Generation(
                text=self.tokenizer.decode(answer.token_ids).strip(),
                token_ids=answer.token_ids,
                visual_per_layer=answer.visual_per_layer,
                kv_bytes=answer.kv_bytes,
                finish=answer.finish,
            )
            for answer in answers
        ]


def _pool_keys(keys: Tensor, fold: int) -> Tensor:
    """Keys [V, H, 1 + patches, head_dim] with the patches behind each token averaged."""
    if fold == 1:
        return keys
    return torch.cat([keys[:, :, :1], pool_patches(keys[:, :, 1:], fold, dim=2)], 2)
