"""Comparisons, claims, advice and frontiers over a finished run with planted qualities."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hero_ray.cli import main
from hero_ray.core.errors import BudgetError, ClaimError, HeroRayError, InputError, NotComparableError, UnknownNameError
from hero_ray.results import advice, claims, needs
from hero_ray.results.averages import difficulty, retained, straw_men
from hero_ray.results.axes import axis
from hero_ray.results.comparisons import compare, compare_labels
from hero_ray.results.contenders import Results, parse_contender
from hero_ray.results.frontiers import average_frontiers, frontiers
from hero_ray.results.report import tables
from hero_ray.stats import OneSided
from hero_ray.store import Store, open_store
from tests import fake_results as fake


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    found = str(tmp_path_factory.mktemp("db") / "results.db")
    with open_store(found) as store:
        fake.fill(store)
        fake.fill(store, "run2", shift=0.1)
    return found


@pytest.fixture
def results(store: Store) -> Results:
    return Results(store, "run1")


# --- naming cells ---


def test_labels_name_cells_as_users_do(results: Results) -> None:
    assert set(results.groups) == {"full"} | {
        f"{m}@{b}" for m in ("hero", "hired", "downsample", "random") for b in ("20%", "40%")
    }
    assert len(results.groups["random@20%"]["synth-color"]) == 2  # two seeds, one contender


@pytest.mark.parametrize("text", ["hero@20%", "hero@0.2", "hero@drop=0.8", " hero@20% "])
def test_a_budget_may_be_written_in_any_form(results: Results, text: str) -> None:
    assert [c.retention_ratio for c in results.find(parse_contender(text), "synth-color")] == [0.2]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("@20%", ClaimError, "is no contender"),
        ("hero@", ClaimError, "is no contender"),
        ("hired@20%,fastervlm@20%", ClaimError, "names 2 contenders and one is compared at a time"),
        ("hero@0", BudgetError, "outside"),
        ("hero@25%", UnknownNameError, "Did you mean 'hero@20%'"),
        ("heron@20%", UnknownNameError, "Did you mean 'hero@20%'"),
        ("hero", ClaimError, "fits hero@20%, hero@40%; name one"),
    ],
)
def test_a_contender_that_is_none_is_explained(
    results: Results, text: str, error: type[HeroRayError], message: str
) -> None:
    with pytest.raises(error, match=message):
        results.find(parse_contender(text), "synth-color")


def test_parameters_tell_cells_apart(tmp_path: Path) -> None:
    with open_store(str(tmp_path / "x.db")) as store:
        cells = [fake.cell("hero", 0.2, "b", alpha=a) for a in (0.5, 0.7)]
        store.create_run("r", "s", {}, "h")
        store.add_cells("r", cells, {c.id: 1 for c in cells})
        found = Results(store, "r")
        assert set(found.groups) == {"hero:alpha=0.5@20%", "hero:alpha=0.7@20%"}
        assert len(found.find(parse_contender("hero:alpha=0.7@20%"), "b")) == 1


# --- comparisons ---


def test_a_planted_difference_is_found_and_corrected(results: Results) -> None:
    pair = [(results, parse_contender(text)) for text in ("hero@20%", "random@20%")]
    found = compare(pair[0], pair[1])
    assert [(c.benchmark, c.verdict, c.paired.n, c.paired.n_clusters) for c in found] == [
        ("synth-color", "better", 150, 50),
        ("synth-digits", "better", 150, 50),
    ]
    assert all(c.p_holm >= c.paired.p_value for c in found)
    assert found[0].answered == (150, 150)


def test_labels_against_one_rival_are_one_family(results: Results) -> None:
    found = compare_labels(results, ["hero@20%", "full", "random@20%"], "random@20%")
    assert [(c.label, c.benchmark) for c in found] == [
        (label, name) for label in ("hero@20%", "full") for name in ("synth-color", "synth-digits")
    ]
    assert all(c.p_holm >= c.paired.p_value and c.verdict == "better" for c in found)
    (alone,) = compare_labels(results, ["hero@20%"], "random@20%", ["synth-color"])
    assert alone.p_holm == alone.paired.p_value <= found[0].p_holm
    assert found[0].points == pytest.approx(100 * (found[0].paired.mean_a - found[0].paired.mean_b))


def test_a_cell_does_not_differ_from_itself(results: Results) -> None:
    one = (results, parse_contender("hero@20%"))
    assert {c.verdict for c in compare(one, one)} == {"equal answers"}


def test_scores_of_two_runs_are_those_of_the_questions_that_both_answered(tmp_path: Path) -> None:
    """The first run answered all and failed in the last ten; the second stopped before them: nothing differs."""
    samples = [fake.sample("b", number, 1) for number in range(40)]
    cell = fake.cell("hero", 0.2, "b")
    with open_store(str(tmp_path / "two.db")) as store:
        for run, count in (("whole", 40), ("short", 30)):
            store.create_run(run, "s", {}, run)
            store.add_cells(run, [cell], {cell.id: count})
            store.write_unit(run, [fake.answer(cell, one, float(i < 30)) for i, one in enumerate(samples[:count])])
            store.summarise(run)
        hero = parse_contender("hero@20%")
        (found,) = compare((Results(store, "whole"), hero), (Results(store, "short"), hero))
    assert (found.paired.n, found.answered, found.verdict) == (30, (40, 30), "equal answers")
    made = tables.comparisons("A", "B", [found])
    line = dict(zip([column.title for column in made.columns], made.texts()[0], strict=True))
    assert (line["A"], line["B"], line["A - B"], line["n"], line["Answered"]) == (
        "100.0",
        "100.0",
        "+0.0",
        "30",
        "40/30",
    )


def test_other_words_of_the_same_worth_are_no_equal_answers(tmp_path: Path) -> None:
    samples = [fake.sample("b", number, 1) for number in range(40)]
    one, other = fake.cell("hero", 0.2, "b"), fake.cell("hired", 0.2, "b")
    with open_store(str(tmp_path / "words.db")) as store:
        store.create_run("r", "s", {}, "h")
        store.add_cells("r", [one, other], {one.id: 40, other.id: 40})
        said = [fake.answer(cell, sample, 1.0) for cell in (one, other) for sample in samples]
        store.write_unit("r", [replace(each, text="Yes") if i == 3 else each for i, each in enumerate(said)])
        store.summarise("r")
        results = Results(store, "r")
        (found,) = compare((results, parse_contender("hero@20%")), (results, parse_contender("hired@20%")))
    assert (found.paired.wins, found.paired.losses, found.verdict) == (0, 0, "undecided")


def test_two_runs_are_compared_on_shared_samples(store: Store, results: Results) -> None:
    hero = parse_contender("hero@20%")
    found = compare((Results(store, "run2"), hero), (results, hero))
    assert [c.verdict for c in found] == ["worse", "worse"]


def test_cells_over_different_data_are_not_compared(results: Results) -> None:
    a = results.scores(results.find(parse_contender("hero@20%"), "synth-color"))
    b = results.scores(results.find(parse_contender("hero@20%"), "synth-digits"))
    from hero_ray.results.contenders import aligned

    with pytest.raises(NotComparableError, match="share no answered sample"):
        aligned(a, b)


def test_good_methods_pass_the_straw_men_and_a_straw_man_in_disguise_does_not(store: Store, tmp_path: Path) -> None:
    assert {item.label for item in straw_men(Results(store, "run1")) if item.flagged} == set()
    with open_store(str(tmp_path / "x.db")) as poor:
        fake.fill(poor, shift=0.4)
        assert {item.label for item in straw_men(Results(poor, "run1")) if item.flagged} == {"hero@20%", "hero@40%"}


def test_the_difficulty_split_uses_the_downsampled_cell_of_the_same_budget(results: Results) -> None:
    found = difficulty(results)
    assert set(found) == {f"{m}@{b}" for m in ("hero", "hired", "random") for b in ("20%", "40%")}
    split = found["hero@20%"]
    assert split.simple is not None
    assert split.difficult is not None
    assert split.simple.n + split.difficult.n == 300
    assert split.simple.value > split.difficult.value


def test_retention_is_relative_to_full(results: Results) -> None:
    found = {item.label: item.interval for item in retained(results)}
    assert found["full"].value == 1.0
    assert found["hero@40%"].value > found["random@40%"].value
    assert found["hero@20%"].n == 300


def test_a_run_with_several_models_asks_which(tmp_path: Path) -> None:
    from dataclasses import replace

    with open_store(str(tmp_path / "x.db")) as store:
        one = fake.cell("hero", 0.2, "b")
        two = replace(one, id="other", model="another")
        store.create_run("r", "s", {}, "h")
        store.add_cells("r", [one, two], {one.id: 1, two.id: 1})
        with pytest.raises(InputError, match="name one with --model"):
            Results(store, "r")
        assert Results(store, "r", "another").cells[0].id == "other"
        with pytest.raises(UnknownNameError, match="Did you mean 'another'"):
            Results(store, "r", "anothr")


# --- frontiers ---


def test_frontiers_by_benchmark_category_and_average(results: Results) -> None:
    charts = frontiers(results)
    assert [chart.title for chart in charts] == ["synth-color", "synth-digits"]
    states = {p.point.id: p.state for p in charts[0].placed}
    assert states["full"] == "frontier"
    assert states["random@20%"] == "dominated"
    assert {states["hero@20%"], states["hired@20%"]} <= {"frontier", "unclear"}
    assert len(frontiers(results, categories=True)) == 6
    (average,) = average_frontiers(results, "flops")
    assert {p.point.id for p in average.placed} == set(results.groups)


# --- claims ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hero@20% >= 60% of full on synth-color", "holds"),
        ("hero@20% >= 99% of full on synth-color", "fails"),
        ("hero@20% > random@20% on all", "holds"),
        ("random@20% > hero@20% on synth-color,synth-digits", "fails"),
        ("random@20% < hero@20% on synth-digits", "holds"),
        ("hero@20% >= full - 60 on synth-color", "holds"),
        ("hero@20% >= 50 on synth-color", "holds"),
        ("hero@20% >= 99.5 on synth-color", "fails"),
        ("hero@20% >= 60% of full on average", "holds"),
        ("hero@20% >= 99% of full on average", "fails"),
        ("hero@20% > hero@20% on synth-color", "undecided"),
        ("hero@20% >= hero@20% on synth-color", "undecided"),  # answers that agree do not show that none will differ
    ],
)
def test_claims_are_decided(results: Results, text: str, expected: str) -> None:
    assert claims.overall(claims.check(results, claims.parse_claim(text))) == expected


def test_a_close_call_is_not_decided(results: Results) -> None:
    left = claims.check(results, claims.parse_claim("hero@20% >= 1% of full on synth-color"))[0].left
    text = f"hero@20% >= {100 * left:.1f} on synth-color"
    assert claims.overall(claims.check(results, claims.parse_claim(text))) == "undecided"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hero@20% >= full", "does not say where"),
        ("hero@20% is best on pope", "has no >=, >, <= or <"),
        (">= full on pope", "expected one contender before >="),
        ("hero at 20% >= full on pope", "expected one contender before >="),
        ("hero@20% >= 98% full on pope", "cannot read '98% full'"),
        ("hero@20% >= on pope", "does not say where|cannot read"),
        ("hero@20% >= full on pope and gqa", "separate names with commas"),
        ("hero@ >= full on pope", "is no contender"),
    ],
)
def test_a_claim_that_cannot_be_read_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(ClaimError, match=message):
        claims.parse_claim(text)


@pytest.mark.parametrize(
    "typed", ["shop", "shop.jsonl", "data/shop.jsonl", "file:data/shop.jsonl", "VQAv2", "vqav2_val"]
)
def test_a_benchmark_may_be_named_as_one_types_it(tmp_path: Path, typed: str) -> None:
    with open_store(str(tmp_path / "own.db")) as own:
        fake.fill(own, benchmarks=("file:data/shop.jsonl", "vqav2_val"), n=60)
        results = Results(own, "run1")
        (found,) = claims.check(results, claims.parse_claim(f"hero@20% >= full - 90 on {typed}"))
        assert (found.where, found.verdict) == (typed, "holds")
        name = "vqav2_val" if "v2" in typed.lower() else "file:data/shop.jsonl"
        assert [one.benchmark for one in compare(*[(results, parse_contender("full"))] * 2, [typed])] == [name]
        with pytest.raises(UnknownNameError, match="benchmark of this run 'shoop'"):
            results.only(["shoop"])


def test_a_name_that_fits_two_files_is_asked_back(tmp_path: Path) -> None:
    with open_store(str(tmp_path / "two.db")) as own:
        fake.fill(own, benchmarks=("file:a/shop.jsonl", "file:b/shop.jsonl"), n=12)
        with pytest.raises(InputError, match=r"'shop' fits file:a/shop.jsonl, file:b/shop.jsonl of this run"):
            Results(own, "run1").only(["shop"])


# --- advice ---


def test_a_straw_man_is_never_advised_silently(results: Results) -> None:
    found = advice.advise(results, advice.parse_allowance("80"), axis("tokens"))
    costs = {one.label: (one.cost, one.straw_man, one.verdict) for one in found}
    assert costs["hero@20%"] == (24.0, False, "safe")
    assert costs["random@20%"] == (24.0, True, "safe")
    best = advice.cheapest(found)
    assert best is not None
    assert (best.straw_man, advice.standing(found)) == (False, ""), "of equal cost, a straw man comes last"
    cheaper = [replace(one, cost=20.0) for one in found if one.label == "random@20%"]
    assert advice.standing([*cheaper, *found]) == (
        f"random@20% is a straw man, which anybody could write; the cheapest safe cell that is none is {best.label}"
    )
    assert advice.standing(cheaper).endswith("no cell that is none is shown safe")


def test_a_candidate_says_what_it_saves_of_the_unpruned_cost(results: Results) -> None:
    saved = {one.label: one.saved for one in advice.advise(results, advice.parse_allowance("30"), axis("tokens"))}
    full = next(mark.costs["tokens"] for mark in results.marks() if mark.method == "full")
    assert saved["hero@20%"] == pytest.approx(100 * (1 - 24.0 / full))
    assert saved["hero@20%"] > saved["hero@40%"] > 50


def test_advice_is_the_cheapest_safe_cell(results: Results) -> None:
    found = advice.advise(results, advice.parse_allowance("30"), axis("tokens"))
    best = advice.cheapest(found)
    assert best is not None
    assert best.label in {"hero@20%", "hired@20%"}
    assert {c.label for c in found if c.verdict == "unsafe"} >= {"downsample@20%"}
    assert all(loss.verdict == "safe" for loss in best.losses)


def test_no_advice_is_better_than_a_lucky_one(results: Results) -> None:
    found = advice.advise(results, advice.parse_allowance("0.1"), axis("tokens"))
    assert advice.cheapest(found) is None


@pytest.mark.parametrize("text", ["much", "-1", "150"])
def test_an_allowance_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="allowed loss"):
        advice.parse_allowance(text)


# --- verbs ---


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["frontier", "--axis", "flops"], 0, "| hero@20% |"),
        (["frontier", "--average"], 0, "average share of the unpruned score"),
        (["frontier", "--axis", "ttft"], 0, "no cell of this run has a figure with a known ttft cost"),
        (["frontier", "--axis", "speed"], 2, "unknown cost axis 'speed'"),
        (["compare", "hero@20%", "random@20%"], 0, "| better |"),
        (["check", "hero@20% >= 60% of full on synth-color"], 0, "holds: hero@20%"),
        (["check", "hero@20% >= 99% of full on synth-color"], 1, "fails: hero@20%"),
        (["check", "nonsense"], 2, "has no >=, >, <= or <"),
        (["advise", "--max-loss", "30"], 0, "advice: "),
        (["frontier", "--tasks", "gqa"], 2, "unknown benchmark of this run 'gqa'"),
        (["frontier", "--run", "nope"], 2, "run 'nope' is not in the database"),
    ],
)
def test_verbs_answer_and_exit_as_promised(
    path: str, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str
) -> None:
    run = [] if "--run" in arguments else ["--run", "run1"]
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, *run, "--db", path])
    shown = capsys.readouterr()
    assert stopped.value.code == code
    assert said in shown.out + shown.err


# --- figures that are no mean of scores ---


@pytest.fixture(scope="module")
def mme(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Results]:
    """MME's sum over two categories, for a model that answers well and one that guesses."""
    import numpy as np

    from hero_ray.benchmarks import get
    from hero_ray.core.types import Cell, Prediction, Sample
    from hero_ray.results.close import close_cells

    benchmark, rng = get("mme"), np.random.default_rng(8)
    cells = [Cell(m, "hero-tiny", m, "exact", {}, r, "mme", "head") for m, r in (("full", 1.0), ("hero", 0.2))]
    with open_store(str(tmp_path_factory.mktemp("db") / "mme.db")) as store:
        store.create_run("r", "s", {}, "h")
        store.add_cells("r", cells, {c.id: 120 for c in cells})
        for cell, skill in zip(cells, (0.95, 0.6), strict=True):
            answers = []
            for i in range(120):
                picture = f"p{i // 2}"
                extra = {"question_id": picture}
                gold = ("Yes", "No")[i % 2]
                category = ("existence", "count")[i // 60]
                sample = Sample("mme", f"{picture}/{i % 2}", f"Q{i}?", gold, picture, None, category, extra)
                text = gold if rng.random() < skill else "Maybe"
                answers.append(Prediction(cell.id, sample, text, benchmark.score(text, gold, sample)))
            store.write_unit("r", answers, main_metrics={"mme": benchmark.main_metric})
        close_cells(store, "r", cells, {"mme": benchmark})
        yield Results(store, "r")


def test_a_composite_is_compared_by_its_own_sum(mme: Results) -> None:
    (found,) = compare((mme, parse_contender("hero@20%")), (mme, parse_contender("full")))
    assert found.paired.test == "cluster-swap"
    assert 300 < found.paired.mean_b <= 400  # two categories of up to 200 points
    assert found.verdict == "worse"


def test_a_composite_is_claimed_and_retained_by_its_own_sum(mme: Results) -> None:
    share = {item.label: item.interval for item in retained(mme)}["hero@20%"]
    (found,) = compare((mme, parse_contender("hero@20%")), (mme, parse_contender("full")))
    assert share.value == pytest.approx(found.paired.mean_a / found.paired.mean_b)
    for where in ("mme", "average"):
        text = f"hero@20% >= 99% of full on {where}"
        assert claims.overall(claims.check(mme, claims.parse_claim(text))) == "fails"
        text = f"hero@20% >= 5% of full on {where}"
        assert claims.overall(claims.check(mme, claims.parse_claim(text))) == "holds"


# --- missing answers ---


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Results]:
    """hero fails on each of the 50 questions of 300 that it would answer wrong."""
    full, hero = fake.cell("full", 1.0, "b"), fake.cell("hero", 0.2, "b")
    samples = [fake.sample("b", number, 1) for number in range(300)]
    with open_store(str(tmp_path_factory.mktemp("db") / "failing.db")) as store:
        store.create_run("r", "s", {}, "h")
        store.add_cells("r", [full, hero], {full.id: 300, hero.id: 300})
        store.write_unit("r", [fake.answer(full, one, 1.0) for one in samples])
        store.write_unit("r", [fake.answer(hero, one, 1.0) for one in samples[:250]])
        store.write_unit(
            "r",
            [fake.Prediction(hero.id, one, error_type="DeviceMemoryError", error_message="x") for one in samples[250:]],
        )
        store.summarise("r")
        yield Results(store, "r")


