"""The source of other packages' code is part of a cell's identity: an edited plug-in is another plug-in."""

from __future__ import annotations

import importlib
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hero_ray import benchmarks, methods
from hero_ray.core import plan, plugins
from hero_ray.core.config import build
from hero_ray.core.errors import PluginError, ReplicaError
from hero_ray.pipeline import asking_again, worker
from hero_ray.pipeline.facts import make_plan
from hero_ray.pipeline.opening import task_fact

METHOD = """
from hero_ray.methods.random_ import Random

class Loud(Random):
    name = "loud"
    sign = 1
"""
BENCHMARK = """
from dataclasses import replace
from hero_ray.benchmarks.synth import SynthExist

class Tall(SynthExist):
    name = "tall-exist"
    aliases = ()

    def samples(self, limit=None):
        return (replace(sample, benchmark=self.name) for sample in SynthExist().samples(limit))

    def fingerprint(self):
        return SynthExist().fingerprint()
"""

Load = Callable[..., tuple[Any, str]]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Writes files and imports a class of them anew, as another process would: (class, hash of its code)."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)

    def forget() -> None:
        for name in set(sys.modules) - before:
            if str(tmp_path) in str(getattr(sys.modules[name], "__spec__", "")):
                del sys.modules[name]
        importlib.invalidate_caches()

    def load(value: str, **files: str) -> tuple[Any, str]:
        for name, source in files.items():
            path = tmp_path / f"{name.replace('__', '/').replace('INIT', '__init__')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source, encoding="utf-8")
        forget()
        module, _, attribute = value.partition(":")
        cls = getattr(importlib.import_module(module), attribute)
        return cls, plugins.code_of(cls, module)

    yield load
    forget()


def test_an_edited_module_has_another_hash_and_the_old_text_the_old_one(load: Load) -> None:
    first = load("loud:Loud", loud=METHOD)[1]
    edited = load("loud:Loud", loud=METHOD.replace("sign = 1", "sign = 2"))[1]
    assert len(first) == 10
    assert first != edited
    assert load("loud:Loud", loud=METHOD)[1] == first
    assert load("loud:Loud", other="x = 1")[1] == first, "a module beside it, in no package, is another matter"


@pytest.mark.parametrize("changed", ["lab__base", "lab__deep__tools", "lab__INIT"])
def test_of_a_package_every_file_counts(load: Load, changed: str) -> None:
    files = {
        "lab__INIT": "",
        "lab__deep__INIT": "",
        "lab__base": METHOD,
        "lab__deep__tools": "FACTOR = 1",
        "lab__deep__method": "from lab.base import Loud\nclass Louder(Loud):\n    name = 'l'",
    }
    before = load("lab.deep.method:Louder", **files)[1]
    assert load("lab.deep.method:Louder", **files)[1] == before
    assert load("lab.deep.method:Louder", **files | {changed: files[changed] + "\n# again"})[1] != before


def test_a_namespace_is_not_a_package(load: Load) -> None:
    before = load("space.loud:Loud", space__loud=METHOD)[1]
    assert load("space.loud:Loud", space__others="x = 1")[1] == before
    assert load("space.loud:Loud", space__loud=METHOD + "#")[1] != before


def test_bases_of_another_package_and_the_module_of_a_made_class_count(load: Load) -> None:
    child = "from kin import Loud\nclass Child(Loud):\n    name = 'child'"
    before = load("child:Child", kin=METHOD, child=child)[1]
    assert load("child:Child", kin=METHOD + "#")[1] != before
    # `make_dataclass` says that its classes are the module `types`'s.
    made = "from dataclasses import make_dataclass\nMade = make_dataclass('Made', [])\n"
    before = load("made:Made", made=made)[1]
    assert load("made:Made", made=made + "#")[1] != before


def test_a_module_in_an_archive_counts_by_its_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "packed.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("packed_loud.py", METHOD)
    monkeypatch.syspath_prepend(str(archive))
    cls = importlib.import_module("packed_loud").Loud
    before = plugins.code_of(cls, "packed_loud")
    with zipfile.ZipFile(archive, "a") as packed:
        packed.writestr("more.py", "")
    assert plugins.code_of(cls, "packed_loud") != before


