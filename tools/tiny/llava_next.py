"""hero-tiny as the training stages see it: CLIP towers for stage A, LLaVA-NeXT for stages B and C."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPModel, LlavaNextForConditionalGeneration

from hero_ray.benchmarks.synthetic.scenes import TILE, Scene
from tools.tiny.architecture import FEATURE_LAYER, MIDDLE_LAYER, VISION_WIDTH, word_id
from tools.tiny.batches import Segment
from tools.tiny.initialise import align_projector, initialise_llama, initialise_projector, word_targets
from tools.tiny.stage_language import Answerer, cached_ids
from tools.tiny.stage_tower import TowerPair
from tools.tiny.tokenizer import BOS, EOS, SHOWN_WORDS, language_tokenizer, vocabulary
from tools.tiny.views import View, anyres_views, pixel_values, tile_views


class ClipTowers(TowerPair):
    """A CLIP model whose CLS is read after two layers and whose patches are read where LLaVA reads them."""

    def __init__(self, clip: CLIPModel) -> None:
        self.module, self.width, self.logit_scale = clip, VISION_WIDTH, clip.logit_scale
        self._clip = clip

    def cut(self, scene: Scene) -> list[View]:
        return anyres_views(scene)

    def pixel_values(self, views: Sequence[View]) -> Tensor:
        return pixel_values(views)

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

    tower_prefix = "vision_model."

    def __init__(self, model: LlavaNextForConditionalGeneration) -> None:
        self.module = model
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

    def initialise(self, scenes: Sequence[Scene], features: Tensor) -> None:
        projector, language_model = self._inner.multi_modal_projector, self._inner.language_model
        initialise_projector(projector.linear_1, projector.linear_2, features)
        initialise_llama(language_model, self._model.lm_head)
        nn.init.normal_(self._inner.image_newline)
        labels = np.stack([view.labels for scene in scenes for view in anyres_views(scene)])
        words = [[word_id(word) for word in group] for group in SHOWN_WORDS]
        targets = word_targets(torch.from_numpy(labels)[:, :, None], words, len(vocabulary()))
        align_projector(projector, language_model.embed_tokens, features, targets)

    def trainable(self) -> list[nn.Parameter]:
        return [p for p in self._model.parameters() if p.requires_grad]

    def segment(self, question: str, answer: str) -> Segment:
        asked = cached_ids(self._encode, f"{question} ASSISTANT:")
        return Segment(asked, (*cached_ids(self._encode, answer), self._end))

    def fragment(self, start: str, rest: str) -> Segment:
        return Segment(cached_ids(self._encode, start), (*cached_ids(self._encode, rest), self._end))


def _encoder(tokenizer: object) -> Callable[[str], Sequence[int]]:
    def encode(text: str) -> Sequence[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]  # type: ignore[operator, no-any-return]

    return encode


def _is_one_tile(scene: Scene) -> bool:
    return scene.width <= TILE and scene.height <= TILE
