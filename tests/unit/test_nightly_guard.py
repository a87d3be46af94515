"""The guard's comparison: silent when nothing changed, and awake when something did."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hero_ray.core.errors import InputError
from hero_ray.nightly import report
from hero_ray.nightly.change import least_drop, more_failures, score_drop, slowdown
from hero_ray.nightly.guard import judge
from hero_ray.nightly.records import CellNight, GuardSettings, Night, Suspicion
from hero_ray.nightly.what_changed import what_changed
from hero_ray.results.report.page import keep
from tests.nights import Panel, lower, only, slower

SETTINGS = GuardSettings()
WORST = "hero 0.2 synth-digits"


def history(panel: Panel, seed: int = 1) -> tuple[np.random.Generator, dict[str, np.ndarray], list[Night]]:
    rng, base = np.random.default_rng(seed), panel.base()
    return rng, base, panel.history(rng, base)


def test_a_drop_on_a_deterministic_machine_is_always_caught_and_sized() -> None:
    panel = Panel(flicker=0.0)
    rng, base, past = history(panel)
    verdict = judge("2026-01-15", lower(panel.night(rng, base), WORST, 2.0), past, SETTINGS)
    (alarm,) = verdict.alarms
    assert (verdict.state, alarm.kind, alarm.label) == ("regression", "quality", WORST)
    assert alarm.change == pytest.approx(-2.0)
    assert alarm.low is not None
    assert alarm.high is not None
    assert alarm.low < -2.0 < alarm.high < 0
    assert "12 answers worse and 0 better" in alarm.note


def test_a_slowdown_of_everything_is_caught() -> None:
    panel = Panel()
    rng, base, past = history(panel)
    night = panel.night(rng, base)
    for label in night.speeds:
        night = slower(night, label, 1.15)
    verdict = judge("2026-01-15", night, past, SETTINGS)
    assert len({finding.label for finding in verdict.alarms}) == len(night.speeds)


def test_a_flaky_cell_is_silenced_by_its_repetition() -> None:
    panel = Panel(flicker=0.0)
    rng, base, past = history(panel)
    healthy = panel.night(rng, base)
    asked: list[str] = []

    def rerun(findings: list[Suspicion]) -> Night:
        asked.extend(finding.label for finding in findings)
        return only(healthy, findings)

    verdict = judge("2026-01-15", lower(healthy, WORST, 5.0), past, SETTINGS, rerun)
    assert asked == [WORST]
    assert (verdict.state, verdict.alarms) == ("ok", ())
    assert [finding.label for finding in verdict.silenced] == [WORST]


def test_answers_that_move_both_ways_are_no_regression() -> None:
    """A library upgrade flips a few answers either way; only a lopsided change is an alarm."""
    panel = Panel(flicker=0.0)
    rng, base, past = history(panel)
    night = panel.night(rng, base)
    cell = night.cells[WORST]
    scores = cell.scores.copy()
    scores[::20] = 1 - scores[::20]
    drop = 100 * (cell.scores.mean() - scores.mean())
    assert abs(drop) < 3
    moved = replace(night, cells={**night.cells, WORST: replace(cell, scores=scores)})
    assert judge("2026-01-15", moved, past, SETTINGS).state == "ok"


def test_a_slow_slide_is_caught_against_the_window() -> None:
    """0.3 points a night never alarms against the night before; against 14 nights it does."""
    panel = Panel(flicker=0.0)
    rng, base, past = history(panel)
    nights = list(past)
    for step in range(1, 15):
        night = lower(panel.night(rng, base), WORST, 0.34 * step)
        if judge("2026-01-15", night, nights, SETTINGS).state == "regression":
            break
        nights.insert(0, night)
    else:
        pytest.fail("a slide of 4.8 points went unnoticed")


def test_new_failures_alarm_and_old_ones_do_not() -> None:
    panel = Panel(flicker=0.0)
    rng, base, past = history(panel)

    def fail(night: Night, count: int) -> Night:
        cell = night.cells[WORST]
        kept = replace(
            cell, ids=cell.ids[count:], clusters=cell.clusters[count:], scores=cell.scores[count:], n_failed=count
        )
        return replace(night, cells={**night.cells, WORST: kept})

    verdict = judge("2026-01-15", fail(panel.night(rng, base), 6), past, SETTINGS)
    assert [(f.kind, f.label, f.after) for f in verdict.alarms] == [("failures", WORST, 6)]
    always = [fail(night, 6) for night in past]
    assert judge("2026-01-15", fail(panel.night(rng, base), 6), always, SETTINGS).state == "ok"


def test_missing_cells_and_unanswered_samples_alarm() -> None:
    panel = Panel(flicker=0.0)
    rng, base, past = history(panel)
    night = panel.night(rng, base)
    without = {label: cell for label, cell in night.cells.items() if label != WORST}
    half = replace(without["hired 0.2 synth-exist"], n_expected=700)
    verdict = judge("2026-01-15", replace(night, cells=without | {half.label: half}), past, SETTINGS)
    assert [(f.kind, f.label, f.change) for f in verdict.alarms] == [
        ("missing", "hired 0.2 synth-exist", -100),
        ("missing", WORST, -600),
    ]


def test_a_changed_panel_is_a_note_not_an_alarm() -> None:
    panel = Panel(flicker=0.0)
    rng, base, past = history(panel)
    night = panel.night(rng, base)
    cells = {label: cell for label, cell in night.cells.items() if label != WORST}
    verdict = judge("2026-01-15", replace(night, cells=cells, config={"models": ["other"]}), past, SETTINGS)
    assert verdict.state == "ok"
    assert verdict.notes[0] == "the panel itself was changed: 1 cells left it, 0 are new"


def test_speeds_of_unlike_certificates_are_never_compared() -> None:
    panel = Panel(flicker=0.0)
    rng, base, past = history(panel)
    night = panel.night(rng, base)
    other = {
        label: replace(speed, certificate="other", conditions={"torch": "2.14.0"})
        for label, speed in slower(night, "hero 0.2", 2.0).speeds.items()
    }
    verdict = judge("2026-01-15", replace(night, speeds=other), past, SETTINGS)
    assert verdict.state == "ok"
    assert verdict.notes == ("speed of 8 of 8 not judged: the certificate changed (torch 2.13.0 -> 2.14.0)",)


def test_the_first_night_has_nothing_to_compare_with() -> None:
    panel = Panel()
    rng = np.random.default_rng(0)
    verdict = judge("2026-01-01", panel.night(rng, panel.base()), [], SETTINGS)
    assert (verdict.state, verdict.alarms) == ("first", ())


def test_a_dataset_that_lost_questions_is_compared_on_the_shared_ones() -> None:
    panel = Panel(flicker=0.0)
    rng, base, past = history(panel)
    night = panel.night(rng, base)
    cell = night.cells[WORST]
    easy = np.flatnonzero(cell.scores == 1)
    kept = np.setdiff1d(np.arange(len(cell.scores)), easy[:100])
    fewer = replace(
        cell, ids=cell.ids[kept], clusters=cell.clusters[kept], scores=cell.scores[kept], n_expected=len(kept)
    )
    assert judge("2026-01-15", replace(night, cells={**night.cells, WORST: fewer}), past, SETTINGS).state == "ok"


def test_what_changed_names_commit_packages_weights_and_data() -> None:
    def spec(revision: str, data: str, code: int) -> dict[str, object]:
        return {
            "model": {"name": "hero-tiny", "revision": revision},
            "method": {"name": "hero", "code": code, "params": {"alpha": 0.5}},
            "benchmark": {"name": "synth-digits", "data": data},
        }

    def night(commit: str, torch: str, **values: object) -> Night:
        empty = np.zeros(0)
        cell = CellNight("cell", "id", empty, empty, empty, 0, 0, spec(**values))  # type: ignore[arg-type]
        environment = {"packages": {"torch": torch, "ray": "2.60.0"}, "driver": "570"}
        return Night("run", {"cell": cell}, {}, commit, environment, {"limit": 100})

    before = night("aaa", "2.13.0", revision="w1", data="d1", code=1)
    after = replace(night("bbb", "2.14.0", revision="w2", data="d2", code=2), config={"limit": 200})
    assert what_changed(before, after) == (
        ("commit", "aaa", "bbb"),
        ("torch", "2.13.0", "2.14.0"),
        ("weights of hero-tiny", "w1", "w2"),
        ("code version of hero", "1", "2"),
        ("dataset synth-digits", "d1", "d2"),
        ("panel: limit", "100", "200"),
    )
    assert what_changed(before, before) == ()


def test_a_score_drop_needs_size_and_rank_before_it_is_tested() -> None:
    past = np.tile(np.array([1.0, 1.0, 0.0, 1.0]), (3, 1))
    clusters = np.arange(4)
    change, error, p = score_drop(np.array([0.0, 0.0, 0.0, 0.0]), past, clusters, 0.005)
    assert (change, error) == (pytest.approx(-0.75), pytest.approx(3**0.5 / 4))
    assert p == pytest.approx(1 / 8 / 2, abs=0.01)  # all three of three down, ties counted half
    assert score_drop(np.array([1.0, 1.0, 1.0, 1.0]), past, clusters, 0.005)[2] == 1.0
    assert score_drop(np.array([0.0, 1.0, 0.0, 1.0]), past, clusters, 0.5)[2] == 1.0


def test_more_failures_is_the_exact_tail() -> None:
    assert more_failures(1, 10, 0, 10) == pytest.approx(0.5)
    assert more_failures(2, 10, 0, 10) == pytest.approx(9 / 38)
    assert more_failures(0, 10, 5, 10) == 1.0
    assert more_failures(1, 10, 5, 10) == 1.0


def test_a_slowdown_is_relative_to_the_nights_spread() -> None:
    steady = np.array([100.0, 101.0, 99.0, 100.0, 100.5])
    change, low, high, p = slowdown(115.0, steady, 0.07)
    assert change == pytest.approx(0.149, abs=0.002)
    assert low < change < high
    assert p < 0.001
    wild = np.array([80.0, 100.0, 130.0, 90.0, 114.0])
    assert slowdown(115.0, wild, 0.07)[3] == 1.0  # a good night was slower already ...
    assert slowdown(131.0, wild, 0.07)[3] > 0.05  # ... and this is within their spread


def test_another_package_s_code_is_named_as_a_cause() -> None:
    def night(code: str, package: str) -> Night:
        empty = np.zeros(0)
        spec = {"method": {"name": "longest-norm", "code": code}}
        added = {"method longest-norm": {"package": package, "code": code.rpartition("+")[2]}}
        return Night(
            "run", {"cell": CellNight("cell", "id", empty, empty, empty, 0, 0, spec)}, {}, "aaa", {"plugins": added}
        )

    before, edited = night("1+aaaaaaaaaa", "longest-norm 0.1"), night("1+bbbbbbbbbb", "longest-norm 0.1")
    assert what_changed(before, edited) == (("the code of longest-norm", "1+aaaaaaaaaa", "1+bbbbbbbbbb"),)
    assert what_changed(before, night("1+aaaaaaaaaa", "longest-norm 0.2")) == (
        ("package of method longest-norm", "longest-norm 0.1", "longest-norm 0.2"),
    )
    assert what_changed(replace(before, environment={}), before) == ()


def small_night(lost: int, won: int, questions: int = 40) -> tuple[Night, Night]:
    panel = Panel(questions=questions, per_picture=1, flicker=0.0)
    past = panel.history(np.random.default_rng(1), panel.base(), 1)
    before = replace(past[0].cells[WORST], scores=np.array([1.0] * 36 + [0.0] * 4))
    scores = before.scores.copy()
    scores[:lost] = 0.0
    scores[36 : 36 + won] = 1.0
    nights = [replace(past[0], cells={WORST: replace(before, scores=values)}) for values in (before.scores, scores)]
    return nights[0], nights[1]


def test_a_large_drop_short_of_an_alarm_is_said_and_not_called_health() -> None:
    before, tonight = small_night(5, 1)
    verdict = judge("2026-01-15", tonight, [before], SETTINGS)
    assert verdict.state == "ok"
    (look,) = verdict.looks
    assert (look.before, look.after, look.change) == (pytest.approx(90), pytest.approx(80), pytest.approx(-10))
    assert look.noticeable is not None
    assert look.noticeable > 10
    text = report.markdown(verdict)
    assert text.startswith("# Nightly 2026-01-15: nothing shown\n")
    assert f"- {WORST}: 90.0 to 80.0, p 0.062: not shown; repeat with more pictures" in text
    assert report.from_dict(report.to_dict(verdict)) == verdict


def test_a_quiet_night_claims_what_it_could_have_seen() -> None:
    before, tonight = small_night(0, 0)
    verdict = judge("2026-01-15", tonight, [before], SETTINGS)
    assert verdict.looks[0].noticeable == pytest.approx(10)  # 4 of 40 down: 0.5 ** 5 <= 0.1 / 2
    assert report.headline(verdict) == "no drop of more than 10.0 points"
    for lost, alarmed in ((3, False), (4, True)):
        _, worse = small_night(lost, 0)
        found = judge("2026-01-15", worse, [before], SETTINGS, lambda findings, night=worse: night)
        assert bool(found.alarms) == alarmed


def test_too_few_pictures_show_nothing_and_intervals_stay_on_the_scale() -> None:
    assert least_drop(np.zeros(6), np.arange(6) // 2, 0.05, 1.0) is None
    before, tonight = small_night(30, 0)
    (look,) = judge("2026-01-15", tonight, [before], SETTINGS).looks
    assert look.low is not None
    assert look.low >= -90


def test_a_summary_is_a_page_to_mail_or_markdown_by_its_name(tmp_path: Path) -> None:
    before, tonight = small_night(5, 1)
    verdict = judge("2026-01-15", tonight, [before], SETTINGS)
    keep(tmp_path / "night.html", report.blocks(verdict, ["abc1234 Cut <half> of the tokens"]))
    page = (tmp_path / "night.html").read_text("utf-8")
    assert page.index("<h1") < page.index("nothing shown</h1>") < page.index("<table")
    assert "width=device-width" in page
    assert "<li>abc1234 Cut &lt;half&gt; of the tokens</li>" in page
    assert not re.search(r"<script|https?://", page), "a page that mails must hold all it shows"
    keep(tmp_path / "night.md", report.blocks(verdict))
    assert (tmp_path / "night.md").read_text("utf-8") == report.markdown(verdict)
    with pytest.raises(InputError, match="cannot write"):
        keep(tmp_path / "nowhere" / "night.html", report.blocks(verdict))
