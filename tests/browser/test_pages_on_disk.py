"""Report and share bundle as files: at a desk, on a telephone, in the dark, on paper; nothing asked of the network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]
A4 = {"width": 718, "height": 1000}
"""The width of an A4 page between margins of 10 mm, in CSS pixels."""
CUT = """() => [...document.querySelectorAll("table, pre, svg")].filter(one => {
    const box = one.getBoundingClientRect();
    return box.width > 0 && box.right > innerWidth + 1;
}).length"""


@pytest.fixture
def opened(chromium: Any, written: dict[str, str]) -> Iterator[Any]:
    """Opens a page and holds it to silence: no error on the console, no request but to the disk."""
    problems: list[str] = []
    contexts: list[Any] = []

    def open_page(name: str, width: int = 1440, scheme: str = "light") -> Any:
        context = chromium.new_context(offline=True, viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("request", lambda sent: None if sent.url.startswith(("file:", "data:")) else problems.append(sent.url))
        page.goto(written[name])
        page.wait_for_selector("table", state="attached")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390, 320])
@pytest.mark.parametrize("name", ["report", "bundle", "method"])
def test_it_fits_the_screen(opened: Any, name: str, width: int, scheme: str) -> None:
    page = opened(name, width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("main").count() == 1
    assert page.locator("h1").count() == 1


@pytest.mark.parametrize("name", ["report", "bundle", "method"])
def test_nothing_is_cut_on_paper(opened: Any, name: str) -> None:
    page = opened(name)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.set_viewport_size(A4)
    page.emulate_media(media="print")
    assert page.locator("table").count() > 2
    page.wait_for_function(f"({CUT})() === 0", timeout=20_000)


def test_charts_are_drawn_for_paper_and_again_for_the_screen(opened: Any) -> None:
    page = opened("bundle")
    page.wait_for_selector(".js-plotly-plot svg")
    widths = "[...document.querySelectorAll('.js-plotly-plot')].map(one => one._fullLayout.width)"
    shown, folded = page.evaluate(widths), page.locator("details:not([open])").count()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert max(page.evaluate(widths)) < A4["width"] < max(shown), "without a wait: a browser prints at once"
    assert page.evaluate("[...document.querySelectorAll('.js-plotly-plot')].every(one => one.clientHeight > 100)")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count() == folded > 1
    page.wait_for_function(f"Math.max(...{widths}) === {max(shown)}")


def test_charts_of_the_bundle_hover_and_are_tables_too(opened: Any) -> None:
    page = opened("bundle")
    page.wait_for_selector(".scatterlayer .point", state="attached")
    assert page.locator(".hr-table tbody tr").count() > 3
    named = page.evaluate("[...document.querySelectorAll('article img')].map(one => one.alt)")
    assert len(set(named)) == len(named) > 0
    assert page.evaluate("[...document.images].every(i => i.loading === 'lazy' || i.naturalWidth > 0)")
    charts = page.locator("figure[role=group]")
    assert charts.count() > 1
    assert page.locator("figure[role=group] + details table caption").count() == charts.count()
    box = page.locator(".nsewdrag").first.bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
    page.wait_for_selector(".modebar-btn")
    tools = page.locator(".modebar-btn").evaluate_all("all => all.map(one => one.dataset.title || '')")
    assert [tool for tool in tools if "hare" in tool or "loud" in tool] == [], "nothing offers to upload a chart"