@pytest.mark.parametrize(
    ("missing", "verdict"), [("", "undecided: 50 failed samples"), ("drop", "holds"), ("wrong", "fails")]
)
@pytest.mark.parametrize("where", ["b", "average"])
def test_a_cell_that_fails_on_what_it_gets_wrong_is_not_perfect(
    failing: Results, where: str, missing: str, verdict: str
) -> None:
    (found,) = claims.check(failing, claims.parse_claim(f"hero@20% >= full - 3 on {where}"), missing)
    assert found.verdict == verdict
    assert found.missing == ((0, 0) if missing == "drop" else (50, 0))
    assert claims.overall([found]) == verdict.partition(":")[0]


def test_missing_answers_leave_advice_unproven(failing: Results) -> None:
    (candidate,) = advice.advise(failing, advice.parse_allowance("3"), axis("retention"))
    assert (candidate.verdict, candidate.losses[0].missing) == ("unproven", 50)
    assert advice.cheapest([candidate]) is None


@pytest.mark.parametrize(
    ("right", "lost", "said", "empty"),
    [
        (0, "3", "b: full scores 0.0, so nothing can be lost there", "full itself scores 0.0 there"),
        (
            1,
            "3",
            "b: full itself scores 2.5, so no cell can lose more than the 3 points allowed",
            "full itself scores 2.5",
        ),
        (1, "3%", "", "full itself scores 2.5 there"),
        (2, "3", "", ""),
    ],
)
def test_where_the_unpruned_model_has_nothing_to_lose_it_is_said(
    tmp_path: Path, right: int, lost: str, said: str, empty: str
) -> None:
    """Every cell is safe beside a model that answers (next to) nothing; that is said first."""
    full, hero = fake.cell("full", 1.0, "b"), fake.cell("hero", 0.2, "b")
    samples = [fake.sample("b", number, 1) for number in range(40)]
    with open_store(str(tmp_path / "nothing.db")) as store:
        store.create_run("r", "s", {}, "h")
        store.add_cells("r", [full, hero], {full.id: 40, hero.id: 40})
        store.write_unit("r", [fake.answer(full, one, float(i < right)) for i, one in enumerate(samples)])
        store.write_unit("r", [fake.answer(hero, one, 0.0) for one in samples])
        store.summarise("r")
        results = Results(store, "r")
        lines = advice.nothing_to_lose(results, advice.parse_allowance(lost))
        (found,) = claims.check(results, claims.parse_claim("hero@20% >= full - 3 on b"))
    assert [line[: len(said)] for line in lines] == ([said] if said else [])
    assert found.seen.startswith(empty) if empty else "itself scores" not in found.seen


