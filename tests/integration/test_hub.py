"""Models and data from a hub that was really asked: one commit for plan and workers, no hub needed behind the plan.

Each case is a process of its own with a fresh cache, since the client reads its address once.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hero_ray.benchmarks import get, get_class
from hero_ray.benchmarks.pope import Pope
from hero_ray.models.asking import shown_prompt
from hero_ray.models.checkpoints.plausible import read_config
from hero_ray.models.checkpoints.revision import revision
from hero_ray.models.supported import family_of
from tests import checkpoints, hub_layouts
from tests.integration.hub_fixture import MODEL, data_files, model_files
from tests.loopback_hub import Fault

pytestmark = pytest.mark.slow

FOLDER = """
import json
from hero_ray.models.sources import find_folder
print(json.dumps(str(find_folder("someone/tiny"))))
"""


def test_only_what_is_needed_is_fetched_and_the_configuration_comes_first(hub, ask):
    commit = hub.put(f"models/{MODEL}", model_files())
    folder = ask(FOLDER)
    assert folder.endswith(commit)
    got = [line.split("/")[-1] for line in hub.log if "/resolve/" in line and line.startswith("GET")]
    assert got[0] == "config.json"
    assert "chat_template.jinja" in got
    assert not {"pytorch_model.bin", "modeling.py", "model.onnx"} & set(got)
    assert len([line for line in hub.log if "large" in line]) == 2  # model and clip, from the other origin
    hub.log.clear()
    assert ask(FOLDER, HF_HUB_OFFLINE="1") == folder
    assert hub.log == []


STOCK = """
import json
import torch
from hero_ray import models
from hero_ray.models.asking import shown_prompt
from hero_ray.models.sources import find_folder
from hero_ray.models.stock_check import against_stock
torch.set_num_threads(1)
told = {}
for name in NAMES:
    ours = models.load(name, device="cpu")
    told[name] = [ours.info.family, ours.info.revision, shown_prompt(name, "what?")]
    if COMPARED:
        check = against_stock(ours, find_folder(name), 1)
        told[name] += [check.is_equal, check.logits]
print(json.dumps(told))
"""


def checkpoint_folders(root):
    """A miniature of every family and layout, by the name of what it stands for."""
    made = {name: checkpoints.LLAVA_NEXT[name] for name in ("mistral-7b", "llama3-8b", "72b")}
    for name, chosen in made.items():
        checkpoints.llava_next(chosen, root / name)
    checkpoints.llava_15(checkpoints.LLAVA_NEXT["llama3-8b"], root / "llava-1.5-llama3")
    checkpoints.llava_onevision(checkpoints.ONEVISION["onevision-0.5b"], root / "onevision-0.5b")
    for name in ("internvl2-4b", "internvl2-26b", "internvl3_5-8b"):
        checkpoints.internvl_chat(checkpoints.INTERNVL[name], root / name)
    checkpoints.internvl_hf(checkpoints.INTERNVL["internvl3-8b"], root / "internvl3-8b-hf")
    return sorted(path for path in root.iterdir() if path.is_dir())


def test_every_family_comes_from_the_hub_and_equals_transformers(hub, ask, tmp_path):
    folders = checkpoint_folders(tmp_path / "made")
    for folder in folders:
        files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        hub.put(f"models/org/{folder.name}", files | {"pytorch_model.bin": b"no", "modeling_internvl.py": b"no"})
    code = STOCK.replace("NAMES", repr([f"org/{folder.name}" for folder in folders]))
    told = ask(code.replace("COMPARED", "True"))
    for folder in folders:
        family, weights, prompt, equal, logits = told[f"org/{folder.name}"]
        assert (equal, logits) == (True, 0.0), folder.name
        assert family == family_of(read_config(folder), folder)
        assert weights == revision(folder)
        assert prompt == shown_prompt(str(folder), "what?")
    assert not hub.asked(".bin") + hub.asked(".py")
    hub.log.clear()
    assert ask(code.replace("COMPARED", "False"), HF_HUB_OFFLINE="1") == {name: one[:3] for name, one in told.items()}
    assert hub.log == []


REFUSED = """
import json
from hero_ray.core.errors import CheckpointError
from hero_ray.models.sources import find_folder
told = {}
for name in ("org/absent", "org/gated", "org/busy", "org/foreign", "org/patient"):
    try:
        told[name] = str(find_folder(name))
    except CheckpointError as error:
        told[name] = str(error)
