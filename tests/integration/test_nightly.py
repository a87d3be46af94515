"""The nightly guard on real databases: verdicts, alerts, repetition, crashes. Runs are played by a stand-in for Ray."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import numpy as np
import pytest
from databases import Databases
from typer.testing import CliRunner

from hero_ray.cli import app, load_verbs
from hero_ray.core.config import build
from hero_ray.core.errors import StoreError
from hero_ray.core.types import Cell, Prediction, Sample
from hero_ray.nightly import history, notify, report
from hero_ray.nightly import run as nightly
from hero_ray.pipeline.facts import Plan
from hero_ray.pipeline.finished import RunOutcome
from hero_ray.store import Store, nights, open_store
from hero_ray.store.runs import alerts

QUESTIONS = 300
METHODS = ("full", "hired", "hero")


def cell(method: str, revision: str = "w1") -> Cell:
    spec = {"model": {"name": "hero-tiny", "revision": revision}, "method": {"name": method, "code": 1}}
    spec["benchmark"] = {"name": "synth-demo", "data": "d1"}
    return Cell(f"{method}-{revision}", "hero-tiny", method, "exact", {}, 0.2, "synth-demo", "", spec=spec)


def plan(revision: str = "w1") -> Plan:
    config = build({"name": "nightly", "models": ["hero-tiny"], "tasks": ["synth-demo"]})
    samples = tuple(
        Sample("synth-demo", f"q{i}", f"What is {i}?", [str(i)], f"img{i // 3}", None) for i in range(QUESTIONS)
    )
    cells = tuple(cell(method, revision) for method in METHODS)
    asked = {"synth-demo": len(samples)}
    return Plan(config, (), (), {}, cells, (), samples, asked, QUESTIONS // 3, f"hash-{revision}")


@dataclass
class Machine:
    """Plays `pipeline.run.run`: answers every question of a plan, worse or slower where it is told to be."""

    wrong: dict[str, int] = field(default_factory=dict)
    slow: dict[str, float] = field(default_factory=dict)
    commit: str = "aaa"
    day: int = 0
    flake_once: bool = False
    status: str = "complete"
    runs: list[str] = field(default_factory=list)
    crash: Exception | None = None

    def __call__(self, plan: Plan, store: Store, *, run_id: str, trigger: str, **_: Any) -> RunOutcome:
        self.runs.append(run_id)
        created = datetime(2026, 1, 1, 2, tzinfo=UTC) + timedelta(days=self.day, seconds=len(self.runs))
        config = plan.config.model_dump(mode="json")
        environment = {"packages": {"torch": "2.13.0"}}
        store.create_run(run_id, plan.config.name, config, plan.hash, environment, self.commit, trigger, created)
        store.add_cells(run_id, plan.cells, dict.fromkeys((c.id for c in plan.cells), QUESTIONS))
        if self.crash:
            raise self.crash
        repetition = run_id.endswith("-again")
        for each in plan.cells:
            bad = 0 if repetition and self.flake_once else self.wrong.get(each.method, 0)
            right = np.arange(QUESTIONS) % 4 != 0
            right[np.flatnonzero(right)[:bad]] = False
            answers = [
                Prediction(each.id, sample, "x", {"accuracy": float(ok)})
                for sample, ok in zip(plan.samples, right, strict=True)
            ]
            store.write_unit(run_id, answers)
            store.write_metrics(run_id, each.id, [{"metric": "accuracy", "value": float(right.mean()), "n": QUESTIONS}])
            wobble = 1 + 0.01 * np.sin(7 * self.day + len(each.method))
            figures = {"ttft_ms_p50": 10 * wobble * self.slow.get(each.method, 1.0), "certificate": {"device": "cpu"}}
            store.write_profile(run_id, each.id, {"batch_size": 1, "new_tokens": 8, **figures})
        store.set_status(run_id, self.status)
        return RunOutcome(run_id, self.status)


ON_BOTH = pytest.mark.parametrize(
    "databases", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)], indirect=True
)
"""For tests of many nights: they take twice as long in PostgreSQL."""


def good_nights(store: Store, count: int) -> None:
    for day in range(count):
        date = f"2026-01-{day + 1:02d}"
        verdict, _ = nightly.run_night(plan(), store, date, execute=Machine(day=day))
        assert verdict.state == ("first" if day == 0 else "ok"), (date, verdict)


@pytest.fixture
def after(databases: Databases) -> Iterator[Callable[[int], Store]]:
    """Gives a database of its own after so many good nights."""
    with ExitStack() as opened:

        def begin(count: int) -> Store:
            url = databases.filled(f"{count} good nights", partial(good_nights, count=count))
            return opened.enter_context(open_store(url, patience_s=30))

        yield begin


@pytest.mark.slow
@ON_BOTH
def test_fourteen_quiet_nights_then_a_drop(after: Callable[[int], Store]) -> None:
    store = after(14)
    machine = Machine(wrong={"hero": 12}, commit="bbb", day=14)
    verdict, new = nightly.run_night(plan("w2"), store, "2026-01-15", execute=machine)
    assert (verdict.state, new, len(verdict.compared_with)) == ("regression", True, 14)
    (alarm,) = verdict.alarms
    assert (alarm.kind, alarm.label, alarm.change) == ("quality", "hero-tiny hero@20% synth-demo", pytest.approx(-4.0))
    assert verdict.changed == (("commit", "aaa", "bbb"), ("weights of hero-tiny", "w1", "w2"))
    assert machine.runs == ["nightly-2026-01-15-hash-w", "nightly-2026-01-15-hash-w-again"]
    with store.engine.connect() as connection:
        rows = [row for row in alerts(connection) if row["kind"] != nights.VERDICT]
    assert [(row["kind"], row["severity"], row["cell_id"], row["run_id"]) for row in rows] == [
        ("nightly-quality", "error", "hero-w2", "nightly-2026-01-15-hash-w")
    ]
    assert rows[0]["details"]["night"] == "2026-01-15"
    assert nightly.find_verdict(store, "2026-01-15") == verdict
    assert nightly.find_verdict(store, "latest") == verdict


@pytest.mark.slow
@ON_BOTH
def test_a_slowdown_is_named_by_what_was_timed(after: Callable[[int], Store]) -> None:
    store = after(14)
    verdict, _ = nightly.run_night(plan(), store, "2026-01-15", execute=Machine(slow={"hired": 1.15}, day=14))
    assert [(f.kind, f.label, f.figure) for f in verdict.alarms] == [("speed", "hero-tiny hired@20%", "ttft_ms_p50")]


@ON_BOTH
def test_a_flake_is_silenced_and_the_night_counts_as_good(after: Callable[[int], Store]) -> None:
    store = after(6)
    machine = Machine(wrong={"hero": 30}, day=6, flake_once=True)
    verdict, _ = nightly.run_night(plan(), store, "2026-01-07", execute=machine)
    assert (verdict.state, [finding.label for finding in verdict.silenced]) == (
        "ok",
        ["hero-tiny hero@20% synth-demo"],
    )
    assert machine.runs[-1].endswith("-again")
    with store.engine.connect() as connection:
        repeated = store.cells(machine.runs[-1])
        assert [each.method for each in repeated] == ["hero"]
        assert [row["kind"] for row in alerts(connection) if row["kind"] != nights.VERDICT] == []


@ON_BOTH
def test_a_bad_night_is_no_baseline_until_it_is_accepted(after: Callable[[int], Store]) -> None:
    store = after(6)
    worse = {"hero": 30}
    for day, date in ((6, "2026-01-07"), (7, "2026-01-08")):
        verdict, _ = nightly.run_night(plan(), store, date, execute=Machine(wrong=worse, day=day))
        assert (verdict.state, len(verdict.compared_with)) == ("regression", 6)
    nightly.accept(store, "2026-01-08", "the old prompt was wrong")
    with store.engine.connect() as connection:
        rows = [row for row in alerts(connection) if row["kind"] == "nightly-quality"]
    assert {row["run_id"]: row["acknowledged_at"] is not None for row in rows} == {
        "nightly-2026-01-07-hash-w": False,
        "nightly-2026-01-08-hash-w": True,
    }
    verdict, _ = nightly.run_night(plan(), store, "2026-01-09", execute=Machine(wrong=worse, day=8))
    assert (verdict.state, len(verdict.compared_with)) == ("ok", 7)


def test_a_second_start_of_a_judged_night_repeats_its_verdict(after: Callable[[int], Store]) -> None:
    store = after(2)
    machine = Machine(day=2)
    first = nightly.run_night(plan(), store, "2026-01-03", execute=machine)
    again = nightly.run_night(plan(), store, "2026-01-03", execute=machine)
    assert (first[0], first[1], again[1]) == (again[0], True, False)
    assert len(machine.runs) == 1


def test_a_failed_night_is_recorded_and_can_be_finished(after: Callable[[int], Store]) -> None:
    store = after(2)
    verdict, _ = nightly.run_night(plan(), store, "2026-01-03", execute=Machine(day=2, crash=OSError("no GPU")))
    assert (verdict.state, verdict.notes) == ("failed", ("OSError: no GPU",))
    with store.engine.connect() as connection:
        kinds = [row["kind"] for row in alerts(connection) if row["severity"] == "error"]
    assert kinds == ["nightly-failed"]
    verdict, new = nightly.run_night(plan(), store, "2026-01-03", execute=Machine(day=2))
    assert (verdict.state, new) == ("ok", True)


@pytest.mark.slow
def test_a_driver_that_died_is_waited_for_by_its_lease(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The dead driver's claim still holds when the night is started again; it runs out and the run goes on."""
    store.create_run("nightly-2026-01-01-hash-w", "nightly", {}, "hash-w1", trigger="nightly")
    store.acquire_lease("nightly-2026-01-01-hash-w", "dead", 0.5)
    with store.engine.connect() as connection:
        assert nights.at_work(connection) == {"nightly-2026-01-01-hash-w": "dead"}
    naps: list[float] = []
    machine = Machine()

    def start(plan: Plan, store: Store, *, run_id: str, **options: Any) -> RunOutcome:
        store.acquire_lease(run_id, "new", 60)
        return machine(plan, store, run_id=run_id, **options)

    def nap(seconds: float) -> None:
        naps.append(seconds)
        threading.Event().wait(0.6)

    monkeypatch.setattr(nightly.time, "sleep", nap)
    verdict, _ = nightly.run_night(plan(), store, "2026-01-01", execute=start)
    assert (verdict.state, naps) == ("first", [10])