def test_what_would_decide_grows_with_the_square_of_what_is_unsure() -> None:
    """A bound of 6 points at 100 pictures, 3 allowed: (1.645 + 0.842) x (6 / 1.645) / 3 = 3.02, squared, times 100."""
    loss = OneSided(0.0, -0.06, 0.06, 0.2, 0.9, 100, 100)
    assert needs.by_bound(loss, 0.03).alone == 915
    more = needs.by_bound(replace(loss, value=0.02, high=0.08), 0.03)
    assert (more.alone, more.beyond) == (pytest.approx(9 * 915, rel=0.01), False)
    assert needs.by_bound(loss, 0.5).alone == 101, "more than there are, for they did not decide it"
    assert needs.by_bound(loss, 0.0).alone is None, "a loss of what is allowed is never told from it"
    assert needs.by_bound(loss, 0.03, alike=True).alone == 200, "the rule of three: half the bound, twice the pictures"
    assert needs.by_bound(replace(loss, value=0.05, high=0.11), 0.03).beyond


def test_an_allowance_may_be_a_share_of_the_score(failing: Results) -> None:
    (points,) = advice.advise(failing, advice.parse_allowance("20"), axis("retention"))
    (share,) = advice.advise(failing, advice.parse_allowance("20%"), axis("retention"))
    assert points.losses[0].p == pytest.approx(share.losses[0].p)  # the unpruned model is right everywhere
    assert str(advice.parse_allowance("2%")) == "2% of the unpruned score"
