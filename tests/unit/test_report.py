"""The report: one file, nothing outside it, and everything a reader needs to judge it."""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from hero_ray import methods
from hero_ray.cli import main
from hero_ray.results.contenders import Results
from hero_ray.results.frontiers import Frontier, average_frontiers, frontiers
from hero_ray.results.report import document, page
from hero_ray.results.report.svg import Overlaid, Scale, frontier_chart
from hero_ray.results.shown import palette
from hero_ray.results.writer import grid as table
from hero_ray.stats.frontier import Point, frontier
from hero_ray.store import open_store
from tests import fake_results as fake


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    found = str(tmp_path_factory.mktemp("db") / "results.db")
    with open_store(found) as store:
        cells = fake.fill(store, n=60)
        asked = fake.sample(cells[0].benchmark, 99, 3)
        broken = fake.Prediction(cells[0].id, asked, error_type="ImageError", error_message="<broken> | bytes")
        store.write_unit("run1", [broken])
        profile = {"batch_size": 1, "new_tokens": 8, "ttft_ms_p50": 12.5, "n": 5, "certificate": {"device": "cpu"}}
        for cell in cells:
            store.write_profile("run1", cell.id, profile)
    return found


@pytest.fixture(scope="module")
def results(path: str) -> Iterator[Results]:
    with open_store(path, read_only=True) as store:
        yield Results(store, "run1")


def test_the_page_needs_nothing_from_outside(results: Results) -> None:
    html = page.to_html(document.build(results))
    assert not re.search(r"<script|<link|src=|@import|url\(", html)
    addresses = set(re.findall(r"https?://[^\"'\s<]+", html))
    assert addresses == {"http://www.w3.org/2000/svg"}  # the SVG name space, never fetched
    parser = HTMLParser()
    parser.feed(html)


def test_the_page_says_what_a_reader_must_know(results: Results) -> None:
    text = page.to_markdown(document.build(results))
    sections = (
        "Share of the unpruned score",
        "Against straw men",
        "Simple and difficult samples",
        "Speed and memory",
        "Failed samples",
        "Provenance",
    )
    facts = ('"device": "cpu"', "ImageError", '"git_commit": "abc123"', "clustered by picture")
    for expected in (*(f"## {name}" for name in sections), *facts, "no evidence about methods on real models"):
        assert expected in text, expected


def test_what_samples_say_cannot_break_the_page(results: Results) -> None:
    html = page.to_html(document.build(results))
    assert "&lt;broken&gt; | bytes" in html
    assert "<broken>" not in html


def test_markdown_plots_are_inside_and_valid(results: Results) -> None:
    text = page.to_markdown(document.build(results, "flops"))
    plots = re.findall(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)", text)
    assert len(plots) == 3
    for plot in plots:
        assert ElementTree.fromstring(base64.b64decode(plot)).tag.endswith("svg")


def test_a_chart_shows_every_cell_once(results: Results) -> None:
    chart = frontiers(results)[0]
    root = ElementTree.fromstring(frontier_chart(chart, [Overlaid(50.0, 60.0, "paper & table")]))
    titles = [element.text or "" for element in root.iter() if element.tag.endswith("title")]
    assert len(titles) == len(chart.placed) + 1
    assert titles[-1] == "paper & table"
    assert any(title.startswith("hero@20%: ") for title in titles)


def test_a_chart_of_a_single_point_is_drawn() -> None:
    placed = tuple(frontier([Point("full", "full", 100.0, 1.0)]))
    assert 'aria-label="one against' in frontier_chart(
        Frontier("one", "m", "b", "", "accuracy", "tokens", None, placed, {})
    )


def test_a_legend_of_every_method_is_whole() -> None:
    names = [*methods.names(), "a-method-whose-name-is-longer-than-any-legend"]
    points = [Point(f"{name}@20%", f"{name}@20%", float(i), 50.0 + i) for i, name in enumerate(names)]
    chart = Frontier("all", "m", "b", "", "accuracy", "tokens", None, tuple(frontier(points)), {})
    drawn = ElementTree.fromstring(frontier_chart(chart))
    _, _, width, height = map(float, drawn.attrib["viewBox"].split())
    texts = {
        one.text: (float(one.attrib["x"]), float(one.attrib["y"])) for one in drawn.iter() if one.tag.endswith("}text")
    }
    assert {name for name in names if len(name) < 24} < set(texts)
    for text, (x, y) in texts.items():
        assert y < height, text
        assert x < 600 or x + 6.5 * len(text) <= width, text


def test_a_method_looks_alike_in_every_chart_and_on_every_page(results: Results) -> None:
    """By its own colour and marker, whatever else the chart holds; in the unit that the chart has."""
    shown = [*frontiers(results), *average_frontiers(results)]
    drawn = [frontier_chart(chart) for chart in shown]
    for svg, chart in zip(drawn, shown, strict=True):
        for method in {mark.method for mark in chart.marks.values()}:
            colour = palette.look(method).colour
            titles = re.findall(rf'stroke="{colour}" stroke-width="1.5"><title>{method}', svg)
            assert titles, method
    assert ["share of the unpruned score, %" in svg for svg in drawn] == [False] * (len(shown) - 1) + [True]


class Outline(HTMLParser):
    """Tags of a page with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def test_the_page_has_landmarks_names_and_a_width(results: Results) -> None:
    html = page.to_html(document.build(results))
    outline = Outline(html)
    assert len(outline.of("main")) == len(outline.of("h1")) == 1
    assert {"name": "viewport", "content": "width=device-width,initial-scale=1"} in outline.of("meta")
    assert len(outline.of("caption")) == len(outline.of("table")) > 3
    assert {head.get("scope") for head in outline.of("th")} == {"col", "row"}
    assert all(place.get("id") for place in outline.of("h2"))
    scrolling = [attrs for _, attrs in outline.tags if attrs.get("class") == "scroll"] + outline.of("pre")
    assert all((at["tabindex"], at["role"], bool(at["aria-label"])) == ("0", "region", True) for at in scrolling)
    names = [at["aria-label"] for at in scrolling]
    assert len(set(names)) == len(names), "two regions of one name are one to a screen reader"
    assert "@media print" in html


def test_ticks_are_round_and_inside() -> None:
    assert Scale(0.3, 9.7, 0, 100).ticks() == [2, 4, 6, 8]
    assert Scale(-1, 1, 0, 100)(0) == 50


def test_overlays_keep_the_mme_scales_apart() -> None:
    chart = Frontier("mme", "m", "mme", "", "mme_perception_score", "tokens", None, (), {})
    assert document.overlay(chart, "internvl2-2b") == []
    assert len(document.overlay(chart, "llava-next-7b")) > 5


def test_a_bar_in_a_cell_stays_in_its_cell() -> None:
    assert str(table(["a"], [["x|y\nz"]])).splitlines()[-1] == "| x\\|y z |"


@pytest.mark.parametrize(("name", "code"), [("r.html", 0), ("r.md", 0), ("r.pdf", 2)])
def test_the_verb_writes_the_file(path: str, tmp_path: Path, name: str, code: int) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["report", str(tmp_path / name), "--run", "run1", "--db", path])
    assert stopped.value.code == code
    assert (tmp_path / name).exists() == (code == 0)