def test_a_database_that_is_away_is_an_error_not_a_verdict(store: Store) -> None:
    def start(*_: Any, **__: Any) -> RunOutcome:
        raise StoreError("database postgresql://hero@db/hero: connection refused")

    with pytest.raises(StoreError, match="connection refused"):
        nightly.run_night(plan(), store, "2026-01-01", execute=start)


@ON_BOTH
def test_verdicts_survive_the_database(after: Callable[[int], Store]) -> None:
    store = after(6)
    verdict, _ = nightly.run_night(plan(), store, "2026-01-07", execute=Machine(wrong={"hero": 30}, day=6))
    text = report.markdown(verdict)
    assert text == report.markdown(nightly.find_verdict(store, "2026-01-07"))
    assert "# Nightly 2026-01-07: REGRESSION" in text
    assert "hero-tiny hero@20% synth-demo" in text
    with pytest.raises(StoreError, match="judged nights: 2026-01-07, 2026-01-06"):
        nightly.find_verdict(store, "2025-12-31")


@pytest.mark.slow
@ON_BOTH
def test_explain_and_accept_from_the_command_line(after: Callable[[int], Store]) -> None:
    load_verbs()
    store = after(6)
    nightly.run_night(plan(), store, "2026-01-07", execute=Machine(wrong={"hero": 30}, day=6, commit="bbb"))
    shown = CliRunner().invoke(app, ["nightly", "explain", "--db", store.url])
    assert shown.exit_code == 0, shown.output
    assert "REGRESSION" in shown.output
    assert "| commit | aaa | bbb |" in shown.output
    done = CliRunner().invoke(app, ["nightly", "accept", "2026-01-07", "--reason", "wanted", "--db", store.url])
    assert done.exit_code == 0, done.output
    assert nightly.find_verdict(store, "2026-01-07").state == "accepted"


