"""What the newest versions bring: a pytest plug-in that notes deprecations, and the report of `make test-newest`.

python -m pytest -p tools.newest --deprecations=FILE ...   deprecation warnings are notes in FILE, no errors
python -m tools.newest FILE                                what differs from the lock, and the notes by line of ours
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from types import FrameType

import pytest

OURS = ("hero_ray", "dashboard", "db", "perf", "tests", "tools")
NOTED = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)
NOWHERE = "no line of ours"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option that names the file of notes."""
    parser.addoption("--deprecations", metavar="FILE", type=Path, help="append deprecation warnings, one JSON a line")


def pytest_configure(config: pytest.Config) -> None:
    """Let deprecations pass as warnings, and listen to them."""
    filters = config.getini("filterwarnings")
    behind = filters.index("error") + 1 if "error" in filters else 0  # of two filters the later wins
    filters[behind:behind] = [f"default::{kind.__name__}" for kind in NOTED]
    config.pluginmanager.register(Notes(config.rootpath, config.getoption("--deprecations")))


class Notes:
    """Deprecation warnings of one process, each once per line of ours."""

    def __init__(self, root: Path, file: Path | None) -> None:
        self._root, self._file, self._found = root, file and root / file, set[tuple[str, str, str]]()
        # Python calls this by its name for each warning that passes the filters, before anything records it.
        self._show = warnings._showwarnmsg  # type: ignore[attr-defined]
        warnings._showwarnmsg = self._hear  # type: ignore[attr-defined]

    def _hear(self, warning: warnings.WarningMessage) -> None:
        if issubclass(warning.category, NOTED):
            line = innermost(sys._getframe(1), self._root)
            self._found.add((line, warning.category.__name__, str(warning.message)))
        self._show(warning)

    def pytest_unconfigure(self) -> None:
        """Append the notes."""
        warnings._showwarnmsg = self._show  # type: ignore[attr-defined]
        if self._file is not None:
            with self._file.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(note) + "\n" for note in sorted(self._found))


def innermost(frame: FrameType | None, root: Path) -> str:
    """`file:line` of the innermost frame that is ours, from the root of the repository."""
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(root) and path.relative_to(root).parts[0] in OURS:
            return f"{path.relative_to(root)}:{frame.f_lineno}"
        frame = frame.f_back
    return NOWHERE


def report(notes: list[tuple[str, str, str]], found: dict[str, str], known: dict[str, str]) -> str:
    """Versions that differ from the lock, then deprecations under the line of ours that causes them."""
    from hero_ray.pipeline.provenance import differences

    moved = differences(found, known)
    moved += [f"{name} {found[name]} (not in the lock)" for name in sorted(found.keys() - known.keys() - {"hero-ray"})]
    lines = [f"{len(moved)} versions differ from the lock:", *(f"  {text}" for text in moved)]
    causes = sorted({line for line, _, _ in notes})
    lines.append(f"{len(set(notes))} deprecation warnings from {len(causes)} lines:")
    for cause in causes:
        lines.append(f"  {cause}")
        lines += [f"    {kind}: {text}" for line, kind, text in sorted(set(notes)) if line == cause]
    return "\n".join(lines)


def main(path: str) -> None:
    """Print the report."""
    from hero_ray.pipeline.provenance import installed, locked

    file = Path(path)
    noted = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    print(report([tuple(json.loads(line)) for line in noted], installed(), locked() or {}))


if __name__ == "__main__":
    main(sys.argv[1])
