"""What a reader must know of a figure goes with it: flags, missing answers, one-sided intervals, needs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from hero_ray.benchmarks import get
from hero_ray.core.types import Cell, Prediction, Sample
from hero_ray.results import advice, claims, needs, summary
from hero_ray.results.averages import straw_men
from hero_ray.results.axes import axis
from hero_ray.results.close import close_cells
from hero_ray.results.comparisons import compare
from hero_ray.results.contenders import Results, aligned, parse_contender
from hero_ray.results.report import tables
from hero_ray.store import Store, open_store

PICTURES = 60


@pytest.fixture
def store() -> Iterator[Store]:
    with open_store(":memory:") as opened:
        yield opened


def fill(store: Store, name: str, answers: dict[tuple[str, float], list[str | None]], straw: str = "") -> Results:
    """A run of one benchmark: for each (method, ratio) the text said about question i, None where it failed.

    Two questions on each picture; golds are yes and no in turn.
    """
    benchmark = get(name)
    cells = [Cell(f"{m}{r}", "hero-tiny", m, "exact", {}, r, name, "head", straw_man=m == straw) for m, r in answers]
    store.create_run("r", "s", {}, "h")
    store.add_cells("r", cells, {cell.id: len(texts) for cell, texts in zip(cells, answers.values(), strict=True)})
    for cell, texts in zip(cells, answers.values(), strict=True):
        made = []
        for i, text in enumerate(texts):
            gold, picture = ("Yes", "No")[i % 2], f"p{i // 2}"
            extra = {"question_id": picture, "index": i}
            sample = Sample(name, f"{picture}/{i % 2}", f"Q{i}?", gold, picture, None, "existence", extra)
            if text is None:
                made.append(Prediction(cell.id, sample, error_type="CudaError", error_message="out of memory"))
            else:
                made.append(Prediction(cell.id, sample, text, benchmark.score(text, gold, sample)))
        store.write_unit("r", made, main_metrics={name: benchmark.main_metric})
    close_cells(store, "r", cells, {name: benchmark})
    return Results(store, "r")


def golds(n: int = 2 * PICTURES) -> list[str | None]:
    return [("Yes", "No")[i % 2] for i in range(n)]


def test_an_answerer_that_never_varies_is_named_and_a_perfect_one_is_one_sided(store: Store) -> None:
    results = fill(store, "pope", {("full", 1.0): golds(), ("hero", 0.2): ["No"] * (2 * PICTURES)})
    full, hero = results.marks()
    assert full.flags == (f"one-sided: rests on {PICTURES} pictures alike",)
    assert hero.flags == ("always 'no'",)
    shown = str(summary.table([full, hero], ["pope"]))
    assert "| 100.0, 94.0-100.0 |" in shown
    assert any(line == "Always 'no': hero@20% on pope." for line in summary.notes([results], {}))


def test_few_wrong_answers_are_too_few_pictures_for_their_share(store: Store) -> None:
    texts = golds()
    texts[3] = "Yes"
    (mark,) = fill(store, "pope", {("full", 1.0): texts}).marks()
    assert mark.flags == ("too few pictures for this share: the interval may hold less than 95%",)


def test_a_sum_out_of_a_thousand_says_how_much_can_be_reached(store: Store) -> None:
    (mark,) = fill(store, "ocrbench", {("full", 1.0): golds(100)}).marks()
    assert "100 of 1,000 questions asked: 10.0% can be reached" in mark.flags


@pytest.mark.slow
def test_composites_count_missing_answers_as_means_do(store: Store) -> None:
    """hero fails where it would be wrong: MME's sum looks perfect on the rest."""
    failing = [None if i % 5 == 0 else text for i, text in enumerate(golds(400))]
    results = fill(store, "mme", {("full", 1.0): golds(400), ("hero", 0.2): failing})
    claim = claims.parse_claim("hero@20% >= full - 2 on mme")  # one category of ten: 3 points are lost
    (found,) = claims.check(results, claim)
    assert (found.verdict, found.missing) == ("undecided: 80 failed samples", (80, 0))
    (average,) = claims.check(results, claims.parse_claim("hero@20% >= full - 2 on average"))
    assert (average.verdict.partition(":")[0], average.missing) == ("undecided", (80, 0))
    assert [f.verdict for f in claims.check(results, claim, "drop")] == ["holds"]
    assert [f.verdict for f in claims.check(results, claim, "wrong")] == ["undecided"]
    (candidate,) = advice.advise(results, advice.parse_allowance("2"), axis("retention"))
    assert (candidate.verdict, candidate.losses[0].missing) == ("unproven", 80)