print(json.dumps(told))
"""


def test_every_refusal_is_one_true_line_and_a_busy_hub_is_asked_again(hub, ask):
    for name in ("gated", "busy", "patient"):
        commit = hub.put(f"models/org/{name}", model_files())
    hub.put("models/org/foreign", model_files() | {"config.json": b'{"model_type": "qwen3_vl_moe"}'})
    hub.gated.add("models/org/gated")
    hub.faults += [
        Fault("/api/models/org/busy", 503, 99),
        Fault("/api/models/org/patient", 429, 1, {"Retry-After": "0"}),
    ]
    hub.faults += [Fault(f"GET large /{commit}", 503, 1)]
    told = ask(REFUSED)
    assert told["org/absent"].startswith(f"org/absent does not exist at {hub.url}, or is private")
    assert told["org/gated"].startswith(f"org/gated is gated: ask for access at {hub.url}/org/gated")
    assert told["org/busy"].startswith(f"org/busy: the hub at {hub.url} answered 503 to every attempt")
    assert told["org/foreign"].startswith("org/foreign: model_type is 'qwen3_vl_moe'")
    assert told["org/patient"].endswith(commit)
    assert all("\n" not in line for line in told.values())
    # Nothing but its configuration is fetched of what is refused for it.
    assert [line for line in hub.asked("org/foreign/resolve/") if "config.json" not in line] == []


def test_without_a_hub_and_with_an_empty_cache_one_line_says_so(ask):
    assert "cannot be reached" in ask(FOLDER, HF_ENDPOINT="http://127.0.0.1:9")


ROWS = """
import json
from hero_ray import benchmarks
found = benchmarks.get("pope")
print(json.dumps([found.fingerprint(), [sample.question for sample in found.samples(4)]]))
"""


def test_only_an_id_that_does_not_exist_means_the_next_one_and_the_cache_needs_no_hub(hub, ask, tmp_path):
    files = data_files(tmp_path / "rows")
    first, second = Pope.source.ids[:2]
    hub.put(f"datasets/{second}", files)
    read = ask(ROWS)
    assert len(read[1]) > 0
    assert not hub.asked("train")
    hub.log.clear()
    hub.put(f"datasets/{first}", files)
    hub.faults.append(Fault("GET large", 503, 99))
    assert f"{first}: the hub at" in ask(ROWS, HF_HOME=str(tmp_path / "other"))
    hub.log.clear()
    offline = ROWS.replace('get("pope")', f'get("pope", hub="{second}")')
    assert ask(offline, HF_HUB_OFFLINE="1") == read
    assert hub.log == []


EVERY = """
import json
from hero_ray.benchmarks import get
told = {}
for name in NAMES:
    opened = get(name)
    samples = list(opened.samples(2)) if name != "duts" else []
    pictures = [opened.load_image(sample.image_ref).size for sample in samples]
    told[name] = [opened.fingerprint(), [sample.question for sample in samples], pictures]
print(json.dumps(told))
"""


def repository(root, name):
    """A benchmark's repository, its card naming the files of every configuration."""
    source = get_class(name).source
    card = root / name / "README.md"
    paths = [path.relative_to(root / name).as_posix() for path in sorted((root / name).rglob("*.parquet"))]
    configs = "".join(
        f"- config_name: {path.split('/')[0] if source.config else 'default'}\n"
        f"  data_files:\n  - split: {source.split}\n    path: {path}\n"
        for path in paths
    )
    files = {path: (root / name / path).read_bytes() for path in paths}
    text = card.read_text() if card.is_file() else f"---\nconfigs:\n{configs}---\n"
    return f"datasets/{source.ids[0]}", files | {"README.md": text.encode()}


def joined(one, other):
    """The card of a repository that holds the files of both."""
    if one == other:
        return one.encode()
    found = {}
    for config in (config for card in (one, other) for config in yaml.safe_load(card.split("---")[1])["configs"]):
        found.setdefault(config["config_name"], []).extend(config["data_files"])
    configs = [{"config_name": name, "data_files": files} for name, files in found.items()]
    return f"---\n{yaml.safe_dump({'configs': configs})}---\n".encode()


