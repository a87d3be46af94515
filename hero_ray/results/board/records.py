"""One record of the board: a folder with everything that a figure rests on, written from a run and held against itself.

RECORD/README.md          who measured, with what, in words
RECORD/sweep.yaml         the sweep file the run was asked for
RECORD/lock.json          hash and state of the installed packages, commit
RECORD/data/...           results and answers, Every Eval Ever 0.3
RECORD/certificate.json   conditions of the timings; batch invariance
RECORD/verify.json        the newest verification; absent without one
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from hero_ray.core import plugins
from hero_ray.core.errors import DatasetError, HeroRayError, InputError
from hero_ray.results import truth
from hero_ray.results.exchange.every_eval_ever import reading, usage, writing
from hero_ray.results.exchange.lmms_export import safe_name
from hero_ray.results.names import budget_of
from hero_ray.store import CellRow, RunRow, Store, figures, verifications
from hero_ray.store.verifications import VerificationRow

README, SWEEP, LOCK, CERTIFICATE, VERIFY = "README.md", "sweep.yaml", "lock.json", "certificate.json", "verify.json"
REQUIRED = (README, SWEEP, LOCK, CERTIFICATE)
_LOCK = ("installed", "locked", "moved")
_BY = re.compile(r"^- measured by: *(\S.*?) *$", re.MULTILINE)
ANONYMOUS = "nobody named"


@dataclass(frozen=True)
class BoardRecord:
    """A record as the board shows it.

    Attributes:
        name: of its folder.
        run_id: of the run that it became in the board's own database; "" where it could not be read.
        trust: the verdict of its verification, or `not verified`, `changed since verified`, `unreadable`.
        share: of pictures that the verification asked, 0..1.
        fault: why it cannot be read, or "".
    """

    name: str
    measured_by: str
    run_id: str
    trust: str
    share: float = 0.0
    fault: str = ""

    @property
    def counts(self) -> bool:
        """Whether its figures stand beside others'; those that were shown to be untrue, or cannot be read, do not."""
        return bool(self.run_id) and self.trust not in (truth.DIFFERS, CHANGED)

    @property
    def said(self) -> str:
        """Its state in words."""
        return f"{self.trust}, {self.share:.0%} of pictures" if self.share else self.trust


NOT_VERIFIED, CHANGED, UNREADABLE = "not verified", "changed since verified", "unreadable"


def submit(
    store: Store, run_id: str, board: Path, measured_by: str, note: str = "", count: usage.Count | None = None
) -> Path:
    """Write the record of a finished run below `board`.

    Args:
        count: tokens of an answer of our own, see `writing.write_run`.

    Raises:
        InputError: the run is not complete, a record of that name is there, or the folder cannot be written.
    """
    run = store.run(run_id)
    if run.status != "complete":
        raise InputError(f"run {run.id} is {run.status}; the board takes complete runs")
    folder = board / safe_name(f"{run.sweep_name}-{run.id}")
    if folder.exists():
        raise InputError(f"{folder} is there already; a record is written once, remove it to write it again")
    marks = store.read(verifications.of_run, run.id)
    try:
        folder.mkdir(parents=True)
        writing.write_run(store, run.id, folder, count=count)
        asked = run.config.get("sweep") or run.config
        told = {key: value for key, value in asked.items() if key not in writing.PLACES}
        (folder / SWEEP).write_text(yaml.safe_dump(told, sort_keys=False, allow_unicode=True), encoding="utf-8")
        around = {key: run.environment.get(key) for key in _LOCK}
        around[plugins.RECORD] = run.environment.get(plugins.RECORD) or {}
        _json(folder / LOCK, around | {"git_commit": run.git_commit, "packages": run.environment.get("packages")})
        timed = {row["certificate_hash"]: row["certificate"] for row in store.read(figures.profiles, [run.id])}
        _json(folder / CERTIFICATE, {"timings": timed, "invariance": run.environment.get("invariance") or {}})
        if marks:
            write_verification(marks[0], folder / VERIFY)
        text = readme(store, run, measured_by, note, marks[0] if marks else None)
        (folder / README).write_text(text, encoding="utf-8")
    except OSError as problem:
        raise InputError(f"cannot write the record {folder}: {problem.strerror or problem}") from None
    return folder


def _json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1, sort_keys=True, default=str) + "\n", encoding="utf-8")


def write_verification(row: VerificationRow, path: Path) -> None:
    """A verification as the file that a record holds. Raises `InputError` where it cannot be written."""
    try:
        _json(path, asdict(row))
    except OSError as problem:
        raise InputError(f"cannot write {path}: {problem.strerror or problem}") from None