def test_code_in_no_file_is_refused() -> None:
    with pytest.raises(PluginError, match="module typed_in lies in no file"):
        plugins.code_of(type("Typed", (), {"__module__": "typed_in"}), "typed_in")


@pytest.fixture
def installed(load: Load, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A method `loud` and a benchmark `tall-exist` of another package, with these texts."""

    def install(method: str = METHOD, benchmark: str = BENCHMARK) -> None:
        loud, written = load("loud:Loud", loud=method)
        monkeypatch.setattr(
            methods,
            "foreign",
            lambda: (plugins.Plugin("g", "loud", "loud:Loud", "loud 0.1", loud, ("loud",), "", written),),
        )
        tall, rules = load("tall:Tall", tall=benchmark)
        monkeypatch.setattr(
            benchmarks,
            "foreign",
            lambda: (plugins.Plugin("g", "tall", "tall:Tall", "tall 0.1", tall, ("tall-exist",), "", rules),),
        )

    return install


def planned(task: str = "synth-exist", method: str = "loud") -> Any:
    document = {"models": ["hero-tiny"], "methods": ["full", method], "tasks": [task], "budgets": [0.2], "limit": 2}
    return make_plan(build(document | {"straw_men": False, "random_seeds": 1}))


def test_an_edited_method_gets_new_ids_and_is_named(installed: Callable[..., None]) -> None:
    installed()
    before = planned()
    installed()
    assert [cell.id for cell in planned().cells] == [cell.id for cell in before.cells]
    installed(METHOD.replace("sign = 1", "sign = 2"))
    after = planned()
    assert after.hash != before.hash, "a finished sweep would answer nothing"
    (full, then), (still, now) = before.cells, after.cells
    assert full.id == still.id, "built-in methods keep theirs"
    assert then.id != now.id
    ((what, old, new),) = plan.spec_changes(then.spec, now.spec)
    assert what == "the code of loud"
    assert old.startswith("1+")
    assert new.startswith("1+")


def test_an_edited_benchmark_gets_new_ids_and_is_named(installed: Callable[..., None]) -> None:
    installed()
    before = planned("tall-exist", "random").cells[-1]
    assert "code" not in planned("synth-exist", "random").cells[0].spec["benchmark"]
    installed(benchmark=BENCHMARK + "# stricter")
    after = planned("tall-exist", "random").cells[-1]
    assert before.id != after.id
    assert [change[0] for change in plan.spec_changes(before.spec, after.spec)] == ["the code of tall-exist"]


def test_a_worker_whose_plug_in_is_another_refuses(installed: Callable[..., None]) -> None:
    installed()
    job = SimpleNamespace(model="hero-tiny", cells=planned("tall-exist").cells)
    worker.as_planned(job, job.cells[0].spec["model"]["revision"], {})  # type: ignore[arg-type]
    for changed, named in (({"method": METHOD + "#"}, "loud"), ({"benchmark": BENCHMARK + "#"}, "tall-exist")):
        installed(**changed)
        with pytest.raises(ReplicaError, match=rf"the code of {named} changed since the plan"):
            worker.as_planned(job, job.cells[0].spec["model"]["revision"], {})  # type: ignore[arg-type]


def test_what_was_answered_by_other_code_is_not_asked_again(installed: Callable[..., None]) -> None:
    installed()
    cells: Any = planned("tall-exist").cells
    run: Any = SimpleNamespace(config={"tasks": [{"name": "tall-exist"}], "limit": 2})

    def reasons() -> set[str]:
        return set(asking_again.groups(run, cells, asking_again.tasks_of(run, cells))[1].values())

    assert reasons() == set()
    installed(METHOD + "#")
    (why,) = reasons()
    assert why.startswith("the code of loud changed since: 1+")
    installed(benchmark=BENCHMARK + "#")
    (why,) = reasons()
    assert why.startswith("the code of tall-exist changed since: ")


def test_our_own_code_is_in_no_id(installed: Callable[..., None]) -> None:
    installed()
    assert [type(methods.code_of(methods.create(name))) for name in ("hero", "full", "random", "loud")] == [
        int,
        int,
        int,
        str,
    ]
    assert task_fact(benchmarks.get("synth-exist"), set(), []).code == ""
