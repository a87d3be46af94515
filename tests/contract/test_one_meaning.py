"""One database, asked through every surface: states, intervals and labels agree cell by cell."""

from __future__ import annotations

import csv
import json
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("streamlit")
pytest.importorskip("plotly")
pytest.importorskip("fastapi")

from hero_ray.benchmarks import get
from hero_ray.cli import main
from hero_ray.core.types import Cell, Prediction, Sample
from hero_ray.nightly import history
from hero_ray.results.close import close_cells
from hero_ray.results.contenders import every_model
from hero_ray.results.database import open_results
from hero_ray.results.frontiers import AVERAGE
from hero_ray.results.summary import table
from hero_ray.store import Store
from tests import dashboard_data as data
from tests import fake_results as fake
from tests.demo import Demo

pytestmark = pytest.mark.filterwarnings("ignore")


@dataclass(frozen=True)
class Place:
    """What a surface says of a contender on a chart: score and interval in points of 100 with one digit, and state."""

    score: str
    interval: str
    state: str


Places = dict[tuple[str, str, str], Place]
"""(model, chart, label) -> place."""


@dataclass(frozen=True)
class Asked:
    """A database and its run."""

    url: str
    run: str
    folder: Path

    def verb(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
        with pytest.raises(SystemExit) as stopped:
            main([*arguments, "--run", self.run, "--db", self.url])
        shown = capsys.readouterr()
        assert not stopped.value.code, shown.err
        return shown.out

    def models(self) -> list[str]:
        with open_results(self.url) as store:
            return [results.model for results in every_model(store, self.run)]


def hard(url: str) -> str:
    """Seeds, two models, failed samples, straw men and MME's composite in one run."""
    models = ("hero-tiny", "hero-tiny-internvl")
    with open_results(url) as store:
        data.fill_run(store, "hard", data.grid(("synth-words", "synth-digits"), models), 32, failures=1)
        benchmark, answered = get("mme"), data.STRENGTH
        cells = [
            own
            for own in data.grid(("mme",), models)
            if own.method in ("full", "hero", "random") and own.retention_ratio != 0.4
        ]
        everything = [*data.grid(("synth-words", "synth-digits"), models), *cells]
        store.add_cells("hard", everything, {own.id: 32 for own in everything})
        for number, own in enumerate(cells):
            answers = _mme(own, answered[own.method], number)
            store.write_unit("hard", answers, main_metrics={"mme": benchmark.main_metric})
        close_cells(store, "hard", cells, {"mme": benchmark})
    return "hard"


def _mme(own: Cell, skill: float, seed: int) -> list[Prediction]:
    benchmark, rng, found = get("mme"), np.random.default_rng(seed), []
    for i in range(32):
        picture, gold = f"p{i // 2}", ("Yes", "No")[i % 2]
        category = ("existence", "count")[i // 16]
        sample = Sample("mme", f"{picture}/{i % 2}", f"Q{i}?", gold, picture, None, category, {"question_id": picture})
        text = gold if rng.random() < skill - 0.3 * (1 - own.retention_ratio) ** 3 else "Maybe"
        scores = benchmark.score(text, gold, sample)
        found.append(replace(data.answer(own, sample, rng), text=text, scores=scores))
    return found


def planted(url: str) -> str:
    """The demo's shape: one model, straw men, planted qualities that share their hard questions."""
    with open_results(url) as store:
        fake.fill(store, n=120)
        store.write_profile("run1", store.cells("run1")[0].id, {"batch_size": 1, "new_tokens": 8, "ttft_ms_p50": 9.0})
    return "run1"


@pytest.fixture(scope="module", params=[planted, pytest.param(hard, marks=pytest.mark.slow)], ids=["planted", "hard"])
def asked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    folder = tmp_path_factory.mktemp("meaning")
    url = f"sqlite:///{folder / 'results.db'}"
    return Asked(url, request.param(url), folder)


def rows_of(text: str, heading: str) -> Iterator[tuple[str, dict[str, str]]]:
    """(chart, row by column) of every frontier table in a verb's output or a report."""
    for part in re.split(heading, text, flags=re.M)[1:]:
        title, _, body = part.partition("\n")
        lines = [line for line in body.split("\n## ")[0].splitlines() if line.startswith("| ")]
        if lines and "State" in lines[0]:
            head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
            for row in rows:
                if len(row) == len(head):
                    yield title.strip(), dict(zip(head, row, strict=True))


def places(model: str, found: Iterator[tuple[str, dict[str, str]]]) -> Places:
    return {(model, chart, row["Cell"]): Place(row["Score"], row["95% interval"], row["State"]) for chart, row in found}


def span(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"[{low:.1f}, {high:.1f}]"


def by_cli(asked: Asked, capsys: pytest.CaptureFixture[str]) -> Places:
    found: Places = {}
    for model in asked.models():
        for more in ((), ("--average",)):
            text = asked.verb(capsys, "frontier", "--model", model, *more)
            found |= places(model, rows_of(text, r"^(?=\S+\n\n\| Cell)|^(?=average share)"))
    assert found
    return found


def by_report(asked: Asked, capsys: pytest.CaptureFixture[str]) -> Places:
    found: Places = {}
    for model in asked.models():
        path = asked.folder / f"{model}.md"
        asked.verb(capsys, "report", str(path), "--model", model)
        found |= places(model, rows_of(path.read_text(), r"^## Frontier: "))
    return found


def by_dashboard(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> Places:
    import streamlit as st

    from dashboard import loaders

    monkeypatch.setenv("HERO_RAY_DB", asked.url)
    st.cache_data.clear()
    st.cache_resource.clear()
    found: Places = {}
    benchmarks = {mark.benchmark for mark in loaders.load("marks", (asked.run,), None, None, "")}
    for benchmark in (None, *benchmarks):
        for chart in loaders.load("charts", (asked.run,), "tokens", benchmark, None, ""):
            for label, mark in chart.marks.items():
                key = (chart.model, benchmark or AVERAGE, label)
                found[key] = Place(f"{mark.value:.1f}", span(mark.low, mark.high), chart.states[label])
    return found


def by_http(asked: Asked) -> list[dict[str, Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what starlette says of its own test client's future
        from fastapi.testclient import TestClient
    from hero_ray.serve.api import build_api
    from hero_ray.serve.desk import Desk
    from hero_ray.serve.settings import ServeSettings
    from tests.local_serve import Noted

    made = ServeSettings(db=asked.url)
    nobody: Any = None  # no model answers here
    client = TestClient(build_api(made, nobody, Desk(made, Noted())), base_url="http://127.0.0.1")
    answer = client.get("/v1/frontier", params={"run": asked.run})
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()["data"]
    return rows


def test_every_surface_gives_a_contender_the_same_place(
    asked: Asked, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _agree(asked, capsys, monkeypatch)


@pytest.mark.ray
@pytest.mark.slow
def test_every_surface_gives_the_demo_the_same_places(
    demo: Demo, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _agree(Asked(demo.url, demo.last["run_id"], tmp_path), capsys, monkeypatch)


def _agree(asked: Asked, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    cli = by_cli(asked, capsys)
    alone = {key: place for key, place in cli.items() if key[1] != AVERAGE}
    assert by_report(asked, capsys) == alone
    assert by_dashboard(asked, monkeypatch) == cli
    _http_agrees(by_http(asked), alone)
    with open_results(asked.url) as store:
        _bundle_agrees(store, asked, cli)
        _sweep_table_agrees(store, asked, alone)
        _nightly_agrees(store, asked, alone)
    for model in asked.models():
        text = asked.verb(capsys, "advise", "--model", model)
        labels = {line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")} - {"Cell", ":--"}
        assert labels <= {label for own, _, label in alone if own == model}
        for label in sorted(labels)[::3]:
            text = asked.verb(capsys, "compare", label, "full", "--model", model)
            assert f"| {label} | full |" in text
    exported = asked.verb(capsys, "export", str(asked.folder / "figures.csv"))
    assert exported
    with (asked.folder / "figures.csv").open() as file:
        lines = {(row["model"], row["benchmark"], row["label"]) for row in csv.DictReader(file)}
    assert lines == set(alone)


def _http_agrees(rows: list[dict[str, Any]], alone: Places) -> None:
    """HTTP gives every cell a row: a contender's cells have its state, and their means are its score and bounds."""
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["model"], row["benchmark"], row["label"]), []).append(row)
    assert set(found) == set(alone)
    for key, group in found.items():
        means = (sum(row[name] for row in group) / len(group) for name in ("value", "ci_low", "ci_high"))
        value, low, high = (100 * mean / group[0]["scale"] for mean in means)
        (state,) = {row["frontier"] for row in group}
        assert Place(f"{value:.1f}", span(low, high), state) == alone[key]


def _bundle_agrees(store: Store, asked: Asked, cli: Places) -> None:
    from dashboard import bundle

    written = bundle.write(store, [store.run(asked.run)], asked.folder / "bundle")
    for results in every_model(store, asked.run):
        shown = {(mark.name.series, mark.name.budget): mark.name.key for mark in results.marks()}
        path = asked.folder / "bundle" / f"table-{results.model}.csv"
        with path.open() as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == len(shown)
        for row in rows:
            label = shown[row["method"], row["budget"]]
            for name in results.benchmarks:
                place = cli.get((results.model, name, label))
                assert row[name] == (place.score if place else "-")
            averaged = cli.get((results.model, AVERAGE, label))
            assert row["Avg. % of full"] == (averaged.score if averaged else "-")
    drawn = _pareto_lines(written.index.read_text())
    for results in every_model(store, asked.run):
        chart = [place for key, place in cli.items() if key[:2] == (results.model, AVERAGE)]
        on_line = [place for place in chart if place.state == "frontier"]
        assert sorted(p.score for p in on_line) == sorted(f"{y:.1f}" for y in drawn[f"{results.model}: tokens"])


def _pareto_lines(page: str) -> dict[str, list[float]]:
    """`MODEL: tokens` -> scores of the Pareto line in the share bundle's first charts."""
    found = {}
    for summary, figure in re.findall(r"<details open><summary>(.*?)</summary>(.*?)</details>", page, flags=re.S):
        start = figure.index("[", figure.index("Plotly.newPlot("))
        traces, _ = json.JSONDecoder().raw_decode(figure[start:])
        (line,) = (trace for trace in traces if trace["name"] == "Pareto line")
        found[f"{summary.split(':')[0]}: tokens"] = line["y"]
    return found


def _sweep_table_agrees(store: Store, asked: Asked, alone: Places) -> None:
    for results in every_model(store, asked.run):
        text = str(table(results.marks(), results.benchmarks))
        head, _, *lines = (line.strip("| ").split(" | ") for line in text.splitlines())
        shown = {(mark.name.series, mark.name.budget): mark for mark in results.marks()}
        for line in lines:
            row = dict(zip(head, line, strict=True))
            mark = shown[row["Method"], row["Budget"]]
            for benchmark in results.benchmarks:
                place = alone.get((results.model, benchmark, mark.name.key))
                assert re.split(" ± |, ", row[benchmark])[0] == (place.score if place else "-")


def _nightly_agrees(store: Store, asked: Asked, alone: Places) -> None:
    night = history.load(store, store.run(asked.run))
    named = {
        (cell.model, cell.benchmark, results.labels[cell.id]): (cell.id, cell.flavour, cell.seed)
        for results in every_model(store, asked.run)
        for cell in results.cells
    }
    assert set(named) == set(alone)
    for (model, benchmark, label), (cell, flavour, seed) in named.items():
        begins = f"{model} {label} {benchmark}" + (f":{flavour}" if flavour else "")
        (own,) = (name for name, each in night.cells.items() if each.cell_id == cell)
        assert own.removeprefix(begins) in ("", f" seed {seed}")
