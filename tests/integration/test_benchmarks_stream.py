"""Two hundred thousand rows pass through in bounded memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests import hub_layouts

ROWS, GROUP, PER_PICTURE, PICTURE_BYTES = 200_000, 1_000, 5, 2_000
MAX_GROWTH_MIB = 160

READ = """
import sys
from hero_ray.benchmarks import get

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20

benchmark = get("vqav2_val", data=sys.argv[1], image_keys="bytes")
first = next(benchmark.samples(1))
before, peak, rows, pictures = resident(), 0.0, 0, set()
for sample in benchmark.samples():
    rows += 1
    pictures.add(hash(sample.image_key))
    if rows % 2000 == 0:
        peak = max(peak, resident())
print(rows, len(pictures), round(peak - before, 1))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory from /proc")
def test_memory_stays_bounded(tmp_path: Path) -> None:
    schema, rows = hub_layouts.LAYOUTS["vqav2_val"][0][1]()
    answers = rows[0]["answers"]
    layout = pa.schema(list(schema.items()))
    with pq.ParquetWriter(tmp_path / "validation-00000-of-00001.parquet", layout, compression="NONE") as writer:
        for start in range(0, ROWS, GROUP):
            numbers = range(start, start + GROUP)
            table = {
                "question_type": ["what"] * GROUP,
                "multiple_choice_answer": ["yes"] * GROUP,
                "answers": pa.array([answers] * GROUP, schema["answers"]),
                "image_id": [n // PER_PICTURE for n in numbers],
                "answer_type": ["other"] * GROUP,
                "question_id": list(numbers),
                "question": [f"What is {n}?" for n in numbers],
                "image": pa.array(
                    [{"bytes": (n // PER_PICTURE).to_bytes(4) * (PICTURE_BYTES // 4), "path": ""} for n in numbers],
                    hub_layouts.IMAGE,
                ),
            }
            writer.write_table(pa.table(table, schema=layout))
    done = subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path)], capture_output=True, text=True, check=False, timeout=250
    )
    assert done.returncode == 0, done.stderr
    count, pictures, growth = done.stdout.split()
    assert (int(count), int(pictures)) == (ROWS, ROWS // PER_PICTURE)
    assert float(growth) < MAX_GROWTH_MIB, f"resident memory grew by {growth} MiB"
    print(f"resident memory grew by {growth} MiB over {count} rows")