def test_a_difference_that_missing_answers_could_undo_is_undecided(store: Store) -> None:
    worse = [text if i % 4 else "Maybe" for i, text in enumerate(golds())]
    lucky = [None if i % 3 == 0 else text for i, text in enumerate(golds())]
    results = fill(store, "pope", {("full", 1.0): golds(), ("random", 0.2): worse, ("hero", 0.2): lucky})
    (found,) = compare((results, parse_contender("hero@20%")), (results, parse_contender("random@20%")))
    assert found.paired.verdict == "better"
    assert (found.verdict, found.missing) == ("undecided: 40 failed samples", (40, 0))


def test_what_both_sides_failed_is_missing_on_both(store: Store) -> None:
    failing = [None if i < 6 else text for i, text in enumerate(golds())]
    results = fill(store, "pope", {("full", 1.0): golds(), ("a", 0.2): failing, ("b", 0.2): failing})
    (found,) = claims.check(results, claims.parse_claim("a@20% >= b@20% - 5 on pope"))
    assert found.missing == (6, 6)
    (average,) = claims.check(results, claims.parse_claim("a@20% >= b@20% - 5 on average"))
    assert average.missing == (6, 6)
    (bare,) = claims.check(results, claims.parse_claim("a@20% >= 97 on pope"))
    assert (bare.missing[0], bare.verdict.partition(":")[0]) == (6, "undecided")


def test_advice_and_straw_men_use_the_benchmarks_own_figure(store: Store) -> None:
    """Half of the pictures half right: accuracy 75, accuracy+ 50, MME's sum 62.5 of 100; the mean of scores says 75."""
    half = [text if i % 4 else "Maybe" for i, text in enumerate(golds())]
    results = fill(store, "mme", {("full", 1.0): golds(), ("hero", 0.2): half, ("random", 0.2): half}, straw="random")
    (candidate, _) = advice.advise(results, advice.parse_allowance("1"), axis("retention"))
    figures = {cell: row.value / row.scale for cell, row in results.metrics.items()}
    assert candidate.losses[0].value == pytest.approx(figures["full1.0"] - figures["hero0.2"])
    (straw,) = straw_men(results)
    assert straw.flagged
    assert straw.result.value == pytest.approx(0.0)


def test_an_undecided_claim_says_what_was_seen(store: Store) -> None:
    results = fill(store, "pope", {("full", 1.0): golds(14), ("hero", 0.2): golds(14)})
    (found,) = claims.check(results, claims.parse_claim("hero@20% >= full - 1 on pope"))
    assert found.verdict == "undecided"
    assert found.seen == "0 of 7 pictures differ; a loss up to 35 points is not excluded"
    (candidate,) = advice.advise(results, advice.parse_allowance("1"), axis("retention"))
    assert advice.unproven([candidate]) == [
        "hero@20% unproven on pope: 0 of 7 pictures differ; a loss up to 35 points is not excluded; "
        "about 299 pictures like these would show it safe there (299 for this claim alone)"
    ]
    assert found.outlook == (
        "about 299 pictures like these would show that it holds, if the loss is 0 points and 0.0% of answers change"
    )
    planned = needs.describe("pope", [2] * 7, 1.0, 0.8, needs.Changes(0.0, 0.0, 1.0), 1)
    assert "cells without any difference need 299" in planned, "the rule of three, in all three verbs"


