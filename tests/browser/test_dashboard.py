"""The dashboard as a person meets it: a real Chromium on a database made by a real sweep."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

PAGES = (
    "", "advise", "compare", "two_runs", "flips", "search", "methods",
    "efficiency", "load", "runs", "nightly", "studies", "try_it",
)  # fmt: skip
Visit = Callable[..., Any]


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.slow
def test_every_page_opens_on_a_telephone(path: str, visit: Visit, demo_results: str) -> None:
    """At a desk `test_accessibility` opens every one."""
    tab = visit(demo_results, 390)
    page = tab.open(path)
    assert page.title().endswith("· hero_ray")
    assert page.locator("[data-testid=stException]").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    tab.keep(f"{path or 'frontier'}-390")


@pytest.mark.slow
def test_dark_screens_get_a_dark_page(visit: Visit, demo_results: str) -> None:
    tab = visit(demo_results, scheme="dark")
    page = tab.open("", chart=True)
    colour = page.evaluate("getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor")
    red, green, blue = (int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(","))
    assert max(red, green, blue) < 60
    tab.keep("frontier-dark")


def test_hover_names_method_budget_score_and_sample_size(visit: Visit, results: str) -> None:
    page = visit(results).open("", chart=True)
    names = [name.strip() for name in page.locator(".legendtext").all_text_contents()]
    assert {"full", "random", "hired", "hero", "Pareto line"} <= set(names)
    page.locator(".js-plotly-plot").first.scroll_into_view_if_needed()
    text = _hover(page, "random")
    # In a small sweep methods lie on one another, and whose point is on top hangs on the processor's last digits.
    assert any(f"{name} at " in text for name in names)
    assert "n = " in text
    assert "visual tokens" in text


def test_the_first_picture_gives_way_to_the_chart(visit: Visit, results: str) -> None:
    tab = visit(results)
    held: list[Any] = []
    tab.page.route("**/PlotlyChart*", lambda route: held.append(route))
    with tab.page.expect_request("**/PlotlyChart*"):
        tab.page.goto(f"{tab.address}/")
    tab.page.wait_for_function("document.querySelector('.first-look img')?.naturalWidth > 0")
    picture = tab.page.locator(".first-look img").first
    before = _place_in_container(picture)
    assert picture.is_visible()
    for route in held:
        route.continue_()
    tab.page.wait_for_selector(".js-plotly-plot .scatterlayer .point", state="attached")
    assert not picture.is_visible()
    assert _place_in_container(tab.page.locator(".js-plotly-plot").first) == before


def _place_in_container(element: Any) -> list[float]:
    """Left, top and width of an element within what holds the chart: above it the page may still be growing."""
    script = """element => {
        const own = element.getBoundingClientRect();
        const outer = element.closest('[class*=st-key-look]').getBoundingClientRect();
        return [own.left - outer.left, own.top - outer.top, own.width];
    }"""
    return list(element.evaluate(script))


def _hover(page: Any, series: str) -> str:
    """Hover text of the last point of a series of the first chart."""
    place = page.evaluate(
        """series => {
            const plot = document.querySelector('.js-plotly-plot');
            const trace = plot._fullData.find(t => t.name === series);
            const box = plot.getBoundingClientRect(), x = plot._fullLayout.xaxis, y = plot._fullLayout.yaxis;
            const last = trace.x.length - 1;
            return [box.left + x._offset + x.l2p(trace.x[last]), box.top + y._offset + y.l2p(trace.y[last])];
        }""",
        series,
    )
    page.mouse.move(place[0] - 40, place[1] - 40)
    page.mouse.move(*place, steps=5)
    page.wait_for_selector(".hoverlayer .hovertext", state="attached")
    return str(page.locator(".hoverlayer").first.text_content())


@pytest.mark.slow
def test_a_filter_changes_the_chart_and_the_url_and_a_link_brings_it_back(visit: Visit, demo_results: str) -> None:
    tab = visit(demo_results)
    page = tab.open("", chart=True)
    assert "Visual tokens" in str(page.locator(".xtitle").first.text_content())
    page.get_by_text("KV cache", exact=True).click()
    page.wait_for_function("document.querySelector('.xtitle')?.textContent.startsWith('KV cache')")
    assert "cost=KV" in page.url
    page.get_by_text("Published points").click()
    page.wait_for_function("location.search.includes('published=true')")
    link = page.url.removeprefix(tab.address).removeprefix("/")
    again = visit(demo_results)
    page = again.open(link, chart=True)
    assert str(page.locator(".xtitle").first.text_content()).startswith("KV cache")
    assert page.url.endswith(link)


@pytest.mark.slow
def test_filters_survive_a_look_at_another_page(visit: Visit, demo_results: str) -> None:
    page = visit(demo_results).open("?cost=FLOPs", chart=True)
    page.get_by_role("link", name="Compare").click()
    page.wait_for_selector("h1:has-text('Compare')")
    page.get_by_role("link", name="Frontier").click()
    page.wait_for_selector("h1:has-text('Frontier')")
    page.wait_for_function("location.search.includes('cost=FLOPs')")


@pytest.mark.slow
def test_a_click_opens_the_cell(visit: Visit, demo_results: str) -> None:
    from playwright.sync_api import TimeoutError

    tab = visit(demo_results)
    page = tab.open("", chart=True)
    page.locator(".js-plotly-plot").first.scroll_into_view_if_needed()
    names = [name.strip() for name in page.locator(".legendtext").all_text_contents()]
    for last in (False, False, True):
        # The page may draw the chart anew under the pointer, which then points at nothing; a person clicks again.
        text = _hover(page, "random")
        (name,) = (name for name in names if f"{name} at " in text)  # what lies on top of equal points
        page.mouse.down()
        page.mouse.up()
        with nullcontext() if last else suppress(TimeoutError):
            page.wait_for_selector(f"text=/{name} at .* on all benchmarks/", timeout=30_000)
            break


@pytest.mark.slow
def test_tables_can_be_taken_along(visit: Visit, demo_results: str) -> None:
    page = visit(demo_results).open("compare")
    page.wait_for_selector(".hr-table b")
    assert page.locator(".hr-table b").count() > 0
    for button, start in (("Download LaTeX", "\\begin{tabular}"), ("Download CSV", "model,method,budget")):
        with page.expect_download() as download:
            page.get_by_role("button", name=button).click()
        assert Path(download.value.path()).read_text().startswith(start)


def test_flips_show_the_masks_and_page_by_keyboard(visit: Visit, results: str) -> None:
    tab = visit(results)
    page = tab.open("flips?direction=all+samples")
    images = page.locator("img[alt^='Tiles']")
    # Pictures arrive one by one; both cells' views must be there.
    page.wait_for_function("document.querySelectorAll('img[alt*=\"Thumbnail view\"]').length === 2")
    page.wait_for_function("document.querySelectorAll('img[alt^=\"Tiles\"]').length === 2")
    picture = Image.open(io.BytesIO(images.last.screenshot()))
    assert len(picture.convert("RGB").resize((40, 40)).getcolors(1600)) > 20
    page.keyboard.press("ArrowRight")
    page.wait_for_function("location.search.includes('at=2')")
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("!location.search.includes('at=2')")


@pytest.mark.slow
def test_an_uploaded_picture_is_answered(visit: Visit, demo_results: str, tmp_path: Path) -> None:
    from hero_ray.benchmarks import get

    benchmark = get("synth-attribute")
    sample = next(iter(benchmark.samples(limit=1)))
    path = tmp_path / "picture.png"
    benchmark.load_image(sample.image_ref).save(path)
    tab = visit(demo_results)
    page = tab.open("try_it")
    page.locator("input[type=file]").set_input_files(str(path))
    page.wait_for_selector("text=picture.png")
    tab.settle()
    question = page.get_by_label("Question", exact=True)
    question.fill(sample.question)
    question.press("Enter")
    tab.settle()
    page.get_by_role("button", name="Ask").click()
    page.wait_for_selector("h2:has-text('Ledger')")
    tab.settle()
    answers = page.locator("h3:has-text('“')").all_text_contents()
    assert len(answers) == 2
    assert all("(empty)" not in answer for answer in answers)
    assert page.locator("img[alt^='Tiles']").count() == 2
    tab.keep("try_it-answered")


@pytest.mark.slow
def test_a_file_that_is_no_picture_is_refused_in_words(visit: Visit, demo_results: str, tmp_path: Path) -> None:
    path = tmp_path / "notes.png"
    path.write_bytes(b"not a picture")
    page = visit(demo_results).open("try_it")
    page.locator("input[type=file]").set_input_files(str(path))
    page.wait_for_selector("text=/not a picture we can read/")
