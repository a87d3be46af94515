#!/usr/bin/env bash
# Two requests, each with its own cache, on one Qwen-VL: does the second move the first one's tokens?
#
# Expected: a cached greedy decode of request A (its own past_key_values, one token at a time) gives the same tokens
#   whether or not request B's picture is read by the same model object in between: what a request needs is in its
#   cache and its arguments.
# Happens: Qwen2-VL, Qwen2.5-VL and Qwen3-VL keep `rope_deltas`, the shift between tokens and positions that a picture
#   causes, on the MODEL. B's prefill replaces it, and every later token of A stands B's shift away: other tokens, no
#   warning. A text prompt without any picture is moved just so. `generate` resets the shift at its own prefill and is not hit.
# Versions: transformers 5.24.0, torch 2.13.0. Run on 2026-11-30.
# Matters: evaluators of pruned tokens write their own decode loops (masks, evictions and timing per step want one), and
#   interleave requests. Answers then depend on which picture was read last. Pruning changes the shift as well as the cache.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
venv=${FINDINGS_VENV:-$work/venv} # a folder of yours is kept and used again
"${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/pip" install -q --no-compile --disable-pip-version-check torch==2.13.0 transformers==5.24.0 pillow==13.0.0 numpy==2.4.6
cd "$work"
HF_HUB_OFFLINE=1 "$venv/bin/python" - <<'PY'
import warnings

import numpy as np
import torch
import transformers as t
from PIL import Image

warnings.simplefilter("ignore")
t.logging.set_verbosity_error()
text = dict(vocab_size=300, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e4}
marks = dict(image_token_id=290, video_token_id=291, vision_start_token_id=292, vision_end_token_id=293)
small = dict(num_heads=4, hidden_size=32, out_hidden_size=64, intermediate_size=64)
families = {
    "Qwen2VL": (dict(text, rope_parameters=rope), dict(depth=2, embed_dim=32, hidden_size=64, num_heads=4, mlp_ratio=2), 14),
    "Qwen2_5_VL": (dict(text, rope_parameters=rope), dict(small, depth=2, fullatt_block_indexes=[1], window_size=56), 14),
    "Qwen3VL": (
        dict(text, head_dim=16, rope_parameters=dict(rope, mrope_interleaved=True)),
        dict(small, depth=2, deepstack_visual_indexes=[0], num_position_embeddings=64),
        16,
    ),
}
print(f"transformers {t.__version__}, torch {torch.__version__}")
STEPS = 16


def request(processor, size, words):
    """Arguments of a first call about one picture of noise."""
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    cut = processor(images=[Image.fromarray(noise)], return_tensors="pt")
    ids = torch.tensor([[5, 6, 292] + [290] * int(cut["image_grid_thw"].prod() // 4) + [293] + words])
    return dict(input_ids=ids, attention_mask=torch.ones_like(ids), mm_token_type_ids=(ids == 290).long(), **cut)


def decode(model, asked, between=None):
    """Greedy tokens of one request in its own cache; `between` is another request, read once after the prefill."""
    out = model(**asked, use_cache=True)
    if between is not None:
        model(**between, use_cache=True)
    tokens = []
    for _ in range(STEPS):
        tokens.append(int(out.logits[0, -1].argmax()))
        out = model(input_ids=torch.tensor([tokens[-1:]]), past_key_values=out.past_key_values, use_cache=True)
    return tokens


for name, (words, pictures, patch) in families.items():
    torch.manual_seed(1)
    config = getattr(t, name + "Config")(text_config=words, vision_config=pictures, **marks)
    model = getattr(t, name + "ForConditionalGeneration")(config).eval()
    for weight in model.parameters():
        if weight.dim() > 1:
            weight.data.mul_(6)  # random weights of the usual size say one token for ever
    processor = t.Qwen2VLImageProcessorPil(patch_size=patch)
    first, second = request(processor, (280, 420), [7, 8, 9]), request(processor, (560, 1120), [7, 11])
    plain = torch.tensor([[5, 9, 33, 44, 55, 66, 77, 88]])
    only_text = dict(input_ids=plain, attention_mask=torch.ones_like(plain))
    with torch.no_grad():
        text_alone = decode(model, only_text)  # before this model has seen any picture
        alone, again, crossed = decode(model, first), decode(model, first), decode(model, first, second)
        shifts = []
        for asked in (first, second):
            model(**asked)
            shifts.append(int(model.model.rope_deltas))
        text_crossed = decode(model, only_text)
        generated = model.generate(**first, max_new_tokens=STEPS, do_sample=False, eos_token_id=None, pad_token_id=0)
    generated = generated[0, first["input_ids"].shape[1] :].tolist()
    moved, text_moved = (sum(a != b for a, b in zip(x, y)) for x, y in ((alone, crossed), (text_alone, text_crossed)))
    print(f"{name:11} rope_deltas of A and B {shifts}: tokens of A that B changes {moved} of {STEPS}, of a text prompt {text_moved} of {STEPS}")
    print(f"{'':11} A alone {alone}\n{'':11} A and B {crossed}")
    assert alone == again == generated, "not even alone the same"
    assert moved > 0 and text_moved > 0, "the state is no longer shared"
print("as recorded")
PY
