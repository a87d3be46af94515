"""hero-tiny-qwen as the training stages see it: a tower of windows without CLS, and M-RoPE positions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from hero_ray.benchmarks.synthetic.labels import patch_labels
from hero_ray.benchmarks.synthetic.scenes import Scene
from hero_ray.models.heads import rotate
from hero_ray.models.native import TowerGrid, tower_grid
from hero_ray.models.prompts import IMAGE_PAD, VIDEO_PAD
from tools.tiny.architecture import PATCH, TILE, VISION_WIDTH
from tools.tiny.batches import Segment
from tools.tiny.initialise import align_projector, initialise_llama, initialise_projector, word_targets
from tools.tiny.qwen_tokenizer import END, PAD, PICTURE_END, PICTURE_START, around, encode, qwen_vocabulary, token_id
from tools.tiny.stage_language import Answerer, cached_ids
from tools.tiny.tokenizer import SHOWN_WORDS

FOLD, UNIT = 2, 2 * PATCH
"""Patches and pixels along the edge of a visual token."""
WINDOW = TILE // UNIT
DEPTH, WHOLE, HEADS = 6, (3, 6), 4
TEXT_WIDTH = 96
LEAST_PIXELS, MOST_PIXELS = 4 * UNIT**2, 64 * UNIT**2
# CLIP's statistics, as Qwen-VL has them.
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def qwen_config() -> Qwen2_5_VLConfig:
    """Six blocks, every third of which sees the whole picture, the others windows of 4 x 4 visual tokens.

    A prompt takes some 40 positions and a picture at most 8 by 8. With a rotary base of a million and the published
    shares of the sections, the pairs that turn by the column would not move at all; with a small base every pair moves,
    and then nothing is looked up: digits and words stayed at chance for 450 steps. Here a few pairs of each section
    turn, and half of all do not.
    """
    vision = {
        "depth": DEPTH,
        "hidden_size": VISION_WIDTH,
        "intermediate_size": 160,
        "num_heads": HEADS,
        "patch_size": PATCH,
        "window_size": WINDOW * UNIT,
        "out_hidden_size": TEXT_WIDTH,
        "fullatt_block_indexes": [block - 1 for block in WHOLE],
    }
    text = {
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 256,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "vocab_size": len(qwen_vocabulary()),
        "max_position_embeddings": 1024,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 4, 18]},
        "bos_token_id": None,
        "eos_token_id": token_id(END),
        "pad_token_id": token_id(PAD),
    }
    return Qwen2_5_VLConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=token_id(IMAGE_PAD),
        video_token_id=token_id(VIDEO_PAD),
        vision_start_token_id=token_id(PICTURE_START),
        vision_end_token_id=token_id(PICTURE_END),
        tie_word_embeddings=False,
    )


def build_qwen() -> Qwen2_5_VLForConditionalGeneration:
    """A Qwen2.5-VL model with fresh weights; the tower's are scaled by fan-in, for it is too narrow for the default."""
    model = Qwen2_5_VLForConditionalGeneration(qwen_config())
    with torch.no_grad():
        embedding = model.model.visual.patch_embed.proj.weight
        embedding.normal_(0, (2 * embedding[0].numel()) ** -0.5)  # both frames are the same picture
        for block in model.model.visual.blocks:
            for part, gain in (
                (block.attn.qkv, 1.0),
                (block.attn.proj, 0.5),
                (block.mlp.gate_proj, 1.0),
                (block.mlp.up_proj, 1.0),
                (block.mlp.down_proj, 0.5),
            ):
                part.weight.normal_(0, gain * part.in_features**-0.5)
    return model


def side_of(scene: Scene) -> tuple[int, int]:
    """(rows, columns) of visual tokens; no scene needs resizing."""
    return scene.height // UNIT, scene.width // UNIT


