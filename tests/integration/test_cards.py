"""What one page says of a method, and its page in the share bundle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("plotly")

from dashboard import bundle
from hero_ray.results import cards
from hero_ray.results.contenders import Results
from hero_ray.store import Store, open_store
from tests import dashboard_data as data


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with open_store(f"sqlite:///{tmp_path_factory.mktemp('cards') / 'results.db'}") as opened:
        data.fill_run(opened, "run", data.grid(("synth-attribute", "synth-words")), 24)
        data.fill_run(opened, "bare", [data.cell("hero", 0.2, "synth-words")], 6)
        yield opened


def test_failures_are_looked_for_at_the_usual_budget_and_ranked(store: Store) -> None:
    results = Results(store, "run")
    card = cards.card(results, "random")
    assert (card.method, card.at) == ("random", "random@20%")
    gaps = [float(str(row[2])) for row in card.failing.rows]
    assert gaps == sorted(gaps)
    assert max(gaps) < 0
    whole = {(m.benchmark, m.category): m.value for m in results.marks(categories=True) if m.name.key == "random@20%"}
    full = {(m.benchmark, m.category): m.value for m in results.marks(categories=True) if m.name.key == "full"}
    benchmark, category, gap, *_ = card.failing.rows[0]
    assert float(str(gap)) == pytest.approx(whole[benchmark, category] - full[benchmark, category], abs=0.05)


def test_typical_flips_are_losses_from_where_most_are_lost(store: Store) -> None:
    card = cards.card(Results(store, "run"), "random")
    assert len(card.flips) == 3
    assert all(one.flip.change < 0 for one in card.flips)
    counts = [one.lost for one in card.flips]
    assert counts == sorted(counts, reverse=True)
    places = [(one.own.benchmark, one.flip.category) for one in card.flips]
    assert len(set(places)) == 3, "one from each place while there are enough of them"


def test_without_unpruned_cells_there_are_figures_alone(store: Store) -> None:
    card = cards.card(Results(store, "bare"), "hero")
    assert (card.at, card.lost, card.failing, card.flips) == ("", None, None, ())
    assert [row[0] for row in card.figures.rows] == ["hero@20%"]


def test_the_bundle_has_a_page_for_each_method_but_the_straw_men(store: Store, tmp_path: Path) -> None:
    written = bundle.write(store, [store.run("run")], tmp_path)
    pages = sorted(path.name for path in tmp_path.glob("method-*.html"))
    assert pages == [f"method-hero-tiny-{name}.html" for name in ("fastervlm", "hero", "hired")]
    index = written.index.read_text()
    for name in pages:
        text = (tmp_path / name).read_text()
        assert f'href="{name}"' in index
        assert "<script" not in text, "no chart is on it"
        assert text.count("<article>") == 3
        assert "Expected: " in text
        assert "[&quot;" not in text, "an answer is no list to those who read it"


@pytest.mark.parametrize(
    ("reference", "said"), [("a", "a"), (["a", "b", "a"], "a · b"), (None, "None"), ([1, 2], "1 · 2")]
)
def test_what_was_expected_is_said_once(reference: object, said: str) -> None:
    assert cards.expected(reference) == said
