"""The last block runs for what is read of it: nothing behind a prefix's keys and values, one position of a prompt."""

import pytest
import torch
from transformers import LlamaForCausalLM

from hero_ray.models import lean, miniature
from hero_ray.models.base import Prompt, Request
from hero_ray.models.cache import KeyValueCache
from hero_ray.models.generation import Decoder
from hero_ray.models.lean import turns
from hero_ray.models.runner import Runner

PADDED = torch.tensor([[False, False, True, True, True, True], [True] * 6])


def runner_of(dtype=torch.float32, kv_heads=8):
    torch.manual_seed(0)
    model = LlamaForCausalLM(miniature.text_config(kv_heads=kv_heads)).eval().to(dtype)
    return Runner(model.model, model.lm_head)


@pytest.mark.parametrize("little", [2**18, 0])
@pytest.mark.parametrize("kv_heads", [8, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_a_part_of_a_block_is_what_the_whole_block_gives_there(kv_heads, dtype, little, monkeypatch):
    monkeypatch.setattr(lean, "_LITTLE", little)
    runner = runner_of(dtype, kv_heads)
    hidden = torch.randn(2, 6, 64).to(dtype)
    positions = (PADDED.long().cumsum(1) - 1).clamp(min=0)
    mask = runner.masks(PADDED, positions, padded=True)[None]
    short = turns(*runner.rope(hidden, positions))
    caches = {wanted: KeyValueCache(runner.num_layers) for wanted in ("all", "last", "none")}
    found = {wanted: runner._lean[0](hidden, mask, short, cache, wanted) for wanted, cache in caches.items()}
    assert found["none"].shape == (2, 0, 64)
    assert found["last"].shape == (2, 1, 64)
    near = 1e-5 if dtype == torch.float32 else 0.05
    assert torch.allclose(found["last"], found["all"][:, -1:], atol=near)
    for part in ("last", "none"):
        assert torch.equal(caches[part].keys(0), caches["all"].keys(0))
        assert torch.equal(caches[part].values(0), caches["all"].values(0))


class Noted:
    """A block that notes what is wanted of it."""

    def __init__(self, block):
        self.block, self.asked = block, []

    def __call__(self, hidden, mask, tables, cache, wanted="all"):
        self.asked.append((tuple(hidden.shape[:2]), wanted))
        return self.block(hidden, mask, tables, cache, wanted)

    def look(self):
        self.block.look()


def test_prompts_behind_a_prefix_run_no_more_of_the_last_block_than_is_read():
    runner = runner_of()
    runner._lean[:] = noted = [Noted(block) for block in runner._lean]
    visual = torch.randn(9, 64)
    asked = [Request(Prompt((1, 5), text, (0, 1)), visual, 6) for text in ((11, 12), (13,))]
    decoder = Decoder(runner, frozenset({2}), 64)
    shared = decoder.prefill(asked)
    whole = decoder.prefill(asked, share_prefix=False)
    assert torch.allclose(shared.logits, whole.logits, atol=1e-5)
    for index, block in enumerate(noted):
        parts = ("none", "last") if index + 1 == len(noted) else ("all", "all")
        assert block.asked == [((1, 11), parts[0]), ((2, 2), parts[1]), ((2, 13), "all")], f"block {index}"
