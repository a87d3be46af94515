"""Faults of the hub: before the plan each is one line and soon; behind it none of them becomes an answer."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.integration.hub_fixture import FIRST, ROWS, SHARDS, shards
from tests.loopback_hub import Fault

pytestmark = pytest.mark.slow

QUESTIONS = """
import json
from hero_ray.core import hub, hub_errors
from hero_ray.core.errors import HeroRayError
from hero_ray.benchmarks import get
hub.TIMEOUT_S, hub_errors.WAITS_S = 0.5, ()  # the client has patience of its own
try:
    told = [sample.question for sample in get("pope", **OPTIONS).samples()]
except HeroRayError as error:
    told = str(error)
print(json.dumps(told))
"""


def asked(**options):
    return QUESTIONS.replace("OPTIONS", repr(options))


@pytest.mark.parametrize("where", ["/api/datasets", "/tree/"])
def test_a_silent_hub_is_given_up(hub, ask, where):
    """It takes connections and never answers; the client alone would wait for ever."""
    hub.put(FIRST, shards())
    hub.faults.append(Fault(where, delay_s=6, times=99))
    told = ask(asked())
    assert f"the hub at {hub.url} does not answer, and the cache does not hold all of it" in told


def test_a_cut_body_goes_on_and_a_list_that_fails_says_so(hub, ask):
    files = shards(pad=50_000)
    hub.put(FIRST, files)
    hub.faults.append(Fault("GET large", cut_after=30_000))
    told = ask(asked())
    assert len(told) == SHARDS * ROWS
    hub.put(FIRST, files | {"data/test-00000-of-00004.parquet": files["data/test-00001-of-00004.parquet"]})
    hub.faults.append(Fault("/tree/", 500, 99))
    told = ask(asked())
    assert f"the hub at {hub.url} answered 500 to every attempt" in told
    assert "datasets/" not in told  # nor is any folder of this machine blamed


def test_pictures_beside_a_table_become_part_of_the_rows(hub, ask, tmp_path):
    """A folder of pictures with `metadata.jsonl`: converted once, whole without its files, and without a hub."""
    files, lines = {}, []
    for number in range(3):
        buffer = io.BytesIO()
        Image.new("RGB", (20 + number, 10), (number, 0, 0)).save(buffer, "PNG")
        files[f"test/{number}.png"] = buffer.getvalue()
        row = {
            "file_name": f"{number}.png",
            "question_id": str(number),
            "question": f"Is it {number}?",
            "answer": "yes",
        }
        lines.append(json.dumps(row | {"image_source": f"p{number}", "category": "random"}))
    hub.put("datasets/someone/folder", files | {"test/metadata.jsonl": "\n".join(lines).encode()})
    code = """
import json
from hero_ray.core import hub
from hero_ray.benchmarks import get
said = []
with hub.reporting(said.append):
    pope = get("pope", hub="someone/folder")
    samples = list(pope.samples())
sizes = [pope.load_image(sample.image_ref).size for sample in samples]
print(json.dumps([sizes, pope.fingerprint(), [str(file) for file in pope.table.files], said]))
"""
    sizes, content, [file], said = ask(code)
    assert sizes == [[20, 10], [21, 10], [22, 10]]
    assert said[0].startswith("fetching dataset someone/folder: ")
    assert said[0].endswith(" in 4 files")
    assert Path(file).is_relative_to(tmp_path / "home")
    for picture in (tmp_path / "home").rglob("*.png"):
        picture.unlink()
    hub.log.clear()
    assert ask(code, HF_HUB_OFFLINE="1")[:3] == [sizes, content, [file]]
    assert hub.log == []


LATE = """
import glob, json, os, sys
from hero_ray.core.config import build
from hero_ray.core.errors import HeroRayError
from hero_ray.engine.evaluate import Settings
from hero_ray.pipeline.facts import make_plan
from hero_ray.pipeline.model_turns import pending_units
from hero_ray.pipeline.run import _create_run
from hero_ray.pipeline.orders import WorkerJob, pack_unit
from hero_ray.pipeline.worker import UnitWorker
from hero_ray.store import open_store
store = open_store("sqlite:///{db}")
plan = make_plan(build({{"models": ["hero-tiny"], "methods": ["full"], "tasks": ["pope"]}}))
run = _create_run(plan, store, "test", None, fresh=False)
print("planned", flush=True)
sys.stdin.readline()
job = WorkerJob(run, "sqlite:///{db}", "hero-tiny", {{"dtype": "float32"}}, plan.cells, plan.tasks, Settings(),
                commits=plan.commits)
def answer(worker, units):
    try:
        worker({{"unit": [pack_unit(unit) for unit in units]}})
        return ""
    except HeroRayError as error:
        return f"{{type(error).__name__}}: {{error}}"
def counts():
    found, pending = store.counts(run).values(), pending_units(plan, store, run, "hero-tiny")
    return [sum(one.done for one in found), sum(one.failed for one in found), len(pending)]
worker = UnitWorker(job)
told = [answer(worker, plan.units[:1]), counts()]
files = glob.glob(os.environ["HF_HOME"] + "/hub/datasets--*/snapshots/*/data/test-*")
kept = {{file: open(file, "rb").read() for file in files}}
for file in files:
    open(os.path.realpath(file), "wb").close()
told += [answer(worker, plan.units[1:]), counts()]
for file, body in kept.items():
    open(os.path.realpath(file), "wb").write(body)
told += [answer(UnitWorker(job), plan.units), counts()]
print(json.dumps(told))
"""


def test_rows_lost_in_the_middle_end_the_worker_and_are_no_answers(hub, tmp_path):
    """The hub dies and a commit is published behind the plan; then the files break under the worker."""
    files = shards()
    hub.put(FIRST, files)
    env = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    env |= {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    env.pop("HERO_RAY_DATA", None)
    process = subprocess.Popen(
        [sys.executable, "-c", LATE.format(db=tmp_path / "results.db")],
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout.readline().strip() == "planned", process.communicate()[1][-2000:]
    hub.put(FIRST, files | {"data/test-00000-of-00004.parquet": files["data/test-00001-of-00004.parquet"]})
    hub.__exit__()
    out, err = process.communicate("go\n", timeout=400)
    assert process.returncode == 0, err[-2000:]
    begun, one, broken, still, again, whole = json.loads(out.strip().splitlines()[-1])
    assert (begun, again) == ("", "")
    assert broken.startswith("DatasetError: ")
    assert "the data changed" in broken
    answered, failed, pending = one
    assert (answered > 0, failed, pending > 0) == (True, 0, True)
    assert still[1] == 0  # no answer was booked for what the worker could not read
    assert still[2] > 0
    assert whole[1:] == [0, 0]
    assert whole[0] > still[0] >= answered
