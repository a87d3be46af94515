"""axe-core over every page: nothing serious or moderate of our own, at a desk and on a telephone, in light and dark."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
PAGES = sorted(path.stem for path in (ROOT / "dashboard" / "pages").glob("*.py"))
FILLED = ("search?text=red", "flips?view=grid")
"""Pages that show more once something is asked of them."""
STREAMLITS_OWN = ("stSidebarNav", "stFileUploader", "stJson", "stDataFrame")
"""Parts of a page that Streamlit draws whole: its navigation is a list of lists that axe does not take for one."""


def faults(page: Any) -> list[str]:
    """Serious and moderate findings outside Streamlit's own parts, each in a line."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = []
    for kind in axe.run(page).response["violations"]:
        if kind["impact"] not in ("critical", "serious", "moderate"):
            continue
        for node in kind["nodes"]:
            inside = page.evaluate(
                "([at, known]) => { const node = document.querySelector(at);"
                "return !!node && known.some(name => node.closest(`[data-testid^=${name}]`)) }",
                [node["target"][0], list(STREAMLITS_OWN)],
            )
            if not inside:
                found.append(f"{kind['impact']} {kind['id']}: {node['html'][:200]}")
    return found


def everywhere(page: Any) -> list[str]:
    """The same at both widths and in both schemes, and whether a page is wider than its window."""
    found = []
    for width in (1440, 390):
        for scheme in ("light", "dark"):
            page.set_viewport_size({"width": width, "height": 1000})
            page.emulate_media(color_scheme=scheme)
            for _ in range(5):
                page.wait_for_timeout(700)  # colours fade over, later where the machine is busy
                if not (left := faults(page)):
                    break
            found += [f"{width} {scheme} {fault}" for fault in left]
        if (wide := page.evaluate("document.documentElement.scrollWidth")) > width:
            found.append(f"{width}: {wide} pixels wide")
    return found


def test_a_fault_would_be_found(chromium: Any) -> None:
    page = chromium.new_page()
    page.set_content('<html lang="en"><title>x</title><main><h1>x</h1><img src="data:,"></main></html>')
    assert [fault.partition(":")[0] for fault in faults(page)] == ["critical image-alt"]
    page.close()


@pytest.mark.parametrize("name", [*PAGES, *FILLED])
def test_a_page_of_the_dashboard(visit: Callable[..., Any], demo_results: str, name: str) -> None:
    tab = visit(demo_results)
    page = tab.open("" if name == "frontier" else name)
    assert page.title().endswith("· hero_ray")
    assert page.locator("[data-testid=stException]").count() == 0
    tab.keep(f"{name}-1440")
    assert everywhere(page) == []


@pytest.mark.parametrize("name", ["report", "bundle", "method"])
def test_a_page_on_disk(chromium: Any, written: dict[str, str], name: str) -> None:
    page = chromium.new_page()
    page.goto(written[name])
    page.wait_for_selector("table", state="attached")
    assert everywhere(page) == []
    page.close()
