"""hero-tiny as the training stages see it: CLIP towers for stage A, LLaVA-NeXT for stages B and C."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPModel, LlavaNextForConditionalGeneration

from hero_ray.benchmarks.synthetic.scenes import TILE, Scene
from hero_ray.tiny.architecture import FEATURE_LAYER, MIDDLE_LAYER, TEXT_WIDTH, VISION_WIDTH, word_id
from hero_ray.tiny.batches import Segment
from hero_ray.tiny.stage_language import Answerer, cached_ids
from hero_ray.tiny.stage_tower import TowerPair
from hero_ray.tiny.tokenizer import BOS, EOS, language_tokenizer
from hero_ray.tiny.views import anyres_views, pixel_values, tile_views


class ClipTowers(TowerPair):
    """A CLIP model whose CLS is read after two layers and whose patches are read where LLaVA reads them."""

    def __init__(self, clip: CLIPModel) -> None:
        self.module, self.width, self.logit_scale = clip, VISION_WIDTH, clip.logit_scale
        self._clip = clip

    def embed_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        pooled = self._clip.text_model(input_ids=ids, attention_mask=mask).pooler_output
        return functional.normalize(self._clip.text_projection(pooled), dim=-1)

    def embed_views(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        vision = self._clip.vision_model
        states = vision(pixels, output_hidden_states=True).hidden_states
        last, middle = (
            functional.normalize(self._clip.visual_projection(vision.post_layernorm(state[:, 0])), dim=-1)
            for state in (states[-1], states[MIDDLE_LAYER])
        )
        return last, middle, states[FEATURE_LAYER][:, 1:]


class LlavaNextAnswerer(Answerer):
    """LLaVA-NeXT with a frozen tower; packing, unpadding and newlines are transformers' own."""

    def __init__(self, model: LlavaNextForConditionalGeneration) -> None:
        self.module, self.width = model, TEXT_WIDTH
        self._model, self._inner = model, model.model
        self._inner.vision_tower.requires_grad_(False).eval()
        self.prefix_ids = (word_id(BOS), word_id("user:"))
        self._end = word_id(EOS)
        self._encode = _encoder(language_tokenizer())

    def features(self, scenes: Sequence[Scene]) -> Tensor:
        cut = tile_views if _is_one_tile(scenes[0]) else anyres_views
        pixels = pixel_values([view for scene in scenes for view in cut(scene)])
        states = self._inner.vision_tower(pixels, output_hidden_states=True).hidden_states
        return states[FEATURE_LAYER][:, 1:]

    def visual_tokens(self, scenes: Sequence[Scene], features: Tensor) -> Tensor:
        projected = self._inner.multi_modal_projector(features)
        if _is_one_tile(scenes[0]):
            return projected
        views = projected.view(len(scenes), -1, *projected.shape[1:])
        sizes = torch.tensor([(scene.height, scene.width) for scene in scenes])
        packed, _ = self._inner.pack_image_features(
            list(views), sizes, "default", image_newline=self._inner.image_newline
        )
        return torch.stack(list(packed))

    def embed(self, ids: Tensor) -> Tensor:
        return self._inner.language_model.embed_tokens(ids)

    def logits(self, embeddings: Tensor, mask: Tensor, positions: Tensor, wanted: Tensor) -> Tensor:
        states = self._inner.language_model(
            inputs_embeds=embeddings, attention_mask=mask, position_ids=positions, use_cache=False
        ).last_hidden_state
        return self._model.lm_head(states[:, -wanted.shape[1] :][wanted])

    def trainable(self) -> list[nn.Parameter]:
        return [p for p in self._model.parameters() if p.requires_grad]

    def segment(self, question: str, answer: str) -> Segment:
        asked = cached_ids(self._encode, f"{question} ASSISTANT:")
        return Segment(asked, (*cached_ids(self._encode, answer), self._end))


def _encoder(tokenizer: object) -> Callable[[str], Sequence[int]]:
    def encode(text: str) -> Sequence[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]  # type: ignore[operator, no-any-return]

    return encode


def _is_one_tile(scene: Scene) -> bool:
    return scene.width <= TILE and scene.height <= TILE


def adopt_tower(model: LlavaNextForConditionalGeneration, clip: CLIPModel) -> None:
    """Copy the trained vision tower of `clip` into `model`."""
    model.model.vision_tower.load_state_dict(clip.vision_model.state_dict())


def initialise_language(answerer: LlavaNextAnswerer, features: Tensor, seed: int) -> None:
    """Start projector and language model where gradients flow from the first step.

    CLIP features have means of 10 and eigenvalues over three decades: the first projector layer whitens them. Matrices
    get unit gain; the library's 0.02 leaves a model this narrow at chance for hundreds of steps.

    Args:
        features: A sample of tower features `[..., width]`.
    """
    torch.manual_seed(seed)
    model = answerer.module
    assert isinstance(model, LlavaNextForConditionalGeneration)
    inner = model.model
    flat = features.flatten(0, -2).double()
    mean = flat.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov((flat - mean).t()))
    whiten = vectors @ torch.diag((values + 1e-3 * values.max()).rsqrt()) @ vectors.t()
    width = answerer.width
    with torch.no_grad():
        first, second = inner.multi_modal_projector.linear_1, inner.multi_modal_projector.linear_2
        spread = torch.randn(width, flat.shape[1], dtype=torch.double) / flat.shape[1] ** 0.5
        first.weight.copy_(spread @ whiten)
        first.bias.copy_(-(spread @ whiten @ mean))
        second.weight.normal_(0, width**-0.5)
        second.bias.zero_()
        inner.image_newline.normal_(0, 1)
        initialise_llama(inner.language_model, model.lm_head, width)


def initialise_llama(language_model: nn.Module, head: nn.Linear, width: int) -> None:
    """Fan-in scaled matrices, small embeddings, quiet MLP outputs."""
    language_model.embed_tokens.weight.normal_(0, 0.05)  # type: ignore[union-attr, operator]
    head.weight.normal_(0, 0.3 * width**-0.5)
    for layer in language_model.layers:  # type: ignore[union-attr]
        attention, mlp = layer.self_attn, layer.mlp
        for part in (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj):
            part.weight.normal_(0, part.in_features**-0.5)
        for part in (mlp.gate_proj, mlp.up_proj):
            part.weight.normal_(0, width**-0.5)
        mlp.down_proj.weight.normal_(0, 0.2 * mlp.down_proj.in_features**-0.5)