class Hook:
    """A webhook receiver on loopback that answers as it is told."""

    def __init__(self, answers: list[int]) -> None:
        self.bodies: list[dict[str, Any]] = []
        received, codes = self.bodies, iter(answers)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(next(codes))
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def hook() -> Iterator[Callable[[list[int]], Hook]]:
    made: list[Hook] = []

    def make(answers: list[int]) -> Hook:
        made.append(Hook(answers))
        return made[-1]

    yield make
    for each in made:
        each.server.shutdown()
        each.server.server_close()


def test_the_webhook_is_tried_again_and_takes_slacks_form(hook: Callable[[list[int]], Hook]) -> None:
    receiver = hook([503, 429, 200])
    verdict = nightly.NightVerdict("run", "2026-01-07", "regression", changed=(("commit", "a<b", "c&d"),))
    assert notify.send(report.slack(verdict), receiver.url, pause_s=0.01)
    assert len(receiver.bodies) == 3
    body = receiver.bodies[-1]
    assert body["text"] == "hero_ray nightly 2026-01-07: REGRESSION"
    assert [block["type"] for block in body["blocks"]] == ["header", "section"]
    assert "commit: a&lt;b -&gt; c&amp;d" in body["blocks"][1]["text"]["text"]


def test_a_webhook_that_refuses_or_is_not_there_harms_nothing(
    hook: Callable[[list[int]], Hook], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing = hook([404, 404])
    assert not notify.send({"text": "x"}, refusing.url, pause_s=0.01)
    assert len(refusing.bodies) == 1
    assert not notify.send({"text": "x"}, "http://127.0.0.1:9/secret-path", pause_s=0.01)
    assert "could not be told" in caplog.text
    assert "secret-path" not in caplog.text
    monkeypatch.delenv("HERO_RAY_WEBHOOK", raising=False)
    assert not notify.send({"text": "x"})


def test_a_store_that_is_down_is_reported_to_the_webhook(
    hook: Callable[[list[int]], Hook], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hero_ray.cli import main
    from hero_ray.pipeline import facts

    receiver = hook([200])
    monkeypatch.setenv("HERO_RAY_WEBHOOK", receiver.url)
    monkeypatch.setattr(facts, "make_plan", lambda config: plan())
    with pytest.raises(SystemExit) as stopped:
        main(["nightly", "--db", "sqlite:////nowhere/at/all.db"])
    assert stopped.value.code == 2
    assert "could not be run" in receiver.bodies[0]["text"]


def test_a_repetition_names_its_cells_as_the_night_did(store: Store) -> None:
    """One of two settings repeated alone has no sibling to be told from, and must be found again all the same."""
    cells = [replace(cell("hero", str(alpha)), params={"alpha": alpha}) for alpha in (0.5, 0.7)]
    for run_id, held in (("n", cells), ("n-again", cells[1:])):
        store.create_run(run_id, "nightly", {}, run_id)
        store.add_cells(run_id, held, dict.fromkeys((each.id for each in held), 1))
        for each in held:
            store.write_profile(run_id, each.id, {"ttft_ms_p50": 5.0})
    again = history.load(store, store.run("n-again"), "n")
    assert list(again.cells) == ["hero-tiny hero:alpha=0.7@20% synth-demo"]
    assert list(again.speeds) == ["hero-tiny hero:alpha=0.7@20%"]
    night = history.load(store, store.run("n"))
    assert (set(again.cells) < set(night.cells), set(again.speeds) < set(night.speeds)) == (True, True)
