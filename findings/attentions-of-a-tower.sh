#!/usr/bin/env bash
# `output_attentions=True` on the vision tower of a Qwen-VL: what comes back?
#
# Expected: with eager attention, one matrix of weights a block, [heads, patches, patches] in some order of axes, every
#   row summing to 1, as CLIP's tower gives; or None, or an error, where a tower does not hand them out.
# Happens: Qwen2-VL, Qwen2.5-VL and Qwen3-VL give `attentions` of the right length that hold [patches, width]: what the
#   attention module returns, its OUTPUT, is recorded under that name. Values are negative as often as not. Nothing is said.
# Versions: transformers 5.24.0, torch 2.13.0. Run on 2026-11-30.
# Matters: pruning methods rank patches by the attention they receive. A port that averages the first axes of
#   `attentions` gets `width` numbers, and where it takes as many of them as it needs, it ranks features, not patches.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
venv=${FINDINGS_VENV:-$work/venv} # a folder of yours is kept and used again
"${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/pip" install -q --no-compile --disable-pip-version-check torch==2.13.0 transformers==5.24.0 pillow==13.0.0 numpy==2.4.6
cd "$work"
HF_HUB_OFFLINE=1 "$venv/bin/python" - <<'PY'
import warnings

import torch
import transformers as t

warnings.simplefilter("ignore")
t.logging.set_verbosity_error()
print(f"transformers {t.__version__}, torch {torch.__version__}")
torch.manual_seed(1)

clip = t.CLIPVisionModel._from_config(
    t.CLIPVisionConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4, image_size=64, patch_size=8),
    attn_implementation="eager",
).eval()
with torch.no_grad():
    weights = clip(torch.randn(1, 3, 64, 64), output_attentions=True).attentions
print(f"{'CLIP':11} {[tuple(one.shape) for one in weights]}, rows sum to {weights[0].sum(-1).mean():.3f}")
assert all(one.shape == (1, 4, 65, 65) for one in weights) and torch.allclose(weights[0].sum(-1), torch.ones(1, 4, 65))

text = dict(vocab_size=300, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e4}
small = dict(depth=3, num_heads=4, hidden_size=32, out_hidden_size=64, intermediate_size=64)
families = {
    "Qwen2VL": (dict(text, rope_parameters=rope), dict(depth=3, embed_dim=32, hidden_size=64, num_heads=4, mlp_ratio=2), 14),
    "Qwen2_5_VL": (dict(text, rope_parameters=rope), dict(small, fullatt_block_indexes=[2], window_size=56), 14),
    "Qwen3VL": (
        dict(text, head_dim=16, rope_parameters=dict(rope, mrope_interleaved=True)),
        dict(small, deepstack_visual_indexes=[0], num_position_embeddings=64),
        16,
    ),
}
ROWS, COLUMNS, WIDTH = 8, 12, 32
for name, (words, pictures, patch) in families.items():
    config = getattr(t, name + "Config")(text_config=words, vision_config=pictures)
    whole = getattr(t, name + "ForConditionalGeneration")._from_config(config, attn_implementation="eager").eval()
    tower = whole.model.visual
    kept = []
    handles = [block.attn.register_forward_hook(lambda module, given, output: kept.append(output)) for block in tower.blocks]
    pixels = torch.randn(ROWS * COLUMNS, 3 * 2 * patch * patch)
    with torch.no_grad():
        told = tower(pixels, grid_thw=torch.tensor([[1, ROWS, COLUMNS]]), output_attentions=True).attentions
    for handle in handles:
        handle.remove()
    print(f"{name:11} {[tuple(one.shape) for one in told]}, least value {min(float(one.min()) for one in told):.4f}")
    assert tower.config._attn_implementation == "eager"
    assert [tuple(one.shape) for one in told] == [(ROWS * COLUMNS, WIDTH)] * 3, "attentions have another shape now"
    assert all(torch.equal(one, output) for one, output in zip(told, kept, strict=True)), "no longer the module's output"
    assert min(float(one.min()) for one in told) < 0
print("as recorded")
PY
