"""The house holds to its plan: who stands at the door, who may import whom, and what a room must never load."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.contract import house

HEAVY = ("ray", "sqlalchemy")
LIGHT = {
    "hero_ray": ("torch", "transformers", *HEAVY, "numpy"),
    "hero_ray.core.types": ("torch", "pydantic", *HEAVY),
    "hero_ray.core.errors": ("torch", "pydantic", *HEAVY),
    "hero_ray.core.encoded": ("transformers", "pydantic", *HEAVY),
    "hero_ray.core.plugins": ("torch", "pydantic", *HEAVY),
    "hero_ray.core.shipped": ("torch", "pydantic", *HEAVY),
    "hero_ray.core.config": ("torch", "transformers", *HEAVY),
    "hero_ray.core.plan": ("torch", "transformers", *HEAVY),
    "hero_ray.methods": ("torch", "transformers", *HEAVY),
    "hero_ray.methods.hero": ("transformers", *HEAVY),
    "hero_ray.models": HEAVY,
    "hero_ray.benchmarks": ("torch", "transformers", *HEAVY),
    "hero_ray.profiling": HEAVY,
    "hero_ray.engine.evaluate": HEAVY,
    "hero_ray.store": ("torch", "transformers", "ray"),
    "hero_ray.stats": ("torch", "transformers", *HEAVY),
    "hero_ray.stats.frontier": ("torch", "transformers", *HEAVY),
    "hero_ray.nightly.guard": ("torch", "transformers", *HEAVY),
    "hero_ray.nightly.schedule": ("torch", "transformers", *HEAVY),
    "hero_ray.results.published": ("torch", "transformers", *HEAVY),
    "hero_ray.results": ("torch", "transformers", "ray"),
    "hero_ray.results.claims": ("torch", "transformers", "ray"),
    "hero_ray.results.advice": ("torch", "transformers", "ray"),
    "hero_ray.results.report.document": ("torch", "transformers", "ray"),
    "hero_ray.results.exchange.from_runs": ("torch", "transformers", "ray"),
    "hero_ray.cli": ("torch", "transformers", *HEAVY),
}


def test_nothing_stands_at_the_top_but_the_rooms() -> None:
    found = {path.stem for path in house.PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert found == house.ENTRIES


def test_every_import_goes_down() -> None:
    wrong = []
    for name, path in house.modules():
        room = house.BY_NAME.get(house.room_of(name))
        for line, target in house.imported(path) if room else ():
            other = house.room_of(target)
            if other != room.name and other not in house.allowed(room):
                wrong.append(f"{path.relative_to(house.ROOT)}:{line} {room.name} -> {target}")
    assert not wrong, "\n".join(wrong)


def test_no_modules_import_each_other_in_a_circle() -> None:
    names = {name for name, _ in house.modules()}
    graph = {
        name: {house.module_of(target, names) for _, target in house.imported(path)} - {name, ""}
        for name, path in house.modules()
    }
    rest = dict(graph)
    while leaves := [name for name, targets in rest.items() if not targets & rest.keys()]:
        for name in leaves:
            del rest[name]
    # What is left is in a circle or leads into one; those that nothing left imports are only on the way.
    while ways := rest.keys() - set().union(*rest.values()):
        for name in ways:
            del rest[name]
    assert not rest, f"circle among {sorted(rest)}"


def test_contributing_prints_the_plan() -> None:
    assert house.markdown() in (house.ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "forbidden",
    [
        pytest.param(forbidden, id="-".join(forbidden), marks=[] if "torch" in forbidden else [pytest.mark.slow])
        for forbidden in sorted(set(LIGHT.values()))
    ],
)
def test_rooms_load_nothing_they_must_not(forbidden: tuple[str, ...]) -> None:
    """What rooms load together is all that each of them loads: one interpreter for those of one rule."""
    rooms = [room for room, rule in LIGHT.items() if rule == forbidden]
    script = f"import importlib, sys\nfor room in {rooms}:\n    importlib.import_module(room)\n"
    script += f"    assert not set(sys.modules) & {set(forbidden)}, f'{{room}} loaded what its row forbids'"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


BARE = """
import importlib, importlib.abc, pkgutil, sys

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("ray", "sqlalchemy", "alembic"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
for name in ("models", "core", "methods", "benchmarks", "stats", "costs", "engine", "profiling"):
    room = importlib.import_module(f"hero_ray.{name}")
    for module in pkgutil.walk_packages(getattr(room, "__path__", []), f"hero_ray.{name}."):
        if not module.name.endswith(".__main__"):
            importlib.import_module(module.name)
    if name == "models":
        print(*[known for known in sys.modules if known.startswith("hero_ray.methods")])
"""


@pytest.fixture(scope="module")
def bare() -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", BARE], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_every_module_of_a_bare_box_loads_without_ray_and_sql(bare: subprocess.CompletedProcess[str]) -> None:
    assert bare.returncode == 0, bare.stderr


@pytest.mark.slow
def test_models_know_no_method(bare: subprocess.CompletedProcess[str]) -> None:
    assert bare.stdout.splitlines()[:1] == [""], "all of them are imported, and no method with them"
