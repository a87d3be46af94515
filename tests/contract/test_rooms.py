"""Every room is imported in a fresh interpreter; what it must never load must not be in `sys.modules`."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("ray", "sqlalchemy")
ROOMS = {
    "hero_ray": ("torch", "transformers", *HEAVY, "numpy"),
    "hero_ray.types": ("torch", "pydantic", *HEAVY),
    "hero_ray.errors": ("torch", "pydantic", *HEAVY),
    "hero_ray.encoded": ("transformers", "pydantic", *HEAVY),
    "hero_ray.plugins": ("torch", "pydantic", *HEAVY),
    "hero_ray.shipped": ("torch", "pydantic", *HEAVY),
    "hero_ray.config": ("torch", "transformers", *HEAVY),
    "hero_ray.plan": ("torch", "transformers", *HEAVY),
    "hero_ray.methods": ("torch", "transformers", *HEAVY),
    "hero_ray.methods.hero": ("transformers", *HEAVY),
    "hero_ray.models": HEAVY,
    "hero_ray.benchmarks": ("torch", "transformers", *HEAVY),
    "hero_ray.profiling": HEAVY,
    "hero_ray.evaluate": HEAVY,
    "hero_ray.store": ("torch", "transformers", "ray"),
    "hero_ray.stats": ("torch", "transformers", *HEAVY),
    "hero_ray.frontier": ("torch", "transformers", *HEAVY),
    "hero_ray.nightly.guard": ("torch", "transformers", *HEAVY),
    "hero_ray.schedule": ("torch", "transformers", *HEAVY),
    "hero_ray.published": ("torch", "transformers", *HEAVY),
    "hero_ray.comparison": ("torch", "transformers", "ray"),
    "hero_ray.claims": ("torch", "transformers", "ray"),
    "hero_ray.advice": ("torch", "transformers", "ray"),
    "hero_ray.report.document": ("torch", "transformers", "ray"),
    "hero_ray.exchange.from_runs": ("torch", "transformers", "ray"),
    "hero_ray.cli": ("torch", "transformers", *HEAVY),
}


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_room_loads_nothing_it_must_not(room: str) -> None:
    script = f"import sys, {room}; print(*sorted(set({ROOMS[room]!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [], f"{room} loaded what its row forbids"


def test_models_know_no_method() -> None:
    script = "import sys, hero_ray.models as room, pkgutil, importlib\n"
    script += "[importlib.import_module(f'hero_ray.models.{m.name}') for m in pkgutil.iter_modules(room.__path__)]\n"
    script += "print(*[m for m in sys.modules if m.startswith('hero_ray.methods')])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


BARE = """
import importlib, importlib.abc, pkgutil, sys

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("ray", "sqlalchemy", "alembic"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
for name in ("methods", "models", "benchmarks", "profiling", "tiny", "evaluate", "profile"):
    room = importlib.import_module(f"hero_ray.{name}")
    for module in pkgutil.walk_packages(getattr(room, "__path__", []), f"hero_ray.{name}."):
        if not module.name.endswith(".__main__"):
            importlib.import_module(module.name)
"""


def test_every_module_of_a_bare_box_loads_without_ray_and_sql() -> None:
    done = subprocess.run([sys.executable, "-c", BARE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