@pytest.mark.parametrize(("every", "claim"), [(40, "holds"), (6, "fails")])
def test_the_three_verbs_forecast_the_same_pictures(store: Store, every: int, claim: str) -> None:
    """One claim alone: `check` and `advise` with one cell plan for it; `plan` does, given the same loss and changes."""
    losing = [text if i % every else "Maybe" for i, text in enumerate(golds(80))]
    results = fill(store, "pope", {("full", 1.0): golds(80), ("hero", 0.2): losing})
    allowed = 4.0 if claim == "holds" else 12.0
    (found,) = claims.check(results, claims.parse_claim(f"hero@20% >= full - {allowed:g} on pope"))
    (candidate,) = advice.advise(results, advice.parse_allowance(f"{allowed:g}"), axis("retention"))
    assert (found.verdict, candidate.verdict) == ("undecided", "unproven")
    assert found.more is not None
    assert found.more.alone == advice.pictures_needed(candidate)
    assert found.more.alone > 40, "more than there are"
    assert claim in found.outlook
    scores = aligned(*(results.scores(results.groups[name]["pope"]) for name in ("hero@20%", "full")))
    loss = float((scores[1] - scores[0]).mean())
    planned = needs.forecast(allowed / 100, loss, needs.changes_of(*scores))
    assert planned.alone == found.more.alone
    assert planned.granted == found.more.granted


def test_beyond_the_allowance_one_benchmark_is_enough() -> None:
    def loss(name: str, pictures: int | None, beyond: bool) -> advice.Loss:
        more = needs.Forecast(pictures, pictures, 2, 0, beyond, 0.1, 0.1)
        return advice.Loss(name, 0.1, 0.2, 0.5, 0.5, "unproven", 0, "", more)

    def needed(*losses: advice.Loss) -> int | None:
        return advice.pictures_needed(advice.Candidate("x", 1.0, losses, 0.5, "unproven"))

    assert needed(loss("a", 300, True), loss("b", 200, True), loss("c", 900, False)) == 200
    assert needed(loss("a", 300, False), loss("c", 900, False)) == 900, "to be safe it takes all"
    assert needed(loss("a", 300, False), loss("c", None, False)) is None
    assert needed(loss("a", None, True), loss("c", 5, False)) is None


def test_the_worst_benchmark_is_the_one_that_loses_most() -> None:
    """Beyond the allowance p is 1 everywhere: the first benchmark must not stand for the worst."""

    def loss(name: str, value: float, p: float) -> advice.Loss:
        return advice.Loss(name, value, value + 0.1, p, 0.5, "unproven", seen=f"loses {100 * value:g}")

    far = advice.Candidate("far@20%", 1.0, (loss("first", 0.08, 1.0), loss("words", 0.512, 1.0)), 1.0, "unproven")
    few = advice.Candidate("few@20%", 1.0, (loss("large", 0.03, 0.04), loss("small", 0.01, 0.4)), 0.4, "unproven")
    assert (far.worst.benchmark, few.worst.benchmark) == ("words", "large")
    table = tables.advice([far, few], axis("retention"), (1.0, ""))
    at = [column.title for column in table.columns].index("Worst benchmark")
    assert [row[at : at + 3] for row in table.rows] == [("words", "51.2", "61.2"), ("large", "3.0", "13.0")]
    assert advice.unproven([far, few]) == [
        "far@20% unproven on words: loses 51.2",
        "few@20% unproven on small: loses 1",
    ]


