"""The floor plan: one table of rooms, from which CONTRIBUTING's is made and against which every import is held.

`python -m tests.contract.house` prints the table as Markdown.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "hero_ray"


@dataclass(frozen=True)
class Room:
    """One folder of the package.

    Attributes:
        floor: imports go to lower floors only.
        sentence: what it is for.
        may: rooms it may import; `below` stands for every room on a lower floor.
    """

    name: str
    floor: int
    sentence: str
    may: tuple[str, ...]


BELOW = ("below",)
ROOMS = (
    Room("core", 1, "the words every room shares: types, errors, the encoded picture, sweep files, presets, plan", ()),
    Room("methods", 2, "choose which visual tokens survive; one file per method, helpers in `kit/`", ("core",)),
    Room("models", 2, "take one model family apart, never a method; embedded weights in `embedded/`", ("core",)),
    Room("benchmarks", 2, "dataset rows to samples, answers to scores", ("core",)),
    Room("stats", 2, "intervals, paired tests, families, Pareto sets; pure numpy", ("core",)),
    Room("store", 2, "SQL and nothing else", ("core",)),
    Room("costs", 3, "FLOPs and bytes from sizes alone", ("core", "models")),
    Room(
        "results",
        3,
        "what stored rows mean, said once, and every form in which they leave",
        ("core", "stats", "store", "benchmarks"),
    ),
    Room(
        "engine",
        4,
        "cut one picture, answer many cells; the front door `load_model`",
        ("core", "methods", "models", "benchmarks", "costs"),
    ),
    Room("profiling", 5, "time and memory of whole requests, with a certificate", BELOW),
    Room("pipeline", 6, "spread the engine over Ray: resume, faults, progress", BELOW),
    Room("studies", 7, "the papers' analyses; searches in `tuning/`", BELOW),
    Room("serve", 7, "the HTTP service", BELOW),
    Room("nightly", 7, "panel, guard and scheduler", BELOW),
    Room("cli", 8, "thin verbs, no logic of their own", BELOW),
)
BY_NAME = {room.name: room for room in ROOMS}
RE_EXPORTS = ("config", "errors", "evaluate", "exchange", "types", "vlm")
ENTRIES = {"__init__", "__main__", "sweep", *RE_EXPORTS, *BY_NAME}


def allowed(room: Room) -> set[str]:
    """Rooms whose modules `room` may import."""
    if room.may == BELOW:
        return {other.name for other in ROOMS if other.floor < room.floor}
    return set(room.may)


def modules() -> Iterator[tuple[str, Path]]:
    """(dotted name, file) of every module of the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything of ours that a file imports, at its top, inside functions or for types."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names if alias.name.startswith("hero_ray"))
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "hero_ray":
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def room_of(name: str) -> str:
    """First part behind the package: the room, a re-export, or "" for the package itself."""
    return ".".join(name.split(".")[1:2])


def module_of(target: str, names: set[str]) -> str:
    """The module in which an imported name lives; "" for one that is not ours."""
    while target and target not in names:
        target = target.rpartition(".")[0]
    return target


def markdown() -> str:
    """CONTRIBUTING's table."""
    lines = ["| floor | room | purpose | may import |", "| --: | --- | --- | --- |"]
    for room in ROOMS:
        may = (
            "every room on a lower floor"
            if room.may == BELOW
            else ", ".join(f"`{name}`" for name in room.may) or "none"
        )
        lines.append(f"| {room.floor} | `{room.name}/` | {room.sentence} | {may} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown())
