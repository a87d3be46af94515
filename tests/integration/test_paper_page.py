"""The page that `make paper-offline` writes: only the part between its marks, from the database."""

from __future__ import annotations

from pathlib import Path

import pytest

from hero_ray.core.errors import ConfigError
from hero_ray.store import open_store, studies
from hero_ray.studies import paper_page
from hero_ray.studies.records import FigureTable

ROOT = Path(__file__).resolve().parents[2]


def result(note: str) -> dict[str, object]:
    return {"note": note, "tables": [{"title": "T", "columns": ["what", "score"], "rows": [["a", 0.5]]}]}


def test_only_the_measured_part_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{paper_page.BEGIN}\nold figures\n{paper_page.END}\nafter\n", encoding="utf-8")
    request = {"limit": 3, "revision": "0123456789"}
    with open_store(f"sqlite:///{tmp_path / 'a.db'}") as store:
        for number, (name, note) in enumerate(
            (("token-roles", "older"), ("token-roles", "newer"), ("case-study", "x"))
        ):
            store.transaction(studies.add, str(number), name, "hero-tiny", request, result(note), "abc123")
        tables = [FigureTable("hero-table-5-offline, commit abc123, seed 0", ("kept",), (("20 %",),))]
        paper_page.write(page, store, tables)
        first = page.read_text(encoding="utf-8")
        paper_page.write(page, store, tables)
    assert page.read_text(encoding="utf-8") == first, "writing twice changes nothing"
    assert first.startswith("before\n")
    assert first.endswith("\nafter\n")
    assert "old figures" not in first
    assert "hero-table-5-offline, commit abc123, seed 0" in first
    assert "newer" in first
    assert "older" not in first
    assert "case-study" not in first
    assert "3 pictures, commit abc123" in first
    assert "weights 01234567" in first


def test_a_page_without_marks_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("mine\n", encoding="utf-8")
    with open_store(f"sqlite:///{tmp_path / 'a.db'}") as store, pytest.raises(ConfigError, match="no part between"):
        paper_page.write(page, store, [])
    assert page.read_text(encoding="utf-8") == "mine\n"


def test_the_papers_page_has_its_marks() -> None:
    text = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
    assert text.count(paper_page.BEGIN) == text.count(paper_page.END) == 1
    assert text.index(paper_page.BEGIN) < text.index(paper_page.END)
