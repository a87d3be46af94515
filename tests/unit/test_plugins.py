"""Packages of others that add methods and benchmarks: one that is broken is named once and breaks nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GOOD = """
from dataclasses import replace
from hero_ray.benchmarks.synth import SynthExist
from hero_ray.methods.random_ import Random

class Loud(Random):
    name = "loud"

class Twice(Random):
    name = "twice"

class Stubborn(Random):
    name = "stubborn"

    def needs(self, vision):
        raise OSError("no needs")

class Early(Random):
    name = "early"
    stage = "before-everything"

class Tall(SynthExist):
    name = "tall-exist"
    aliases = ("TALL",)

    def samples(self, limit=None):
        return (replace(sample, benchmark=self.name) for sample in SynthExist().samples(limit))

    def fingerprint(self):
        return SynthExist().fingerprint()

class Imposter(Tall):
    name = "an-imposter"
    aliases = ("POPE",)
"""

METHODS = {
    "boom = boom:Boom": "RuntimeError: no such device",
    "gone = gone:Gone": "ModuleNotFoundError: No module named 'a_module_nobody_has'",
    "quits = quits:Quits": "SystemExit: 7",
    "torn = torn:Torn": "SyntaxError: '(' was never closed (torn.py, line 1)",
    "empty = empty:Empty": "AttributeError: module 'empty' has no attribute 'Empty'",
    "hero = good:Loud": "'hero' is the name of a built-in method; rename it",
    "other = good:Loud": "it holds no Method whose name is 'other'",
    "tall = good:Tall": "it holds no Method whose name is 'tall'",
    "stubborn = good:Stubborn": "OSError: no needs",
    "early = good:Early": "its stage is 'before-everything', not one of image, before-llm, in-llm",
    "twice = good:Twice": "'twice' is also added by second-plugin 0.1 (second:Twice); uninstall one",
}
"""Entry points of `odd-plugin` that are left out, and why."""

BENCHMARKS = {
    "boom = boom:Boom": "RuntimeError: no such device",
    "loud = good:Loud": "Loud is no benchmark; it lacks samples, fingerprint, load_image, prompt, score, aggregate",
    "text = good:Tall.name": "it is no benchmark class but str 'tall-exist'",
    "imposter = good:Imposter": "'POPE' is the name of a built-in benchmark; rename it",
}


def install(folder: Path, distribution: str, entry_points: str) -> None:
    """What `pip install` leaves of a package's metadata."""
    info = folder / f"{distribution.replace('-', '_')}-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text(entry_points)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packages of every kind beside each other."""
    folder = tmp_path_factory.mktemp("packages")
    sources = {
        "boom": "raise RuntimeError('no such device\\nand a second line')",
        "gone": "import a_module_nobody_has",
        "quits": "import sys; sys.exit(7)",
        "torn": "class Torn(",
        "empty": "",
        "good": GOOD,
        "second": GOOD,
    }
    for name, source in sources.items():
        (folder / f"{name}.py").write_text(source, encoding="utf-8")
    good = "[hero_ray.methods]\nloud = good:Loud\n[hero_ray.benchmarks]\ntall = good:Tall\n"
    install(folder, "good-plugin", good)
    install(folder, "good-plugin-by-its-old-name", good)
    points = ["[hero_ray.methods]", *METHODS, "[hero_ray.benchmarks]", *BENCHMARKS]
    install(folder, "odd-plugin", "\n".join(points))
    install(folder, "second-plugin", "[hero_ray.methods]\ntwice = second:Twice\n")
    return folder


def hero_ray(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, in an interpreter that has the packages of `folder`."""
    path = os.pathsep.join([str(folder), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    script = f"from hero_ray.cli import main; main({list(arguments)!r})"
    command = [sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=folder)


def listed(folder: Path, what: str) -> tuple[set[str], list[str]]:
    """Names that `hero-ray list` shows, and its warning lines, sorted."""
    done = hero_ray(folder, "list", what, "--json")
    assert done.returncode == 0, done.stderr
    return {entry["name"] for entry in json.loads(done.stdout)}, sorted(done.stderr.splitlines())


def warnings(group: str, points: dict[str, str]) -> list[str]:
    """What is said of `odd-plugin`."""
    lines = []
    for point, why in points.items():
        name, _, value = point.partition(" = ")
        lines.append(f"plug-in left out: odd-plugin 0.1, entry point {name!r} ({value}) of {group}: {why}")
    return lines


SECOND = (
    "plug-in left out: second-plugin 0.1, entry point 'twice' (second:Twice) of hero_ray.methods: "
    "'twice' is also added by odd-plugin 0.1 (good:Twice); uninstall one"
)


def test_good_methods_are_listed_and_each_broken_one_is_a_line(packages: Path) -> None:
    names, lines = listed(packages, "methods")
    assert {"hero", "full", "loud"} <= names
    assert not {point.partition(" ")[0] for point in METHODS if not point.startswith("hero")} & names
    assert lines == sorted([*warnings("hero_ray.methods", METHODS), SECOND])


@pytest.mark.slow
def test_good_benchmarks_are_listed_and_each_broken_one_is_a_line(packages: Path) -> None:
    names, lines = listed(packages, "tasks")
    assert {"pope", "synth-exist", "tall-exist"} <= names
    assert not {"boom", "loud", "text", "an-imposter"} & names
    assert lines == sorted(warnings("hero_ray.benchmarks", BENCHMARKS))


@pytest.mark.slow
def test_a_sweep_of_other_things_goes_on(packages: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'results.db'}"
    options = ["--models", "hero-tiny", "--budgets", "20%", "--limit", "2", "--no-straw-men", "--dry-run", "--db", url]
    done = hero_ray(packages, "sweep", "--tasks", "synth-exist,Tall", "--methods", "hero,loud", *options)
    assert done.returncode == 0, done.stderr
    assert "tall-exist" in done.stdout
    said = [*warnings("hero_ray.methods", METHODS), *warnings("hero_ray.benchmarks", BENCHMARKS), SECOND]
    assert sorted(line for line in done.stderr.splitlines() if "left out" in line) == sorted(said)


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--methods", "--tasks"])
def test_who_names_it_gets_its_error(packages: Path, option: str) -> None:
    done = hero_ray(packages, "sweep", "--models", "hero-tiny", "--dry-run", option, "boom")
    assert done.returncode == 2
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: 'boom' cannot be used: odd-plugin 0.1, entry point 'boom' (boom:Boom)")
    assert "RuntimeError: no such device. Mend, update or uninstall" in line
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_doctor_lists_all_with_their_state(packages: Path) -> None:
    done = hero_ray(packages, "doctor")
    assert done.returncode == 0, done.stderr
    lines = [line.split(maxsplit=1)[1] for line in done.stdout.splitlines() if line.startswith("plug-in")]
    for group, points in (("hero_ray.methods", METHODS), ("hero_ray.benchmarks", BENCHMARKS)):
        for point, why in points.items():
            assert f"{group} {point.partition(' ')[0]} of odd-plugin 0.1: broken: {why}" in lines
    working = [line for line in lines if line.endswith(": ok")]
    owner = {line.split(" of ")[1] for line in working}
    assert [line.split(" of ")[0] for line in working] == ["hero_ray.methods loud", "hero_ray.benchmarks tall"]
    assert owner <= {"good-plugin 0.1: ok", "good-plugin-by-its-old-name 0.1: ok"}
    record = json.loads(done.stdout.splitlines()[-1])["plugins"]
    assert len(record) == len(lines) == len(METHODS) + len(BENCHMARKS) + 3
    assert {one["state"].partition(":")[0] for one in record} == {"ok", "broken"}
