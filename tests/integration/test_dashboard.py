"""Every page of the dashboard, run by Streamlit's own test runner over real databases."""

from __future__ import annotations

import base64
import json
import os
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("streamlit")
pytest.importorskip("plotly")

from streamlit.testing.v1 import AppTest

from dashboard import figures
from dashboard.filters import short_id
from hero_ray.profiling.job import store_records
from hero_ray.store import open_store
from hero_ray.store.described import describe
from tests import dashboard_data as data

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "dashboard" / "pages"
NAMES = sorted(path.stem for path in PAGES.glob("*.py"))
NEEDS_RESULTS = [name for name in NAMES if name != "try_it"]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(data.make_results(f"sqlite:///{tmp_path_factory.mktemp('results') / 'results.db'}"))


@pytest.fixture(scope="module")
def thin(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Databases at the edges, which pages only look at: thousands of cells, one, none, and one without a table."""
    folder = tmp_path_factory.mktemp("thin")
    urls = {name: f"sqlite:///{folder / name}.db" for name in ("many", "one", "empty", "broken")}
    data.make_many_cells(urls["many"])
    open_store(urls["empty"]).close()
    for name in ("one", "broken"):
        data.make_one_cell(urls[name])
    with sqlite3.connect(folder / "broken.db") as connection:
        connection.execute("PRAGMA foreign_keys=OFF")
        connection.execute("DROP TABLE runs")
    return urls


@pytest.fixture(autouse=True)
def _fresh_caches(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import streamlit as st

    monkeypatch.chdir(ROOT)
    yield
    st.cache_data.clear()
    st.cache_resource.clear()


def page(name: str, url: str, monkeypatch: pytest.MonkeyPatch, **query: str) -> AppTest:
    monkeypatch.setenv("HERO_RAY_DB", url)
    test = AppTest.from_file(str(PAGES / f"{name}.py"), default_timeout=200)
    for key, value in query.items():
        test.query_params[key] = value
    return test.run()


def charts(test: AppTest) -> list[dict[str, Any]]:
    return [json.loads(chart.proto.spec) for chart in test.get("plotly_chart")]


def words(test: AppTest) -> str:
    kinds = (test.info, test.warning, test.error, test.success, test.caption, test.markdown)
    return "\n".join(str(element.value) for kind in kinds for element in kind).replace("\\", "")  # as it is read


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_page_shows_results(name: str, results: str, monkeypatch: pytest.MonkeyPatch) -> None:
    test = page(name, results, monkeypatch)
    assert not test.exception
    assert test.title[0].value


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", ["one", "many"])
def test_page_copes_with_one_cell_and_with_thousands(
    name: str, size: str, thin: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    test = page(name, thin[size], monkeypatch)
    assert not test.exception
    assert not test.error


@pytest.mark.slow
@pytest.mark.parametrize("name", NEEDS_RESULTS)
def test_missing_database_says_how_to_get_one(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "absent.db"
    test = page(name, f"sqlite:///{path}", monkeypatch)
    assert not test.exception
    assert "no results database yet" in words(test)
    assert any("python -m hero_ray.sweep" in code.value for code in test.code)
    assert not path.exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", NEEDS_RESULTS)
def test_empty_database_says_how_to_fill_it(name: str, thin: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    test = page(name, thin["empty"], monkeypatch)
    assert not test.exception
    assert not test.error
    assert test.info


@pytest.mark.slow
def test_a_link_finds_its_run_once_it_is_called_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = data.make_results(f"sqlite:///{tmp_path / 'named.db'}")
    store = open_store(url)
    run = store.runs(1)[0]
    store.transaction(describe, run.id, name="release 7")
    store.close()
    for address in (f"an earlier name · 01 Jan 2026 00:00 · {short_id(run.id)}", run.id):
        test = page("frontier", url, monkeypatch, run=address)
        assert not test.exception
        assert "which is not here" not in words(test)
        assert test.multiselect(key="run").value == [run.id]
        one = page("runs", url, monkeypatch, one=address)
        assert "which is not here" not in words(one)
        assert one.selectbox(key="one").value == run.id


def test_file_without_tables_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bare.db"
    sqlite3.connect(path).execute("CREATE TABLE other (x)").connection.close()
    test = page("frontier", f"sqlite:///{path}", monkeypatch)
    assert not test.exception
    assert "nothing has been stored in it yet" in words(test)


@pytest.mark.slow
@pytest.mark.parametrize("name", NEEDS_RESULTS)
def test_missing_table_asks_for_an_upgrade(name: str, thin: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    test = page(name, thin["broken"], monkeypatch)
    assert not test.exception
    assert "does not have the tables" in words(test)
    assert any("hero-ray db upgrade" in code.value for code in test.code)


def test_locked_database_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "locked.db"
    data.make_one_cell(f"sqlite:///{path}")
    monkeypatch.setattr("hero_ray.store.engine.READ_BUSY_TIMEOUT_MS", 50)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("PRAGMA journal_mode=DELETE")
    holder.execute("BEGIN EXCLUSIVE")
    try:
        test = page("frontier", f"sqlite:///{path}", monkeypatch)
        assert not test.exception
        assert "locked by another program" in words(test)
    finally:
        holder.execute("ROLLBACK")
        holder.close()
    test.run()
    assert charts(test)


def test_read_only_file_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.db"
    data.make_one_cell(f"sqlite:///{path}")
    before = path.read_bytes()
    path.chmod(0o444)
    test = page("frontier", f"sqlite:///{path}", monkeypatch)
    assert charts(test)
    assert path.read_bytes() == before


def test_frontier_draws_both_models_and_the_pareto_line(results: str, monkeypatch: pytest.MonkeyPatch) -> None:
    test = page("frontier", results, monkeypatch)
    drawn = charts(test)
    assert len(drawn) == 2
    names = {trace["name"] for trace in drawn[0]["data"]}
    assert {"full", "hero", "hired", "fastervlm", "random", "spatial", "Pareto line"} <= names


def test_who_comes_to_the_frontier_gets_a_picture_until_the_chart_is_drawn(
    results: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pictures(test: AppTest) -> list[str]:
        found = [re.search(r'first-look.*base64,([^"]+)"', html.proto.body) for html in test.get("html")]
        return [base64.b64decode(one[1]).decode() for one in found if one]

    test = page("frontier", results, monkeypatch)
    drawn = pictures(test)
    assert len(drawn) == len(charts(test)) > 0
    points = sum(len(trace["customdata"]) for trace in charts(test)[0]["data"] if "customdata" in trace)
    assert drawn[0].count("<title>") == points > 0
    assert not pictures(test.run())  # Plotly runs by now
    few = pictures(page("frontier", results, monkeypatch, method="full"))
    assert few
    assert all(">full</text>" in one and ">random</text>" not in one for one in few)
    assert not pictures(page("frontier", results, monkeypatch, log="true"))  # the picture knows no such axis
    assert not pictures(page("frontier", results, monkeypatch, published="true", cost="KV cache"))


def test_a_chart_is_made_once_until_its_filters_change(results: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    draw = figures.frontier

    def counted(*asked: Any) -> Any:
        made.append(asked[1].name)
        return draw(*asked)

    monkeypatch.setattr(figures, "frontier", counted)
    first = charts(page("frontier", results, monkeypatch))
    count = len(made)
    assert count == len(first)
    assert charts(page("frontier", results, monkeypatch)) == first
    assert len(made) == count
    assert charts(page("frontier", results, monkeypatch, method="full")) != first
    assert charts(page("frontier", results, monkeypatch, cost="KV cache")) != first
    assert len(made) == 3 * count


def test_frontier_filters_come_from_the_url(results: str, monkeypatch: pytest.MonkeyPatch) -> None:
    test = page("frontier", results, monkeypatch, benchmark="synth-words", cost="KV cache", published="true")
    layout = charts(test)[0]["layout"]
    assert layout["xaxis"]["title"]["text"].startswith("KV cache after prefill")
    assert layout["yaxis"]["title"]["text"] == "synth-words: accuracy"
    assert "No paper prints points for synth-words" in words(test)


def test_frontier_by_category_has_fewer_questions(results: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = charts(page("frontier", results, monkeypatch, benchmark="synth-words"))[0]
    part = charts(page("frontier", results, monkeypatch, benchmark="synth-words", category="colour"))[0]

    def people(chart: dict[str, Any]) -> str:
        return str(next(t for t in chart["data"] if t["name"] == "hero")["customdata"][0][2])

    assert "n = 24 questions" in people(whole)
    assert "n = 12 questions" in people(part)


def test_unlike_certificates_get_charts_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'two.db'}"
    cells = data.grid(("synth-words",))
    with open_store(url) as store:
        data.fill_run(store, "one", cells, 4)
        data.profile(store, "one", cells[:4], "cert-b")
    test = page("frontier", url, monkeypatch, cost="TTFT")
    assert len(charts(test)) == 2
    assert "compare machines, not methods" in words(test)
    assert "device name (Other CPU, Test CPU)" in words(test)


def test_a_filter_change_reruns_the_page(results: str, monkeypatch: pytest.MonkeyPatch) -> None:
    test = page("frontier", results, monkeypatch)
    test.multiselect(key="method").set_value(["full", "hero"]).run()
    names = {trace["name"] for trace in charts(test)[0]["data"]}
    assert "hero" in names
    assert "hired" not in names


def test_compare_tests_pairs_against_the_baseline(results: str, monkeypatch: pytest.MonkeyPatch) -> None:
    test = page("compare", results, monkeypatch, baseline="full", budget="20%")
    assert "over the 10 differences shown" in words(test)
    (heat,) = charts(test)
    assert heat["data"][0]["y"] == ["random", "spatial", "hero", "hired", "fastervlm"]
    frame = test.dataframe[0].value
    assert set(frame["pairs"]) == {24}


def asked(test: AppTest) -> str:
    """The question a page tells its readers."""
    (question,) = (each.proto.body for each in test.get("html") if "role=alert" in each.proto.body)
    return str(question)


def test_flips_page_through_disagreements(results: str, monkeypatch: pytest.MonkeyPatch) -> None:
    test = page("flips", results, monkeypatch, direction="either")
    assert test.number_input(key="at").value == 1
    question = asked(test)
    test.button(key="next").click().run()
    assert test.number_input(key="at").value == 2
    assert asked(test) != question
    assert len(test.get("image")) == 4  # tiles and thumbnail of both cells
    test.button(key="previous").click().run()
    assert asked(test) == question


@pytest.mark.slow
def test_flips_directions_partition_the_disagreements(results: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {}
    for direction in ("B loses", "B wins", "either"):
        test = page("flips", results, monkeypatch, direction=direction)
        sizes[direction] = test.number_input(key="at").max
    assert sizes["B loses"] + sizes["B wins"] == sizes["either"]


def test_efficiency_shows_stages_and_certificate(results: str, monkeypatch: pytest.MonkeyPatch) -> None:
    test = page("efficiency", results, monkeypatch)
    stages = charts(test)[0]
    assert [trace["name"] for trace in stages["data"]] == ["encode", "select", "prefill", "decode"]
    assert "Device: Test CPU" in words(test)


def test_load_shows_where_pruning_stops_paying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = data.make_one_cell(f"sqlite:///{tmp_path / 'one.db'}")
    assert "profile --clients 1,8,32,64" in words(page("load", url, monkeypatch))
    with open_store(url) as store:
        store_records(store, data.load_records())
    import streamlit

    streamlit.cache_data.clear()
    test = page("load", url, monkeypatch, clients="8")
    assert not test.exception
    waiting, accuracy, gains = charts(test)
    assert [trace["name"] for trace in waiting["data"]] == ["full 100%", "hero 20%"]
    assert accuracy["data"][1]["x"] == [40.0]
    assert gains["data"][0]["y"] == [1.5, 1.0, 0.8]
    assert "benchmark: synth-attribute" in words(test)
    assert "benchmark: synth-attribute" not in words(page("efficiency", url, monkeypatch))


def test_runs_shows_live_progress_and_failures(results: str, monkeypatch: pytest.MonkeyPatch) -> None:
    test = page("runs", results, monkeypatch)
    assert "running" in words(test)
    broken = next(option for option in test.selectbox(key="one").options if option.endswith("broken"))
    test.selectbox(key="one").set_value("broken").run()
    assert broken
    assert "**ImageError** 2" in words(test)


def test_a_run_that_nobody_works_on_has_no_time_left(results: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for alive in (True, False):
        monkeypatch.setattr("hero_ray.store.runs.is_alive", lambda progress, alive=alive: alive)
        test = page("runs", results, monkeypatch)
        assert ("not moving" in words(test)) != alive
        (bar,) = test.get("progress")
        assert ("answers/s" in bar.proto.text) == alive
        assert "failed" in bar.proto.text


def test_cancelling_needs_leave(results: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not [b for b in page("runs", results, monkeypatch).button if "Stop" in b.label]
    monkeypatch.setenv("HERO_RAY_DASHBOARD_CANCEL", "1")
    test = page("runs", results, monkeypatch)
    (button,) = (b for b in test.button if "Stop" in b.label)
    button.click().run()
    with open_store(results, read_only=True) as store:
        assert store.cancel_requested("live")
    assert "stopping after its current unit" in words(test)


def test_nightly_marks_the_regression(results: str, monkeypatch: pytest.MonkeyPatch) -> None:
    test = page("nightly", results, monkeypatch)
    assert "The newest run is below its limits" in words(test)
    assert "hero 40%" in words(test)
    assert any(trace["name"] == "look here" for chart in charts(test) for trace in chart["data"])
    assert set(test.dataframe[0].value["what"]) == {"commit", "config: seed"}


def test_studies_draw_a_parameter_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'alpha.db'}"
    with open_store(url) as store:
        data.fill_run(store, "alpha", [data.cell("hero", 0.2, "synth-words", alpha=a) for a in (0.0, 0.5, 1.0)], 4)
    first = charts(page("studies", url, monkeypatch))[0]
    assert first["data"][0]["name"].replace("<br>", " ") == "synth-words at 20%"
    assert first["layout"]["xaxis"]["title"]["text"] == "alpha"


def test_a_stored_study_is_drawn_with_its_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    from hero_ray.store import studies
    from hero_ray.studies import files
    from hero_ray.studies.records import FigureTable, Study, lines

    url = f"sqlite:///{tmp_path / 'studies.db'}"
    curve = lines("IoU", [{"name": "clip", "x": [1, 2], "y": [0.1, 0.2]}], "layer", "IoU")
    found = Study(
        "iou",
        "Layer IoU",
        "by layer",
        (curve,),
        (FigureTable("All", ("layer",), ((1,),)),),
        {"one": Image.new("RGB", (8, 8))},
    )
    document = files.document(found, {})
    with open_store(url) as store:
        data.fill_run(store, "run", [data.cell("hero", 0.2, "synth-words")], 4)
        for study_id, title in (("a", "old"), ("b", "Layer IoU")):
            result = document | {"title": title}
            store.transaction(studies.add, study_id, "iou", "hero-tiny", {}, result, "abc")
    test = page("studies", url, monkeypatch)
    assert any("Layer IoU" in text for text in words(test).splitlines())
    assert "old" not in words(test)
    assert any(chart["layout"]["xaxis"]["title"]["text"] == "layer" for chart in charts(test))
    assert document["pictures"]["one"].startswith("data:image/webp;base64,")


def test_app_opens_on_the_frontier(results: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERO_RAY_DB", results)
    test = AppTest.from_file(str(ROOT / "dashboard" / "app.py"), default_timeout=200).run()
    assert not test.exception
    assert test.title[0].value == "Frontier"
    test.switch_page("pages/compare.py").run()
    assert test.title[0].value == "Compare"


def test_dashboard_loads_no_torch_and_no_ray() -> None:
    import subprocess
    import sys

    modules = sorted(path.stem for path in (ROOT / "dashboard").glob("*.py") if path.stem not in ("__init__", "app"))
    script = "import sys\n" + "\n".join(f"import dashboard.{name}" for name in modules)
    script += "\nprint(*sorted({'torch', 'ray', 'transformers'} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_advice_is_the_verbs_and_names_what_blocks_it(results: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from hero_ray.results import advice
    from hero_ray.results.axes import axis
    from hero_ray.results.contenders import every_model

    with open_store(results, read_only=True) as store:
        own = every_model(store, [store.run("latest").id])[0]
        expected = advice.advise(own, advice.Allowance(60.0), axis("tokens"))
        strict = advice.advise(own, advice.Allowance(0.5), axis("tokens"))
    best = advice.cheapest(expected)
    assert best is not None
    assert advice.cheapest(strict) is None
    found = page("advise", results, monkeypatch, loss="60")
    assert not found.exception
    (said,) = found.success
    assert best.label.replace("@", "@") in said.value.replace("\\", "")
    counts = {verdict: sum(c.verdict == verdict for c in expected) for verdict in ("safe", "unproven", "unsafe")}
    assert [int(head.value.rpartition("(")[2].rstrip(")")) for head in found.header] == list(counts.values())
    nothing = page("advise", results, monkeypatch, loss="0.5")
    assert not nothing.success
    assert "No cell is shown to stay within 0.5 points" in nothing.warning[0].value


def test_the_open_cell_is_in_the_address(results: str, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = page("frontier", results, monkeypatch)
    names = [name for name in closed.selectbox(key="cell").options if not name.startswith("none")]
    found = page("frontier", results, monkeypatch, cell=names[-1])
    assert not found.exception
    assert any(f"**{names[-1]}** on" in element.value for element in found.markdown)
    assert not any(f"**{names[-1]}** on" in element.value for element in closed.markdown)


def test_what_an_address_asks_for_in_vain_is_said(results: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = page("frontier", results, monkeypatch, method="foo", benchmark="bar")
    assert not found.exception
    said = "\n".join(element.value for element in found.warning)
    assert "asks for methods foo, which is not here" in said
    assert "asks for score bar, which is not here" in said
    assert not page("frontier", results, monkeypatch).warning


def test_runs_of_one_day_are_told_apart() -> None:
    from dashboard.filters import short_id

    assert short_id("20261130-104727-37fd13") != short_id("20261130-104727-a1b2c3")
    assert short_id("mine") == "mine"


@pytest.mark.slow
def test_naming_a_run_needs_leave_and_is_seen_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = data.make_one_cell(f"sqlite:///{tmp_path / 'one.db'}")
    assert not page("runs", url, monkeypatch).text_area
    monkeypatch.setenv("HERO_RAY_DASHBOARD_CANCEL", "1")
    test = page("runs", url, monkeypatch)
    name, tags = (box for box in test.text_input if box.label in ("Name", "Tags, with commas between"))
    name.set_value("Baseline of the paper")
    tags.set_value("paper, gpu")
    test.text_area[0].set_value("weights of <b>May</b>")
    (save,) = (button for button in test.button if button.label == "Save")
    save.click().run()
    row = test.dataframe[0].value.iloc[0]
    assert (row["name"], list(row["tags"]), row["note"]) == (
        "Baseline of the paper", ["paper", "gpu"], "weights of <b>May</b>",
    )  # fmt: skip
    assert "**Baseline of the paper** · #paper · #gpu" in words(test)
    test = page("runs", url, monkeypatch, find="baseline MAY")
    assert len(test.dataframe[0].value) == 1
    assert "No run fits" in words(page("runs", url, monkeypatch, find="another"))


@pytest.mark.slow
def test_two_runs_of_one_cell_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'two.db'}"
    own = data.grid(("synth-words",))[:4]
    with open_store(url) as store:
        data.fill_run(store, "one", own, 6)
        data.fill_run(store, "two", own[:3], 6)
    test = page("two_runs", url, monkeypatch)
    assert "3 same cell, 1 only in A" in words(test)
    frames = [frame.value for frame in test.dataframe]
    assert list(frames[-1]["state"]) == ["same cell"] * 3 + ["only in A"]
    assert set(frames[-1]["of both"].dropna()) == {6}
    names = test.get("html")
    link = next(str(each.proto.body) for each in names if "Open in Flips" in str(each.proto.body))
    assert link.startswith('<a href="flips?run=')
    test = page("two_runs", url, monkeypatch, state="only in B")
    assert "No cell is in this state" in words(test)


@pytest.mark.slow
def test_search_finds_answers_and_shows_what_every_cell_said(results: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "press Enter" in words(page("search", results, monkeypatch))
    test = page("search", results, monkeypatch, text="SHAPE 3?", **{"in": "questions"})
    hits, said = (frame.value for frame in test.dataframe)
    assert list(hits["question"]) == ["What colour is shape 3?"] * len(hits)
    assert len(said) > 10
    assert said["cell"].iloc[0].startswith("full")
    assert "None of the answers holds this text" in words(page("search", results, monkeypatch, text="%"))


@pytest.mark.slow
def test_a_grid_of_flips_opens_one_large(results: str, monkeypatch: pytest.MonkeyPatch) -> None:
    test = page("flips", results, monkeypatch, direction="all samples", view="grid")
    assert len(test.get("image")) == 12
    larger = [button for button in test.button if button.label == "Large"]
    assert len(larger) == 12
    larger[4].click().run()
    assert test.number_input(key="at").value == 5
    assert len(test.get("image")) == 4


@pytest.mark.slow
def test_compare_shows_the_columns_and_the_order_of_the_address(results: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def table(**query: str) -> str:
        test = page("compare", results, monkeypatch, **query)
        return next(str(each.proto.body) for each in test.get("html") if "<table" in str(each.proto.body))

    usual, narrow = table(), table(costs="Tokens", sort="Tokens")
    assert ">KV cache, " in usual
    assert ">KV cache, " not in narrow
    assert usual.index(">full ") < usual.index(">hero ") < usual.index("10%")
    assert narrow.index("10%") < narrow.index(">full ")


@pytest.mark.slow
def test_a_method_has_a_card(results: str, monkeypatch: pytest.MonkeyPatch) -> None:
    test = page("methods", results, monkeypatch, card="hired")
    figures, lost, failing = (frame.value for frame in test.dataframe)
    assert set(figures["Cell"]) == {"hired@40%", "hired@20%", "hired@10%"}
    assert set(lost["Benchmark"]) == set(figures["Benchmark"])
    assert failing["Against full"].iloc[0].startswith("-")
    assert len(test.get("image")) == 4 * 3  # tiles and thumbnail of both, of three flips
    assert "lost at 20%" in words(test)
