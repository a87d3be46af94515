"""The last tower block for CLS alone, against the whole block."""

from __future__ import annotations

import pytest
import torch
from transformers import CLIPVisionModel

from hero_ray.core.encoded import Needs
from hero_ray.core.errors import ParameterError
from hero_ray.models import miniature
from hero_ray.models.cls_block import cls_output
from hero_ray.models.taps import ClsTaps, TapPoint


def test_cls_row_and_taps_equal_the_whole_block() -> None:
    tower = CLIPVisionModel(miniature.vision_config()).eval()
    block = tower.encoder.layers[-1]
    hidden = torch.randn(3, 17, 32, generator=torch.Generator().manual_seed(0))
    point = TapPoint(block.self_attn.q_proj, block.self_attn.k_proj, 4)
    needs = Needs(cls_attention=frozenset({1}), cls_logits=frozenset({1}), keys=frozenset({1}))
    with torch.no_grad():
        with ClsTaps({1: point}, needs) as whole:
            expected = block(hidden, None)
        with ClsTaps({1: point}, needs) as short:
            row = cls_output(block, hidden)
    assert row.shape == (3, 1, 32)
    assert torch.allclose(row[:, 0], expected[:, 0], atol=1e-6)
    for name in ("attention", "logits", "query", "keys"):
        assert torch.allclose(getattr(short, name)[1], getattr(whole, name)[1], atol=1e-6)


def test_a_captured_row_keeps_no_other_row_alive() -> None:
    tower = CLIPVisionModel(miniature.vision_config()).eval()
    attention = tower.encoder.layers[0].self_attn
    needs = Needs(cls_attention=frozenset({1}))
    hidden = torch.randn(3, 17, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), ClsTaps({1: TapPoint(attention.q_proj, attention.k_proj, 4)}, needs) as taps:
        tower.encoder.layers[0](hidden, None)
    assert taps.query[1].untyped_storage().nbytes() == 3 * 32 * 4
    assert taps.attention[1].untyped_storage().nbytes() == 3 * 4 * 17 * 4


def test_attention_received_is_that_of_the_whole_map() -> None:
    tower = CLIPVisionModel(miniature.vision_config()).eval()
    tower.set_attn_implementation("eager")
    block = tower.encoder.layers[0]
    hidden = torch.randn(3, 17, 32, generator=torch.Generator().manual_seed(0))
    point = TapPoint(block.self_attn.q_proj, block.self_attn.k_proj, 4)
    with torch.no_grad(), ClsTaps({1: point}, Needs(received=frozenset({1}))) as taps:
        _, maps = block.self_attn(block.layer_norm1(hidden))
        block(hidden, None)
    mean = maps.mean(1)
    own = mean.diagonal(dim1=1, dim2=2)[:, 1:]
    expected = torch.stack([mean[:, 0, 1:], mean[:, 1:, 1:].sum(1) - own, own], 1)
    assert torch.allclose(taps.received[1], expected, atol=1e-6)


def test_a_block_that_runs_for_cls_alone_cannot_tell_what_patches_give() -> None:
    tower = CLIPVisionModel(miniature.vision_config()).eval()
    block = tower.encoder.layers[-1]
    point = TapPoint(block.self_attn.q_proj, block.self_attn.k_proj, 4)
    with (
        torch.no_grad(),
        ClsTaps({1: point}, Needs(received=frozenset({1}))),
        pytest.raises(ParameterError, match="block 1 runs for its CLS token alone"),
    ):
        cls_output(block, torch.randn(3, 17, 32))
