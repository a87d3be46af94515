"""What visitors read of the database stands there as it is: no Markdown of another's runs, and no shared file names."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("streamlit")
pytest.importorskip("plotly")

from dashboard import bundle
from dashboard.loaders import plain

PAGES = sorted((Path(__file__).resolve().parents[2] / "dashboard").rglob("*.py"))
SHOWS = {
    "header",
    "markdown",
    "caption",
    "info",
    "warning",
    "error",
    "success",
    "subheader",
    "write",
    "expander",
    "show",
}
"""Calls whose text is Markdown."""
STORED = {
    *("sweep_name", "label", "benchmark", "model", "method", "question", "text", "note", "category", "sample_key"),
    *("error_type", "error_message", "name", "message", "title", "notes", "id"),
}
"""What comes from a database, a plug-in or an imported file."""


def loose(source: str) -> Iterator[tuple[int, str]]:
    """(line, name) of stored texts that Markdown is shown without `plain` around them."""

    def inside(node: ast.AST) -> Iterator[ast.AST]:
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "plain":
            return
        yield node
        for child in ast.iter_child_nodes(node):
            yield from inside(child)

    for call in ast.walk(ast.parse(source)):
        if not isinstance(call, ast.Call):
            continue
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        for node in (each for argument in call.args[:1] for each in inside(argument)) if name in SHOWS else ():
            if isinstance(node, ast.Attribute) and node.attr in STORED:
                yield node.lineno, node.attr
            if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and node.slice.value in STORED:
                yield node.lineno, str(node.slice.value)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_no_page_shows_stored_text_as_markdown(page: Path) -> None:
    assert list(loose(page.read_text(encoding="utf-8"))) == []


def test_a_text_that_is_shown_as_it_is_would_be_noticed() -> None:
    assert list(loose('st.markdown(f"**{run.sweep_name}** {plain(run.id)}")')) == [(1, "sweep_name")]
    assert list(loose("show(f\"Guard: {alert['message']}\")")) == [(1, "message")]


def test_plain_text_starts_nothing() -> None:
    """A picture of another's server was fetched by whoever looked at the page."""
    for mark in "![](http://evil.example/x.png)", "[a](b)", "**x**", "<b>", "$x$", ":material/home:", "`x`", "# x":
        shown = plain(mark)
        assert all(shown[at - 1] == "\\" for at, sign in enumerate(shown) if sign in "[]()*<>$`#!:_")


def test_two_models_have_two_tables() -> None:
    names: list[str] = []
    for model in ("a/b", "a_b", "a b", "x" * 300):
        names.append(bundle._file_name(model, names))
    assert names[0] == "a_b"
    assert len(set(names)) == 4
    assert max(map(len, names)) < 200


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.1", False), ("localhost", False), ("0.0.0.0", True)])
def test_a_dashboard_for_others_says_that_it_has_no_login(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], host: str, warned: bool
) -> None:
    from hero_ray.cli import dashboard, main

    monkeypatch.setattr(dashboard.os, "execve", lambda *_: None)
    with pytest.raises(SystemExit, match="0"):
        main(["dashboard", "--host", host, "--db", "sqlite:///none.db"])
    assert ("no login" in capsys.readouterr().err) == warned


def test_pandas_is_there_before_plotly_looks_for_it() -> None:
    """Plotly looks into `sys.modules`, where another visitor's thread may have put a half of it."""
    look = "import sys, dashboard.figures; assert hasattr(sys.modules['pandas'], 'Series')"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", look], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