def test_what_more_pictures_would_show_is_said_with_their_number(store: Store) -> None:
    losing = [text if i % 6 else "Maybe" for i, text in enumerate(golds(14))]
    results = fill(store, "pope", {("full", 1.0): golds(14), ("hero", 0.2): losing})
    (candidate,) = advice.advise(results, advice.parse_allowance("1"), axis("retention"))
    assert candidate.verdict == "unproven"
    assert "pictures like these would show it unsafe there" in advice.unproven([candidate])[0]
    assert advice.outlook([candidate])[0].startswith("Pictures are forecast with 80% power for all 1 cell at once")


def test_a_forecast_that_nobody_will_collect_has_no_digits() -> None:
    def loss(pictures: int, alone: int) -> advice.Loss:
        more = needs.Forecast(alone, pictures, 2, 0, False, 0.1, 0.1)
        return advice.Loss("pope", 0.1, 0.2, 0.5, 0.5, "unproven", 0, "seen", more)

    found = [
        advice.Candidate("x", 1.0, (loss(*counts),), 0.5, "unproven") for counts in ((962_499, 80_010), (9_999, 7))
    ]
    for line, said in zip(advice.unproven(found), ("more than 10,000", "about 9,999"), strict=True):
        assert f"seen; {said} pictures like these would show it safe there" in line
    assert "(more than 10,000 for this claim alone)" in advice.unproven(found)[0]


def test_a_relative_allowance_is_a_share_of_the_unpruned_score(store: Store) -> None:
    base = [text if i % 5 else "Maybe" for i, text in enumerate(golds(400))]
    results = fill(store, "pope", {("full", 1.0): base, ("hero", 0.2): base})
    (found,) = advice.advise(results, advice.parse_allowance("4%"), axis("retention"))
    (same,) = advice.advise(results, advice.parse_allowance("3.2"), axis("retention"))
    assert (found.verdict, same.verdict) == ("safe", "safe")
    (tight,) = advice.advise(results, advice.parse_allowance("0.2%"), axis("retention"))
    assert tight.verdict == "unproven"


def test_earlier_runs_tell_how_many_answers_change(store: Store) -> None:
    base = golds(200)
    changed = list(base)
    for i in range(0, 200, 100):
        changed[i], changed[i + 1] = "Maybe", "Maybe"  # whole pictures
    fill(store, "pope", {("full", 1.0): base, ("hero", 0.2): changed})
    store.set_status("r", "complete")
    known = needs.earlier_changes(store, "hero-tiny", "pope", 0.05)
    assert known is not None
    assert (known.share, known.alike) == (pytest.approx(0.02), pytest.approx(1.0, abs=0.04))
    assert needs.earlier_changes(store, "hero-tiny", "pope", 0.01) is None, "it loses more than that"
    line = needs.describe("pope", [2] * 50, 3.0, 0.8, known)
    assert "2.0% of answers change (the middle of the cells of run r that lose less than this)" in line
    assert line.endswith("this plan has 50: too few")
    assert "losses only" in needs.describe("pope", [1] * 5000, 3.0, 0.8, None)
    assert needs.describe("pope", [1] * 5000, 3.0, 0.8, None).endswith("enough")
    both = needs.describe("pope", [1] * 350, 3.0, 0.8, None, 20)
    assert "for all 20 cells at once, as `advise` asks" in both
    assert both.endswith("this plan has 350: enough for one claim")


def test_alike_changes_are_told_from_scattered_ones() -> None:
    rng = np.random.default_rng(3)
    pictures = np.repeat(np.arange(500), 4)
    none = np.zeros(2000)
    scattered = needs.changes_of((rng.random(2000) < 0.1).astype(float), none, pictures)
    together = needs.changes_of(np.repeat(rng.random(500) < 0.1, 4).astype(float), none, pictures)
    assert scattered.alike < 0.1 < 0.95 < together.alike
    assert (len(scattered.sizes), scattered.square) == (500, pytest.approx(scattered.share))
    halves = needs.changes_of(np.array([0.5, 0.0]), np.zeros(2), ["a", "b"])
    assert (halves.share, halves.square) == (0.5, 0.125), "half a point of a score moves a mean by less"
