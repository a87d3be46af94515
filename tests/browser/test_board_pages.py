"""The board's pages in a real Chromium, from the disk: at a desk and on a telephone, in silence, without a network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hero_ray.results.board import site
from tests import board_data

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The site of ten generated records, the list of records first."""
    folder = tmp_path_factory.mktemp("board")
    board_data.ten(folder, tmp_path_factory.mktemp("scratch"))
    index = site.build(folder, tmp_path_factory.mktemp("site")).index
    return [index, *sorted(path for path in index.parent.glob("*.html") if path != index)]


@pytest.fixture
def quiet(chromium: Any) -> Iterator[Any]:
    """Opens a page and holds it to silence: nothing on the console, no request but to the disk."""
    problems: list[str] = []
    contexts: list[Any] = []

    def open_page(path: Path, width: int) -> Any:
        context = chromium.new_context(offline=True, viewport={"width": width, "height": 900})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda sent: None if sent.url.startswith("file:") else problems.append(sent.url))
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


@pytest.mark.parametrize("width", [1440, 390])
def test_every_page_fits_and_is_silent(quiet: Any, pages: list[Path], width: int) -> None:
    assert len(pages) == 3
    for path in pages:
        page = quiet(path, width)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("main").count() == page.locator("h1").count() == 1
        assert page.locator("table tbody tr").count() > 5
        assert page.locator("svg").count() == (0 if path == pages[0] else page.locator("figure").count())


def test_one_comes_from_the_list_to_a_model_and_back(quiet: Any, pages: list[Path]) -> None:
    page = quiet(pages[0], 390)
    assert page.locator("table tbody tr").count() == 10
    page.get_by_role("link", name="Frontiers of org/some-model").click()
    page.wait_for_selector("svg")
    assert page.locator("h1").inner_text() == "org/some-model"
    page.get_by_role("link", name="All records").click()
    page.wait_for_selector("text=changed since verified")
