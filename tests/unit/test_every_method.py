"""The tables of docs/results.md: what they are made from, and that they say what the tests say."""

from __future__ import annotations

from pathlib import Path

import pytest

from hero_ray.core.config import build, read
from hero_ray.core.errors import ConfigError
from hero_ray.methods import names
from hero_ray.results.contenders import Results
from perf import every_method
from tests import fake_results as fake
from tests.fake_results import QUALITY

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    from hero_ray.store import open_store

    store = open_store(f"sqlite:///{tmp_path_factory.mktemp('every')}/fake.db")
    fake.fill(store)
    return Results(store, "run1")


def test_the_sweep_leaves_no_method_out() -> None:
    config = build(read(ROOT / "configs" / "every-method.yaml"))
    assert sorted({entry.name for entry in config.all_methods}) == sorted(names())
    assert set(config.models) == {"hero-tiny", "hero-tiny-internvl", "hero-tiny-qwen"}


def test_a_method_stands_beside_every_straw_man_of_its_budget(results: Results) -> None:
    found = every_method.pairs(results)
    assert {(pair.label, pair.rival) for pair in found} == {
        (f"{method}@{budget}%", rival)
        for method in ("hero", "hired")
        for budget in (40, 20)
        for rival in ("random", "downsample")
    }
    assert {pair.verdict for pair in found} == {"better"}  # planted: 0.84 beside 0.6
    assert all(pair.result.n == 300 and pair.result.n_clusters == 100 for pair in found)


def test_what_is_planted_worse_or_alike_is_said_so(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(QUALITY, "hero", QUALITY["downsample"])
    monkeypatch.setitem(QUALITY, "hired", 0.2)
    from hero_ray.store import open_store

    store = open_store(results.store.url.replace("fake.db", "worse.db"))
    fake.fill(store)
    found = {(pair.label, pair.rival): pair.verdict for pair in every_method.pairs(Results(store, "run1"))}
    assert found["hired@20%", "downsample"] == found["hired@40%", "random"] == "worse"
    assert found["hero@20%", "downsample"] == "open"


def test_both_tables_are_in_the_section(results: Results) -> None:
    part = every_method.section(results)
    assert "| hero | 20% |" in part
    assert "Commit abc123, weights unknown, 3,300 answers in 22 cells" in part
    assert "n = 300 questions on 100 pictures; 8 pairs are one family" in part
    assert "| hero@20% |" in part


def test_a_page_keeps_what_it_says_of_other_models() -> None:
    begin, end = every_method.BEGIN, every_method.END
    page = f"a\n{begin}\n### one\n\nold\n\n### two\n\nstays\n{end}\nb\n"
    assert every_method.replaced(page, {"one": "### one\n\nnew", "three": "### three\n\nmore"}, "p.md") == (
        f"a\n{begin}\n### one\n\nnew\n\n### two\n\nstays\n\n### three\n\nmore\n{end}\nb\n"
    )
    assert every_method.replaced(f"{begin}\n{end}\n", {"one": "### one"}, "p.md") == f"{begin}\n### one\n{end}\n"


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"p\.md has no part between"):
        every_method.replaced("nothing", {}, "p.md")
