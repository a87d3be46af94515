#!/usr/bin/env bash
# Four FLOP counters, one Llama, two attention kernels that compute the same: what does a prompt cost?
#
# Expected: ptflops counts the same for eager and for sdpa attention, in both of its backends, since it follows functional calls as
#   well as layers, and so does calflops; thop, known for adding up layers, misses the attention under either kernel.
# Happens: under sdpa, transformers' default, ptflops (pytorch and aten), calflops and torch's own FlopCounterMode on a CPU see the
#   linear layers and nothing of the attention; under eager they see it whole. The one that counts the attention under both is
#   ultralytics-thop.
# Versions: torch 2.13.0 (CPU), transformers 5.24.0, ptflops 0.7.5, calflops 0.3.2, ultralytics-thop 2.2.3. Run on 2026-11-30.
# Matters: attention is the part that falls with the square of the tokens. A table of "FLOPs left after pruning" measured under
#   the default kernel says less is saved than is, and tables made with other kernels or counters are not comparable.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
venv=${FINDINGS_VENV:-$work/venv} # a folder of yours is kept and used again
"${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/pip" install -q --no-compile --disable-pip-version-check torch==2.13.0 transformers==5.24.0 numpy==2.4.6 \
  accelerate==1.15.0 calflops==0.3.2 ptflops==0.7.5 ultralytics-thop==2.2.3
cd "$work"
HF_HUB_OFFLINE=1 CUDA_VISIBLE_DEVICES='' "$venv/bin/python" - <<'PY'
import contextlib
import io
import warnings
from importlib.metadata import version

import thop
import torch
import transformers
from calflops import calculate_flops
from ptflops import get_model_complexity_info
from torch.utils.flop_counter import FlopCounterMode

warnings.simplefilter("ignore")
transformers.logging.set_verbosity_error()
print({name: version(name) for name in ("torch", "transformers", "ptflops", "calflops", "ultralytics-thop")})
WIDTH, INNER, LAYERS, VOCABULARY = 256, 512, 2, 512


def build(kernel):
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=INNER, num_hidden_layers=LAYERS, num_attention_heads=4,
        use_cache=False, attn_implementation=kernel,
    )
    return transformers.LlamaForCausalLM(config).eval()


def by_torch(model, ids):
    with FlopCounterMode(display=False) as counter:
        model(ids)
    return counter.get_total_flops()


def by_ptflops(model, ids, backend):
    macs, _ = get_model_complexity_info(
        model, (ids.shape[1],), input_constructor=lambda _: {"input_ids": ids}, as_strings=False, print_per_layer_stat=False, backend=backend,
    )
    return 2 * macs


def by_calflops(model, ids):
    return calculate_flops(model=model, kwargs={"input_ids": ids}, output_as_string=False, print_results=False, print_detailed=False)[0]


counters = {
    "torch, cpu": by_torch,
    "ptflops pytorch": lambda model, ids: by_ptflops(model, ids, "pytorch"),
    "ptflops aten": lambda model, ids: by_ptflops(model, ids, "aten"),
    "calflops": by_calflops,
    "ultralytics-thop": lambda model, ids: 2 * thop.profile(model, inputs=(ids,), verbose=False)[0],
}
whole, kept = 512, 128
seen = {}
with torch.no_grad():
    for name, count in counters.items():
        for kernel in ("eager", "sdpa"):
            cost = {}
            for tokens in (whole, kept):
                ids = torch.arange(tokens)[None] % VOCABULARY
                with contextlib.redirect_stdout(io.StringIO()):
                    cost[tokens] = count(build(kernel), ids)
            linear = 2 * whole * (LAYERS * (4 * WIDTH**2 + 3 * WIDTH * INNER) + WIDTH * VOCABULARY)
            attention = LAYERS * 4 * whole**2 * WIDTH
            seen[name, kernel] = (cost[whole] - linear) / attention
            left = 100 * cost[kept] / cost[whole]
            print(f"{name:17} {kernel:5}  {cost[whole] / 1e9:.3f} GFLOPs, of the attention {seen[name, kernel]:.2f}; {kept} of {whole} tokens cost {left:.1f} %")

blind = {"torch, cpu", "ptflops pytorch", "ptflops aten", "calflops"}
for (name, kernel), share in seen.items():
    right = 0 if name in blind and kernel == "sdpa" else 1
    assert abs(share - right) < 0.03, (name, kernel, share)
print("as recorded")
PY