def test_every_benchmark_comes_from_the_hub_and_again_from_its_cache(hub, ask, tmp_path):
    root = hub_layouts.write(tmp_path / "rows")
    published: dict[str, dict[str, bytes]] = {}
    for name in hub_layouts.LAYOUTS:  # some share a repository
        where, files = repository(root, name)
        cards = [one["README.md"].decode() for one in (published.get(where, files), files)]
        published[where] = published.get(where, {}) | files | {"README.md": joined(*cards)}
    for where, files in published.items():
        hub.put(where, files)
    code = EVERY.replace("NAMES", repr(list(hub_layouts.LAYOUTS)))
    told = ask(code)
    for name in hub_layouts.LAYOUTS:
        local = get(name, data=str(root / name))
        assert told[name][0] == local.fingerprint(), name
        if name != "duts":
            assert told[name][1] == [sample.question for sample in local.samples(2)], name
    hub.log.clear()
    assert ask(code, HF_HUB_OFFLINE="1") == told
    assert hub.log == []


SWEEP = """
import json, sys
from pathlib import Path
from hero_ray.core.config import SweepConfig
from hero_ray.core.plan import Unit
from hero_ray.engine.evaluate import Settings
from hero_ray.pipeline.facts import make_plan
from hero_ray.pipeline.forecast import describe_plan
from hero_ray.pipeline.run import _create_run
from hero_ray.pipeline.orders import WorkerJob, pack_unit
from hero_ray.pipeline.worker import UnitWorker
from hero_ray.store import open_store
store = open_store("sqlite:///{db}")
config = SweepConfig(models=["someone/tiny"], methods=["full", "hero"], budgets=[0.2], tasks=["pope"], limit=2)
plan = make_plan(config)
print("planned", flush=True)
sys.stdin.readline()
run = _create_run(plan, store, "test", None, fresh=False)
job = WorkerJob(run, "sqlite:///{db}", "someone/tiny", {{"dtype": "float32"}}, plan.cells, plan.tasks, Settings(),
                commits=plan.commits if {pinned} else {{}})
worker = UnitWorker(job)
done = worker({{"unit": [pack_unit(unit) for unit in plan.units]}})
kept = store.run(run).environment
print(json.dumps({{"commits": dict(plan.commits), "kept": kept["commits"], "prompts": kept["prompts"],
                  "failed": sum(json.loads(text)["failed"] for text in done["outcome"]),
                  "answered": sum(json.loads(text)["answered"] for text in done["outcome"]),
                  "shown": describe_plan(plan, "sqlite:///{db}")}}))
"""


@pytest.mark.parametrize("case", ["pinned", "unpinned"])
def test_what_is_published_behind_the_plan_reaches_no_worker(hub, tmp_path, case):
    first = Pope.source.ids[0]
    old = hub.put(f"models/{MODEL}", model_files())
    rows = hub.put(f"datasets/{first}", data_files(tmp_path / "rows"))
    env = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    env |= {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    env.pop("HERO_RAY_DATA", None)
    code = SWEEP.format(db=tmp_path / "results.db", pinned=case != "unpinned")
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout.readline().strip() == "planned", process.communicate()[1][-2000:]
    hub.put(f"models/{MODEL}", model_files(seed=1))
    hub.log.clear()
    if case == "pinned":
        hub.__exit__()  # and the hub is gone for good
    out, err = process.communicate("go\n", timeout=400)
    if case == "unpinned":  # a worker that was told no commit sees that it read another one
        assert process.returncode
        assert "the weights of someone/tiny changed since the plan" in err
        return
    assert process.returncode == 0, err[-2000:]
    told = json.loads(out.strip().splitlines()[-1])
    assert told["commits"] == told["kept"] == {f"model:{MODEL}": old, f"dataset:{first}": rows}
    assert (told["failed"], told["answered"] > 0) == (0, True)
    assert hub.log == []  # nor was it asked for anything before it went
    assert f"model {MODEL} at commit {old}" in told["shown"]
    assert told["prompts"][MODEL].startswith("USER: <image>\n")
    assert f"{MODEL} is asked: " in told["shown"]
