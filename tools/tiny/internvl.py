"""hero-tiny-internvl as the training stages see it: InternViT, pixel shuffle and a Llama with grouped queries."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
)
from transformers.models.internvl.modeling_internvl import InternVLVisionModel

from hero_ray.benchmarks.synthetic.scenes import Scene
from hero_ray.models.geometry import tile_grid
from tools.tiny.architecture import MIDDLE_LAYER, PATCH, TILE, VISION_WIDTH, clip_text_settings
from tools.tiny.batches import Segment
from tools.tiny.initialise import align_projector, initialise_llama, initialise_projector, word_targets
from tools.tiny.piece_tokenizer import (
    PICTURE,
    PICTURE_END,
    PICTURE_START,
    SYSTEM,
    TURN_END,
    TURN_START,
    encode,
    special_ids,
    vocabulary_size,
)
from tools.tiny.stage_language import Answerer
from tools.tiny.stage_tower import TowerPair
from tools.tiny.tokenizer import SHOWN_WORDS
from tools.tiny.views import View, cut_tiles, thumbnail_view

MAX_TILES = 4
TEXT_WIDTH = 128
# ImageNet statistics, as InternVL2 has them.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def vision_config() -> InternVLVisionConfig:
    """Twelve narrow layers; layer scales start at one because there is little depth to tame."""
    return InternVLVisionConfig(
        hidden_size=VISION_WIDTH,
        intermediate_size=3 * VISION_WIDTH,
        num_hidden_layers=12,
        num_attention_heads=4,
        attention_bias=True,
        image_size=TILE,
        patch_size=PATCH,
        layer_scale_init_value=1.0,
        use_mean_pooling=True,
        hidden_act="gelu",
    )


def internvl_config() -> InternVLConfig:
    """Pixel shuffle by two: 16 visual tokens per tile; four query heads share two key-value heads."""
    text = {
        "model_type": "llama",
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 320,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": vocabulary_size(),
        "max_position_embeddings": 1024,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
        "rms_norm_eps": 1e-5,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
        "tie_word_embeddings": False,
    }
    return InternVLConfig(
        vision_config=vision_config(),
        text_config=text,
        image_token_id=special_ids()[PICTURE],
        image_seq_length=(TILE // PATCH // 2) ** 2,
        downsample_ratio=0.5,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=False,
    )


def build_internvl() -> InternVLForConditionalGeneration:
    """An InternVL model with fresh weights."""
    return InternVLForConditionalGeneration(internvl_config())


def tiled_views(scene: Scene) -> list[View]:
    """Dynamic tiling: stretched to whole tiles, cut in raster order, thumbnail last and only if there are several."""
    pixels = stretched(Image.fromarray(scene.image))
    y = (np.arange(pixels.shape[0]) * scene.height) // pixels.shape[0]
    x = (np.arange(pixels.shape[1]) * scene.width) // pixels.shape[1]
    tiles = cut_tiles(scene, pixels, scene.owner[np.ix_(y, x)], scene.plates[np.ix_(y, x)])
    return tiles if len(tiles) == 1 else [*tiles, thumbnail_view(scene)]


def stretched(image: Image.Image) -> NDArray[np.uint8]:
    """A picture resized to the whole tiles InternVL2 chooses for it, uint8 `[rows * 64, columns * 64, 3]`."""
    rows, columns = tile_grid((image.height, image.width), MAX_TILES, TILE)
    return np.asarray(image.resize((columns * TILE, rows * TILE), Image.Resampling.BICUBIC))


def pixel_values(views: Sequence[View]) -> Tensor:
    """Normalised pixels `[views, 3, 64, 64]`."""
    return normalise(np.stack([view.pixels for view in views]))


def normalise(pixels: NDArray[np.uint8]) -> Tensor:
    """RGB bytes `[views, 64, 64, 3]` as the tower takes them, `[views, 3, 64, 64]`."""
    stacked = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    return (stacked - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


class InternVLTowers(TowerPair):
    """InternViT with a text tower that serves training only."""

    def __init__(self) -> None:
        self._vision = InternVLVisionModel(vision_config())
        self._text = CLIPTextModel(CLIPTextConfig(**clip_text_settings()))
        self._norm = nn.LayerNorm(VISION_WIDTH)
        self._to_space = nn.ModuleList([nn.Linear(VISION_WIDTH, 64, bias=False), nn.Linear(64, 64, bias=False)])
        self.width = VISION_WIDTH
        self.module = nn.ModuleDict(
            {"vision": self._vision, "text": self._text, "norm": self._norm, "to_space": self._to_space}
        )
        self.logit_scale = nn.Parameter(torch.tensor(2.6592))
        self.module.register_parameter("logit_scale", self.logit_scale)

    def cut(self, scene: Scene) -> list[View]:
        return tiled_views(scene)

    def embed_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        pooled = self._text(input_ids=ids, attention_mask=mask).pooler_output
        return functional.normalize(self._to_space[1](pooled), dim=-1)

    def embed_views(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        states = self._vision(pixels, output_hidden_states=True).hidden_states
        last, middle = (
            functional.normalize(self._to_space[0](self._norm(state[:, 0])), dim=-1)
            for state in (states[-1], states[MIDDLE_LAYER])
        )
        return last, middle, states[-1][:, 1:]

    def pixel_values(self, views: Sequence[View]) -> Tensor:
        return pixel_values(views)


class InternVLAnswerer(Answerer):
    """InternVL with a frozen tower; pixel shuffle is transformers' own."""

    tower_prefix = "vision."

    def __init__(self, model: InternVLForConditionalGeneration) -> None:
        self.module = model
        self._model, self._inner = model, model.model
        self._inner.vision_tower.requires_grad_(False).eval()
        special = special_ids()
        user = (special[TURN_START], *encode("user"), special[PICTURE_START])
        system = (special[TURN_START], *encode(f"system {SYSTEM}"), special[TURN_END])
        self.prefix_ids = (1, *system, *user)
        self._before = (special[PICTURE_END],)
        self._behind = (special[TURN_END], special[TURN_START], *encode("assistant"))
        self.end = special[TURN_END]

    def pixels(self, scenes: Sequence[Scene]) -> Tensor:
        """Normalised views of all scenes, thumbnails last, `[views, 3, 64, 64]`."""
        return pixel_values([view for scene in scenes for view in tiled_views(scene)])

    def features(self, scenes: Sequence[Scene]) -> Tensor:
        patches = self._inner.vision_tower(self.pixels(scenes)).last_hidden_state[:, 1:]
        side = TILE // PATCH
        shuffled = self._inner.pixel_shuffle(patches.view(len(patches), side, side, -1), scale_factor=0.5)
        return shuffled.flatten(1, 2)

    def visual_tokens(self, scenes: Sequence[Scene], features: Tensor) -> Tensor:
        projected = self._inner.multi_modal_projector(features)
        return projected.reshape(len(scenes), -1, projected.shape[-1])

    def initialise(self, scenes: Sequence[Scene], features: Tensor) -> None:
        projector, language_model = self._inner.multi_modal_projector, self._inner.language_model
        with torch.no_grad():
            entering = projector.layer_norm(features)
        initialise_projector(projector.linear_1, projector.linear_2, entering)
        initialise_llama(language_model, self._model.lm_head)
        labels = torch.from_numpy(np.stack([view.labels for scene in scenes for view in tiled_views(scene)]))
        half = TILE // PATCH // 2
        grouped = labels.view(*labels.shape[:2], half, 2, half, 2).permute(0, 1, 3, 5, 2, 4).flatten(4).flatten(2, 3)
        words = [[_single(word) for word in group] for group in SHOWN_WORDS]
        targets = word_targets(grouped, words, vocabulary_size())
        align_projector(projector, language_model.embed_tokens, features, targets)

    def trainable(self) -> list[nn.Parameter]:
        return [p for p in self._model.parameters() if p.requires_grad]

    def segment(self, question: str, answer: str) -> Segment:
        return Segment((*self._before, *_encoded(question), *self._behind), (*_encoded(answer), self.end))

    def fragment(self, start: str, rest: str) -> Segment:
        return Segment((*self._before, *_encoded(start)), (*_encoded(rest), self.end))


def _single(word: str) -> int | None:
    ids = _encoded(word)
    return ids[0] if len(ids) == 1 else None


@lru_cache(maxsize=65536)
def _encoded(text: str) -> tuple[int, ...]:
    return encode(text)