def pictures_of(scenes: Sequence[Scene]) -> Tensor:
    """Normalised pixels `[scenes, 3, height, width]` of equally large scenes."""
    stacked = torch.from_numpy(np.stack([scene.image for scene in scenes])).permute(0, 3, 1, 2).float() / 255
    return (stacked - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


class QwenTower:
    """The vision tower over a batch of equally large pictures; every output equals the stock module's.

    The stock one runs picture after picture and window after window, which is several times as slow in training.
    Patches stand in the order of the blocks: windows first, token by token inside.
    """

    def __init__(self, visual: Any) -> None:
        self.module = visual

    def grid(self, side: tuple[int, int]) -> TowerGrid:
        """How one picture of (rows, columns) tokens lies in the blocks."""
        return tower_grid(1, side, FOLD, WINDOW)

    def labels(self, scenes: Sequence[Scene]) -> Tensor:
        """Patch labels `[scenes, heads, patches]`; of a digit's object every patch says the digit.

        Said by its plate alone, one patch in four of one visual token, no digit was ever read in 1,500 steps.
        """
        rows, columns = (FOLD * edge for edge in side_of(scenes[0]))
        found = [
            patch_labels(scene, scene.owner, np.ones_like(scene.plates), rows, columns, fine=True) for scene in scenes
        ]
        row, column = self.grid(side_of(scenes[0])).places.t()
        return torch.from_numpy(np.stack(found))[:, :, row, column]

    def states(self, pictures: Tensor, weigh: bool = False) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """What the last block puts out, `[pictures, patches, width]`.

        Args:
            weigh: also return, for every block that sees the whole picture, its output and the attention that every
                patch receives there, `[pictures, patches]`, each row a share of one.
        """
        grid = self.grid((pictures.shape[2] // UNIT, pictures.shape[3] // UNIT))
        hidden = self._embedded(pictures, grid)
        angles = grid.places[..., None].float() * self.module.rotary_pos_emb.inv_freq
        turns = tuple(torch.cat([table.flatten(1)] * 2, -1) for table in (angles.cos(), angles.sin()))
        whole = []
        for number, block in enumerate(self.module.blocks, start=1):
            sees_all = number in WHOLE
            mixed, received = self._attended(block, hidden, turns, grid, sees_all, weigh)
            hidden = hidden + mixed
            hidden = hidden + block.mlp(block.norm2(hidden))
            if sees_all and weigh:
                whole.append((hidden, received))
        return hidden, whole

    def _embedded(self, pictures: Tensor, grid: TowerGrid) -> Tensor:
        patches = pictures.unflatten(2, (-1, PATCH)).unflatten(4, (-1, PATCH)).permute(0, 2, 4, 1, 3, 5)
        row, column = grid.places.t()
        chosen = patches[:, row, column]
        weight = self.module.patch_embed.proj.weight.sum(2)  # both frames are the same picture
        return functional.linear(chosen.flatten(2), weight.flatten(1))

    def _attended(
        self, block: Any, hidden: Tensor, turns: Sequence[Tensor], grid: TowerGrid, sees_all: bool, weigh: bool
    ) -> tuple[Tensor, Tensor]:
        both = block.attn.qkv(block.norm1(hidden)).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        query, key = (rotate(heads, (turns[0][None], turns[1][None])) for heads in both[:2])
        value, received = both[2], hidden.new_zeros(())
        if sees_all and weigh:
            shares = (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(-1)
            mixed, received = shares @ value, shares.mean((1, 2))
        elif sees_all:
            mixed = functional.scaled_dot_product_attention(query, key, value)
        else:
            mixed = _in_windows(query, key, value, (grid.windows[1:] - grid.windows[:-1]).tolist())
        return block.attn.proj(mixed.transpose(1, 2).flatten(2)), received


def _in_windows(query: Tensor, key: Tensor, value: Tensor, lengths: list[int]) -> Tensor:
    """Attention of `[pictures, heads, patches, dim]` within consecutive windows; equal ones go together."""
    if len(set(lengths)) == 1:
        parts = [heads.unflatten(2, (len(lengths), -1)).transpose(1, 2).flatten(0, 1) for heads in (query, key, value)]
        mixed = functional.scaled_dot_product_attention(*parts)
        return mixed.unflatten(0, (-1, len(lengths))).transpose(1, 2).flatten(2, 3)
    cut = zip(*(heads.split(lengths, 2) for heads in (query, key, value)), strict=True)
    return torch.cat([functional.scaled_dot_product_attention(*parts) for parts in cut], 2)


class _Merging(nn.Module):
    """The merger over `[pictures, tokens, patches of a token, width]`."""

    def __init__(self, merger: Any) -> None:
        super().__init__()
        self.merger = merger

    def forward(self, patches: Tensor) -> Tensor:
        return self.merger(patches).unflatten(0, patches.shape[:2])  # type: ignore[no-any-return]


class QwenAnswerer(Answerer):
    """Qwen2.5-VL with a frozen tower; its merger is the projector."""

    def __init__(self, model: Qwen2_5_VLForConditionalGeneration) -> None:
        self.module = model
        self._model, self._inner = model, model.model
        self._tower = QwenTower(model.model.visual)
        self._merger = model.model.visual.merger
        model.model.visual.requires_grad_(False).eval()
        self._merger.requires_grad_(True)
        before, self._between, self._closing = around()
        self.prefix_ids = encode(before)
        self._end = token_id(END)

    def adopt_tower(self, state: dict[str, Tensor]) -> None:
        self._inner.visual.load_state_dict(state)

    def features(self, scenes: Sequence[Scene]) -> Tensor:
        states, _ = self._tower.states(pictures_of(scenes))
        return states.unflatten(1, (-1, FOLD**2))[:, self._tower.grid(side_of(scenes[0])).back]

    def visual_tokens(self, scenes: Sequence[Scene], features: Tensor) -> Tensor:
        return _Merging(self._merger)(features)  # type: ignore[no-any-return]

    def places(self, scenes: Sequence[Scene], positions: Tensor) -> Tensor:
        (rows, columns), start = side_of(scenes[0]), len(self.prefix_ids)
        token = torch.arange(rows * columns)
        placed = positions.where(positions < start, positions - len(token) + max(rows, columns))
        found = placed[None].repeat(3, 1, 1)
        picture = torch.stack([torch.zeros_like(token), token // columns, token % columns])
        found[:, :, start : start + len(token)] = start + picture[:, None]
        return found

    def initialise(self, scenes: Sequence[Scene], features: Tensor) -> None:
        language_model = self._inner.language_model
        with torch.no_grad():
            entering = self._merger.ln_q(features).flatten(2)
        initialise_projector(self._merger.mlp[0], self._merger.mlp[2], entering)
        initialise_llama(language_model, self._model.lm_head)
        back = self._tower.grid(side_of(scenes[0])).back
        grouped = self._tower.labels(scenes).unflatten(2, (-1, FOLD**2))[:, :, back].transpose(2, 3)
        words = [[token_id(word) for word in group] for group in SHOWN_WORDS]
        targets = word_targets(grouped, words, len(qwen_vocabulary()))
        # A digit is one patch of four, and rare: after the usual 90 steps it is not seen behind shapes and colours.
        align_projector(_Merging(self._merger), language_model.embed_tokens, features, targets, 900, 20)

    def trainable(self) -> list[nn.Parameter]:
        return [p for p in self._model.parameters() if p.requires_grad]

    def segment(self, question: str, answer: str) -> Segment:
        asked = cached_ids(encode, f"{self._between}{question}{self._closing}")
        return Segment(asked, (*cached_ids(encode, answer), self._end))

    def fragment(self, start: str, rest: str) -> Segment:
        return Segment(cached_ids(encode, f"{self._between}{start}"), (*cached_ids(encode, rest), self._end))
