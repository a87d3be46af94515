"""The measured part of a page on the papers, made from the database: tables of runs, then the newest of every study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hero_ray.core.errors import ConfigError
from hero_ray.studies.files import markdown
from hero_ray.studies.records import FigureTable

if TYPE_CHECKING:
    from hero_ray.store import Store

BEGIN, END = "<!-- measured -->", "<!-- /measured -->"
ROWS = 24
"""Rows shown of a study's table; the database has them all."""
PICTURED = ("attention-maps", "case-study")
"""Studies whose tables only name what is drawn."""


def write(page: Path, store: Store, tables: Sequence[FigureTable]) -> None:
    """Replace what stands between the page's two marks.

    Raises:
        ConfigError: no such page, or one without the marks.
    """
    from hero_ray.store import studies

    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ConfigError(f"{page} has no part between {BEGIN} and {END} to replace; add the two lines")
    stored = store.read(studies.found)
    page.write_text(f"{head}{BEGIN}\n{measured(tables, stored)}\n{END}{tail}", encoding="utf-8")


def measured(tables: Sequence[FigureTable], stored: Sequence[Mapping[str, Any]]) -> str:
    """The part itself. `stored`: executions of studies, newest first."""
    parts = [
        "Scores are out of 100 with their 95 % interval over pictures; `visual tokens` are all that enter the LLM."
    ]
    parts += [markdown(table) for table in tables]
    newest: dict[str, Mapping[str, Any]] = {}
    for study in stored:
        newest.setdefault(study["name"], study)
    parts += [_study(newest[name]) for name in sorted(newest) if name not in PICTURED]
    return "\n\n".join(parts)


def _study(study: Mapping[str, Any]) -> str:
    result, request = study["result"], study["request"]
    settings = f"{request.get('limit')} pictures, commit {study['git_commit'] or 'unknown'}, seed 0"
    lines = [f"**{study['name']}**, {study['model']}, weights {str(request.get('revision'))[:8]}, {settings}"]
    lines.append(str(result["note"]))
    for record in result["tables"]:
        table = FigureTable(record["title"], tuple(record["columns"]), tuple(tuple(row) for row in record["rows"]))
        lines.append(markdown(table, limit=ROWS))
    return "\n\n".join(lines)
