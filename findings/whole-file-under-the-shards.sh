#!/usr/bin/env bash
# Which weights does a folder hold that was saved twice, first as one file and then in shards?
#
# Expected: the ones saved last; either saving takes the earlier file away, or loading goes by the index of the shards.
# Happens: save_pretrained in shards leaves the earlier model.safetensors where it is, and from_pretrained takes that one file
#   and never opens the index. The OLD weights are loaded, with no missing and no unexpected key and no warning. The other
#   way round, one file over shards, the shards are removed and the new weights are loaded.
# Versions: transformers 5.24.0, torch 2.13.0. Run on 2026-11-30.
# Matters: a fine-tuned or merged checkpoint that has grown beyond one shard, or is saved with a smaller shard size for a hub's
#   limit, is evaluated as the model it was before. Its score looks like "training changed nothing".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
venv=${FINDINGS_VENV:-$work/venv} # a folder of yours is kept and used again
"${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/pip" install -q --no-compile --disable-pip-version-check torch==2.13.0 transformers==5.24.0 numpy==2.4.6
cd "$work"
HF_HUB_OFFLINE=1 "$venv/bin/python" - <<'PY'
import copy
import warnings
from pathlib import Path

import torch
import transformers

warnings.simplefilter("ignore")
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
torch.manual_seed(0)
tiny = transformers.LlamaConfig(
    vocab_size=300, hidden_size=64, intermediate_size=128, num_hidden_layers=4, num_attention_heads=4
)
before = transformers.LlamaForCausalLM(tiny).eval()
after = copy.deepcopy(before)
for weight in after.parameters():
    weight.data.mul_(1.1)
question = torch.arange(8)[None]


def saved_twice(folder, first_size, second_size):
    before.save_pretrained(folder, max_shard_size=first_size)
    after.save_pretrained(folder, max_shard_size=second_size)
    loaded, report = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    answer = loaded(question).logits
    which = {name: torch.equal(answer, one(question).logits) for name, one in {"old": before, "new": after}.items()}
    left = len(list(Path(folder).glob("*.safetensors")))
    print(f"{folder}: {left} weight files, loaded is {which}, said {({key: len(value) for key, value in report.items()})}")
    assert not any(report.values())
    return which


assert saved_twice("shards-over-one-file", "1GB", "200KB") == {"old": True, "new": False}
assert saved_twice("one-file-over-shards", "200KB", "1GB") == {"old": False, "new": True}
print("as recorded")
PY
