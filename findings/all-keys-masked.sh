#!/usr/bin/env bash
# A query all of whose keys are masked with the dtype's smallest number: what does it attend to?
#
# Expected: as in float32, softmax over equal smallest numbers: the plain mean of all values, in every dtype; the kernels of
#   scaled_dot_product_attention and the spelt-out ("eager") form agree.
# Happens: float32 and bfloat16 do so. In float16 sdpa attends as if there were NO mask: its kernel adds -65504 in float32, where it
#   swallows no score, and a shift common to all keys falls out of the softmax. The spelt-out form in float16 keeps the
#   mean, so it parts from sdpa. A boolean mask, or -inf, gives zeros. Three answers to one mask.
# Versions: torch 2.13.0 (CPU). Run on 2026-11-30.
# Matters: dropping visual tokens by an additive mask (the usual way to emulate pruning inside the language model) leaves such rows:
#   padding on the left, and queries whose keys were all dropped. What they write into later layers and into scores averaged over queries
#   depends on dtype and kernel, and in float16 they read exactly the tokens that were said to be gone.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
venv=${FINDINGS_VENV:-$work/venv} # a folder of yours is kept and used again
"${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/pip" install -q --no-compile --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cd "$work"
"$venv/bin/python" - <<'PY'
import torch
from torch.nn.functional import scaled_dot_product_attention as sdpa

print("torch", torch.__version__)
KEYS, WIDTH, ROW = 24, 32, 3
draw = torch.Generator().manual_seed(0)
query, key, value = (torch.randn(1, 2, size, WIDTH, generator=draw) for size in (6, KEYS, KEYS))
visible = torch.ones(6, KEYS, dtype=torch.bool)
visible[ROW] = False


def eager(q, k, v, mask):
    return ((q @ k.transpose(-1, -2)) / WIDTH**0.5 + mask).softmax(-1, dtype=torch.float32).to(q.dtype) @ v


def nearest(row, q, k, v):
    """Which of three answers the row is: of no mask, the mean, or zeros."""
    answers = {"as if unmasked": sdpa(q, k, v)[:, :, ROW], "mean of the values": v.mean(-2), "zeros": torch.zeros_like(row)}
    gaps = {name: float((row - answer).abs().max()) for name, answer in answers.items()}
    name = min(gaps, key=gaps.get)
    assert gaps[name] < 0.03 < min(gap for other, gap in gaps.items() if other != name), gaps
    return name


seen = {}
for dtype in (torch.float32, torch.bfloat16, torch.float16):
    q, k, v = (part.to(dtype) for part in (query, key, value))
    lowest = torch.zeros(6, KEYS, dtype=dtype).masked_fill(~visible, torch.finfo(dtype).min)
    forms = {
        "sdpa, smallest number": sdpa(q, k, v, attn_mask=lowest),
        "eager, smallest number": eager(q, k, v, lowest),
        "sdpa, bool": sdpa(q, k, v, attn_mask=visible),
        "sdpa, -inf": sdpa(q, k, v, attn_mask=torch.zeros_like(lowest).masked_fill(~visible, float("-inf"))),
    }
    for form, out in forms.items():
        seen[form, dtype] = nearest(out[:, :, ROW], q, k, v)
        print(f"{str(dtype):15} {form:23} {seen[form, dtype]}")

for (form, dtype), name in seen.items():
    masked = "as if unmasked" if form.startswith("sdpa") and dtype == torch.float16 else "mean of the values"
    assert name == (masked if "smallest" in form else "zeros"), (form, dtype, name)
print("as recorded")
PY
