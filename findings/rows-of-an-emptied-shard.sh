#!/usr/bin/env bash
# What does a Parquet reader say of a shard that loses its bytes while it is being read?
#
# Expected: an error, whatever the reader's options: the footer, read when the file was opened, still promises the rows.
# Happens: by default, yes ("File too short"). With pre_buffer=False and a buffer_size, the two options that keep memory low
#   on shards full of pictures, the row group comes back with 0 of its 4 rows, and iter_batches ends early. No error, no warning.
#   A file cut in its middle instead of emptied is noticed under the same options.
# Versions: pyarrow 26.0.1. Run on 2026-11-30.
# Matters: shards are emptied under a reader by a cache that is cleaned or a disk that fills up. A benchmark then has fewer
#   questions than it had a minute ago and its score is a mean over what was left; only a count against the footer tells.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
venv=${FINDINGS_VENV:-$work/venv} # a folder of yours is kept and used again
"${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/pip" install -q --no-compile --disable-pip-version-check pyarrow==26.0.1
cd "$work"
"$venv/bin/python" - <<'PY'
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

shard = Path("shard.parquet")


def opened(**options):
    rows = {"question": [f"q{i}" for i in range(8)], "picture": [bytes(200_000)] * 8}
    pq.write_table(pa.table(rows), shard, row_group_size=4, compression="none", use_dictionary=False)
    reader = pq.ParquetFile(shard, **options)
    assert reader.read_row_group(0).num_rows == 4
    return reader


def second_group(reader):
    try:
        return f"{reader.read_row_group(1).num_rows} of {reader.metadata.row_group(1).num_rows} rows"
    except OSError as error:
        return str(error).split(":")[0]


seen = {}
for name, options in {
    "defaults": {},
    "pre_buffer=False": {"pre_buffer": False},
    "buffer_size": {"buffer_size": 2**20},
    "both": {"pre_buffer": False, "buffer_size": 2**20},
}.items():
    reader = opened(**options)
    shard.write_bytes(b"")
    emptied = second_group(reader)
    reader = opened(**options)
    shard.write_bytes(shard.read_bytes()[:900_000])
    seen[name] = (emptied, second_group(reader))
    print(f"{name:18} emptied: {emptied:18} cut: {seen[name][1]}")

reader, batched = opened(pre_buffer=False, buffer_size=2**20), 0
for batch in reader.iter_batches(batch_size=4):
    batched += batch.num_rows
    shard.write_bytes(b"")
print("iter_batches with both:", batched, "of 8 rows")

short = "File too short"
assert [emptied for emptied, _ in seen.values()] == [short, short, short, "0 of 4 rows"], seen
assert [cut for _, cut in seen.values()] == [short, short, short, "Unexpected end of stream"], seen
assert batched == 4
print("as recorded")
PY
