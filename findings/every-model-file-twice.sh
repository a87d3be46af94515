#!/usr/bin/env bash
# How many model files does importing transformers read, and does its cache spare the second look?
#
# Expected: none or few: names are resolved lazily, and the scan that lists them is behind an lru_cache, so that
#   `transformers.models`, which scans the same folder again, finds it there.
# Happens: `import transformers` opens every file of every architecture (1,698 of them) to read its `__all__`; importing any model
#   opens all of them once more. The cache holds 128 folders, as a bare lru_cache does, and the walk passes 561, in the same order
#   both times: 0 hits.
# Versions: transformers 5.24.0. Run on 2026-12-01; 0.5 s of processor time for the second look on the machine it ran on.
# Matters: every process that loads a model pays for both looks, each worker of a pool and each test that starts one; on a network
#   file system they are 3,396 opened files a process.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
venv=${FINDINGS_VENV:-$work/venv} # a folder of yours is kept and used again
"${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/pip" install -q --no-compile --disable-pip-version-check transformers==5.24.0
cd "$work"
"$venv/bin/python" - <<'PY'
import sys
from collections import Counter

opened = Counter()


def watch(event, given):
    if event == "open" and isinstance(given[0], str) and given[0].endswith(".py") and "/transformers/models/" in given[0]:
        opened[given[0]] += 1


sys.addaudithook(watch)
import transformers  # noqa: E402

first = dict(opened)
import transformers.models  # noqa: E402

times = Counter(opened[name] for name in first)
from transformers.utils.import_utils import create_import_structure_from_path  # noqa: E402

cache = create_import_structure_from_path.cache_info()
print(f"{len(first)} files opened by `import transformers`; after `import transformers.models` this often: {dict(times)}")
print(f"cache: {cache.hits} hits, {cache.misses} misses, room for {cache.maxsize}")
assert len(first) > 1_500 and set(first.values()) == {1}
assert times == {2: len(first)}
assert cache.hits == 0 and cache.maxsize == 128 and cache.misses > 1_000
PY