def readme(store: Store, run: RunRow, measured_by: str, note: str, mark: VerificationRow | None) -> str:
    """What the record is, for people and for the board."""
    cells = store.cells(run.id)
    facts = {
        "measured by": measured_by,
        "run": run.id,
        "date": f"{run.created_at:%Y-%m-%d}",
        "models": ", ".join(dict.fromkeys(cell.model for cell in cells)),
        "benchmarks": ", ".join(dict.fromkeys(cell.benchmark for cell in cells)),
        "methods": ", ".join(dict.fromkeys(cell.method for cell in cells)),
        "budgets": ", ".join(dict.fromkeys(map(budget_of, cells))),
        "answers": sum(cell.n_done for cell in cells),
        "verified": f"{mark.verdict}, {mark.drawn} of {mark.pictures} pictures" if mark else "no",
    }
    for what, one in (run.environment.get(plugins.RECORD) or {}).items():
        facts[f"needs {one['package']}"] = f"{what}, no part of hero_ray; source {one['code']}"
    lines = [f"# {run.sweep_name}", "", *(f"- {key}: {value}" for key, value in facts.items())]
    return "\n".join([*lines, *(["", note] if note else [])]) + "\n"


def folders(board: Path) -> list[Path]:
    """Folders of records: whatever lies below `board` and is not hidden.

    Raises:
        InputError: there is no such folder.
    """
    if not board.is_dir():
        raise InputError(f"{board} is no folder of records; make one with: hero-ray board submit {board} --by NAME")
    return sorted(each for each in board.iterdir() if each.is_dir() and not each.name.startswith("."))


def take(store: Store, folder: Path) -> BoardRecord:
    """Read a record into a database of the board's own; one with a fault is a record that says so."""
    by = ANONYMOUS
    try:
        missing = [name for name in REQUIRED if not (folder / name).is_file()]
        if README not in missing and (found := _BY.search((folder / README).read_text(encoding="utf-8"))):
            by = found[1]
        if missing:
            raise DatasetError(f"{', '.join(missing)} is missing")
        _held(folder)
        run_id = reading.import_ours(store, folder / "data")
        if unnamed := _unnamed(store.cells(run_id), json.loads((folder / LOCK).read_text(encoding="utf-8"))):
            raise DatasetError(unnamed)
    except (HeroRayError, UnicodeDecodeError, OSError) as problem:
        return BoardRecord(folder.name, by, "", UNREADABLE, fault=str(problem))
    try:
        mark = _verification(folder)
    except DatasetError as problem:
        return BoardRecord(folder.name, by, run_id, NOT_VERIFIED, fault=str(problem))
    if mark is None:
        return BoardRecord(folder.name, by, run_id, NOT_VERIFIED)
    content = store.read(verifications.content, run_id, [cell.id for cell in store.cells(run_id)])
    trust = mark["verdict"] if mark["content"] == content else CHANGED
    return BoardRecord(folder.name, by, run_id, trust, mark["drawn"] / max(1, mark["pictures"]))


def _held(folder: Path) -> None:
    """Raises `DatasetError` where a file of the record is not what it should be."""
    try:
        if not isinstance(yaml.safe_load((folder / SWEEP).read_text(encoding="utf-8")), dict):
            raise DatasetError(f"{SWEEP} is no sweep file")
        for name in (LOCK, CERTIFICATE):
            if not isinstance(json.loads((folder / name).read_text(encoding="utf-8")), dict):
                raise DatasetError(f"{name} is no JSON object")
    except (yaml.YAMLError, ValueError) as problem:
        raise DatasetError(f"{folder.name} holds a file that cannot be read: {str(problem).splitlines()[0]}") from None


def _unnamed(cells: Iterable[CellRow], lock: Mapping[str, Any]) -> str:
    """Which cells need code that is no part of hero_ray and that the lock does not name; "" if none does."""
    named = lock.get(plugins.RECORD) or {}
    for cell in cells:
        for part, name in (("method", cell.method), ("benchmark", cell.benchmark)):
            code = dict(cell.spec.get(part) or {}).get("code")
            if not isinstance(code, str):  # ours have a number, or none
                continue
            one = named.get(f"{part} {name}") if isinstance(named, dict) else None
            given = one if isinstance(one, dict) else {}
            if not given.get("package") or given.get("code") != code.rpartition("+")[2]:
                return (
                    f"{part} {name} is no part of hero_ray and {LOCK} does not name the package that has its code "
                    f"({code}); submit the run that measured it again"
                )
    return ""


def _verification(folder: Path) -> Mapping[str, Any] | None:
    path = folder / VERIFY
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        known = {truth.BIT_EQUAL, truth.EQUAL_TEXT, truth.DIFFERS, truth.NOT_ASKED}
        if found["verdict"] not in known or not 0 <= int(found["drawn"]) <= int(found["pictures"]):
            raise ValueError("no verdict of `hero-ray verify`")
        datetime.fromisoformat(found["created_at"])
        return dict(found) | {"content": str(found["content"])}
    except (ValueError, KeyError, TypeError, OSError) as problem:
        raise DatasetError(f"{VERIFY} is no report of hero-ray verify: {problem!r}") from None


def faults(store: Store, folder: Path) -> Iterator[str]:
    """What keeps a record from standing on the board beside others."""
    record = take(store, folder)
    if record.fault:
        yield record.fault
    if record.trust in (truth.DIFFERS, CHANGED):
        yield f"its verification says: {record.trust}"
