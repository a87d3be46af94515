"""What is fetched from the hub: its size before, its progress, no more of it than a limit reads, and its faults."""

import pytest

from hero_ray.benchmarks.pope import Pope
from hero_ray.core.text import in_bytes
from tests.integration.hub_fixture import FIRST, MODEL, ROWS, SHARDS, model_files, shards

pytestmark = pytest.mark.slow

STEPS = """
import contextlib, io, json, os, urllib.error, urllib.request
from hero_ray.cli.run import run_sweep
from hero_ray.core import hub, hub_sizes
from hero_ray.core.config import build
from hero_ray.core.errors import HeroRayError
from hero_ray.pipeline.facts import make_plan
hub_sizes.EVERY_S = 0.1

def sweep(limit=None, model="hero-tiny", methods=("full",), task="pope"):
    return build({"models": [model], "methods": [*methods], "budgets": [0.2], "tasks": [task], "limit": limit})

def read(*args, **kwargs):  # [questions, fingerprint, what was said]
    said, config = [], sweep(*args, **kwargs)
    with hub.reporting(said.append):
        plan = make_plan(config)
    [task] = plan.benchmarks.values()
    return [[sample.question for sample in plan.samples], task.fingerprint(), said]

def dry(*args, **kwargs):  # [lines about fetching, the first other one, error]
    text, error = io.StringIO(), ""
    try:
        with contextlib.redirect_stdout(text):
            run_sweep(sweep(*args, **kwargs), dry_run=True)
    except HeroRayError as caught:
        error = str(caught)
    lines = text.getvalue().splitlines()
    return [[line for line in lines if "would fetch" in line], lines[:1], error]

def step(name, *told):  # the hub's log says where one ends
    steps[name] = told
    with contextlib.suppress(urllib.error.HTTPError):
        urllib.request.urlopen(os.environ["HF_ENDPOINT"] + "/end/of/" + name)

steps = {}
"""


@pytest.fixture
def walk(ask, hub):
    """Runs steps in one process: (what each told, numbers of the shards and names of other large files it fetched)."""

    def run(code, **environment):
        hub.log.clear()
        told = ask(STEPS + code + "\nprint(json.dumps(steps))", **environment)
        assert isinstance(told, dict), told
        fetched, now = {}, []
        for line in hub.log:
            if " /end/of/" in line:
                fetched[line.rpartition("/")[2]], now = sorted(now), []
            elif line.startswith("GET large"):
                name = line.rpartition("/")[2]
                now.append(int(name[5:10]) if name.startswith("test-") else name)
        return told, fetched

    return run


def test_a_limit_fetches_the_shards_it_reads_and_no_others(hub, walk):
    hub.put(FIRST, shards())
    told, fetched = walk("""
for name, limit in {"three": 3, "four": 4, "all": None, "again": 3}.items():
    step(name, *read(limit))
""")
    assert {name: one[0] for name, one in told.items()} == {
        "three": ["Shard 0?"] * 3,
        "four": ["Shard 0?"] * 3 + ["Shard 1?"],
        "all": [f"Shard {number}?" for number in range(SHARDS) for _ in range(ROWS)],
        "again": ["Shard 0?"] * 3,
    }
    # Three rows fill the first file, so the next one is not looked into; what is there is not fetched again.
    assert fetched == {"three": [0], "four": [1], "all": [2, 3], "again": []}
    # The same limit is the same cell, whatever lies in the cache by now.
    assert told["three"][1] == told["again"][1] != told["four"][1]
    assert ["fetching" in " ".join(one[2]) for one in told.values()] == [True, True, True, False]
    assert told["three"][2][0].startswith(f"fetching dataset {Pope.source.ids[0]}: ")
    hub.__exit__()  # nor does it need a hub
    offline, _ = walk('steps["three"] = read(3)', HF_HUB_OFFLINE="1")
    assert offline["three"][:2] == told["three"][:2]


def test_shards_come_in_parallel_and_say_how_far_they_are(hub, walk):
    hub.put(FIRST, shards(pad=100_000))
    hub.pace_s = 0.4
    told, fetched = walk('step("all", *read())')
    assert fetched == {"all": [0, 1, 2, 3]}
    assert hub.busiest == SHARDS
    first, *progress, last = told["all"][2]
    assert first.endswith("KiB in 4 files")
    assert progress
    assert all(f" of {Pope.source.ids[0]} (" in line and line.endswith("%)") for line in progress)
    assert last.startswith(f"fetched {Pope.source.ids[0]} in ")


def would_fetch(name, files, of=None):
    some = f"{len(files)} of {of} files" if of else f"{len(files)} file{'s' * (len(files) > 1)}"
    return f"would fetch {name}: {in_bytes(sum(map(len, files)))} in {some}"


def test_a_dry_run_says_what_would_be_fetched_and_fetches_none_of_it(hub, walk):
    files = shards(pad=2**20)
    hub.put(FIRST, files)
    parts = [body for path, body in files.items() if "test-" in path]
    told, fetched = walk("""
step("all", *dry())
step("three", *dry(3))
read(3)
step("rest", *dry())
read()
step("none", *dry())
""")
    rows = f"dataset {Pope.source.ids[0]}"
    assert {name: one[0] for name, one in told.items()} == {
        "all": [would_fetch(rows, parts)],
        "three": [would_fetch(rows, parts[:1])],
        "rest": [would_fetch(rows, parts[1:], of=4)],
        "none": [],
    }
    assert [one[2] for one in told.values()] == [""] * 4
    assert told["all"][1][0].endswith("planned from configurations alone, since pope is not fetched yet")
    assert "planned from configurations" not in told["none"][1][0]
    assert fetched == {"all": [], "three": [], "rest": [0], "none": [1, 2, 3]}  # by the sweeps between


CLIP = "openai/clip-vit-large-patch14-336"


def test_clip_is_part_of_the_plan_of_those_who_read_it(hub, walk):
    every = model_files()
    files = {path: body for path, body in every.items() if not path.startswith("clip/")}
    hub.put(f"models/{MODEL}", files)
    asked = f'model="{MODEL}", task="synth-exist", limit=2'
    code = f"""
step("alone", *read({asked}))
for method in ("hero", "visiontrim"):
    try:
        step(method, read({asked}, methods=["full", method]))
    except HeroRayError as error:
        step(method, str(error))
"""
    told, fetched = walk(code)
    assert fetched["alone"] == ["model.safetensors"]
    assert len(told["alone"][0]) > 0  # CLIP is not there: who does not read it does not mind
    for method in ("hero", "visiontrim"):
        assert told[method][0].startswith(f"{CLIP} does not exist at {hub.url}, or is private")
        assert told[method][0].endswith("give --model-args clip=FOLDER, or leave them out")
    hub.put(f"models/{CLIP}", {path[5:]: body for path, body in every.items() if path.startswith("clip/")})
    told, fetched = walk(f"""
step("dry", *dry({asked}, methods=["hero"]))
step("hero", *read({asked}, methods=["hero"]))
""")
    [line] = told["dry"][0]
    assert line.startswith(f"would fetch model {CLIP}: ")
    assert told["dry"][2].startswith(f"{line.removeprefix('would fetch ')} not in the cache yet")
    assert fetched == {"dry": [], "hero": ["model.safetensors"]}
