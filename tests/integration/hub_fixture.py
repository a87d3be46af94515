"""A loopback hub with somebody's model and data, and a fresh process with an empty cache that asks it."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from hero_ray.benchmarks.pope import Pope
from hero_ray.models.registry import EMBEDDED_WEIGHTS
from tests import hub_layouts
from tests.loopback_hub import LoopbackHub

MODEL = "someone/tiny"


def model_files(seed=0):
    """hero-tiny as somebody's repository, with files that nobody should ask for beside it; `seed` moves a weight."""
    folder = EMBEDDED_WEIGHTS / "hero-tiny"
    paths = [path for path in folder.rglob("*") if path.is_file()]
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    files |= {"pytorch_model.bin": b"no", "modeling.py": b"no", "model.onnx": b"no"}
    weights = bytearray(files["model.safetensors"])
    weights[-1] ^= seed
    return files | {"model.safetensors": bytes(weights)}


def data_files(folder):
    """POPE's repository: its split, a `train` shard beside it, and a card that names the files."""
    hub_layouts.write(folder, "pope")
    [path] = list((folder / "pope").rglob("*.parquet"))
    card = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: test\n    path: data/test-*\n---\n"
    files = {"README.md": card.encode(), "data/test-00000-of-00001.parquet": path.read_bytes()}
    return files | {"data/train-00000-of-00001.parquet": b"nobody asks for this"}


FIRST = f"datasets/{Pope.source.ids[0]}"
SHARDS, ROWS = 4, 3


def shards(pad=0):
    """POPE in four files of three rows, each `pad` bytes larger than it need be."""
    schema, rows = hub_layouts.LAYOUTS["pope"][0][1]()
    files = {}
    for number in range(SHARDS):
        made = [
            row | {"question_id": f"{number}-{at}", "question": f"Shard {number}?", "image_source": f"{number}-{at}"}
            for at, row in enumerate(rows[:ROWS])
        ]
        table = hub_layouts.table(schema, made)
        table = table.replace_schema_metadata({**table.schema.metadata, b"pad": b"x" * pad})
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        files[f"data/test-{number:05}-of-{SHARDS:05}.parquet"] = buffer.getvalue()
    card = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: test\n    path: data/test-*\n---\n"
    return files | {"README.md": card.encode(), "data/train-00000-of-00001.parquet": b"x" * 1_000_000}


@pytest.fixture
def hub():
    with LoopbackHub() as running:
        yield running


@pytest.fixture
def ask(tmp_path, hub):
    """Runs a piece of Python against the hub; what it prints as JSON, or the last line of its error."""

    def run(code, **environment):
        env = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_TELEMETRY": "1"}
        env |= {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        for name in ("HERO_RAY_DATA", "HF_HUB_OFFLINE", "HF_TOKEN"):
            env.pop(name, None)
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=env | environment,
            capture_output=True,
            text=True,
            timeout=400,
            cwd=Path(__file__).parents[2],
            check=False,
        )
        if done.returncode:
            return done.stderr.strip().splitlines()[-1]
        return json.loads(done.stdout.strip().splitlines()[-1])

    return run
