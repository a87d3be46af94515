"""The scheduler: one job a night whatever happens to the clock, the cluster, the database or the scheduler itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from hero_ray.core.errors import StoreError
from hero_ray.nightly import notify, schedule
from hero_ray.nightly.decide import Job, decide, due, missed
from hero_ray.nightly.schedule import ClusterAwayError, ScheduleSettings, attend, look, once

NIGHT, BEFORE = "2026-03-29", "2026-03-28"
TWO = datetime(2026, 3, 29, 2, 0, tzinfo=UTC)
SETTINGS = ScheduleSettings(poll_s=0.0)


@dataclass
class Cluster:
    """A Jobs API: a job ends after `polls` looks, the way its attempt is told to."""

    nights: Nights
    endings: list[tuple[str, int | None, str | None]] = field(default_factory=lambda: [("SUCCEEDED", 0, "ok")])
    polls: int = 2
    jobs: dict[str, Job] = field(default_factory=dict)
    submitted: list[str] = field(default_factory=list)
    entrypoints: list[str] = field(default_factory=list)
    away: bool = False
    looks: int = 0

    def list(self) -> list[Job]:
        if self.away:
            raise ClusterAwayError("the Ray cluster does not answer: refused")
        for job in [job for job in self.jobs.values() if not job.ended and job.id in self.submitted]:
            self.looks += 1
            if self.looks > self.polls:
                self.looks = 0
                status, code, verdict = self.endings[min(len(self.submitted), len(self.endings)) - 1]
                self.jobs[job.id] = replace(job, status=status, exit_code=code)
                if verdict:
                    self.nights.verdicts[job.night] = verdict
        return list(self.jobs.values())

    def submit(self, job_id: str, entrypoint: str) -> bool:
        if job_id in self.jobs:
            return False
        self.jobs[job_id] = Job(job_id, "RUNNING")
        self.submitted.append(job_id)
        self.entrypoints.append(entrypoint)
        return True


@dataclass
class Nights:
    """The database's side: verdicts by night, leases, alerts."""

    verdicts: dict[str, str] = field(default_factory=dict)
    leases: dict[str, str] = field(default_factory=dict)
    alerts: list[str] = field(default_factory=list)
    away: bool = False

    def look(self, night: str) -> tuple[str | None, dict[str, str], list[str]]:
        if self.away:
            raise StoreError("database postgresql://hero@db/hero: connection refused")
        return self.verdicts.get(night), self.leases, sorted(self.verdicts)

    def report(self, night: str, message: str) -> bool:
        if message in self.alerts:
            return False
        self.alerts.append(message)
        return True


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the webhook was told."""
    texts: list[str] = []

    def trouble(text: str) -> bool:
        texts.append(text)
        return True

    monkeypatch.setattr(notify, "trouble", trouble)
    return texts


def machine(**options: object) -> tuple[Cluster, Nights]:
    nights = Nights(verdicts={BEFORE: "ok"})
    return Cluster(nights, **options), nights  # type: ignore[arg-type]


def test_a_due_night_is_submitted_once_and_followed_to_its_verdict() -> None:
    cluster, nights = machine()
    for minutes in (0, 15, 300):
        look(SETTINGS, cluster, nights, TWO + timedelta(minutes=minutes))  # type: ignore[arg-type]
    assert cluster.submitted == [f"nightly-{NIGHT}"]
    assert cluster.entrypoints == [f"python -m hero_ray nightly --night {NIGHT}"]


def test_nothing_is_due_before_its_time() -> None:
    cluster, nights = machine()
    action = look(SETTINGS, cluster, nights, TWO - timedelta(seconds=1))  # type: ignore[arg-type]
    assert action is not None
    assert (action.kind, cluster.submitted) == ("done", [])


def test_two_schedulers_make_one_job() -> None:
    """Both saw nothing; the cluster refuses the second submission, whose scheduler then follows the first's job."""
    cluster, nights = machine()
    first_look = cluster.list()

    class Late(Cluster):
        def list(self) -> list[Job]:
            nonlocal first_look
            seen, first_look = first_look, None  # type: ignore[assignment]
            return cluster.list() if seen is None else seen

        def submit(self, job_id: str, entrypoint: str) -> bool:
            cluster.submit(job_id, entrypoint)  # the other scheduler was a moment faster
            return cluster.submit(job_id, entrypoint)

    action = attend(NIGHT, SETTINGS, Late(nights), nights)  # type: ignore[arg-type]
    assert (action.kind, cluster.submitted) == ("done", [f"nightly-{NIGHT}"])


def test_a_scheduler_that_restarts_follows_the_job_that_is_there() -> None:
    cluster, nights = machine()
    cluster.submit(f"nightly-{NIGHT}", "python -m hero_ray nightly")
    action = look(SETTINGS, cluster, nights, TWO + timedelta(hours=1))  # type: ignore[arg-type]
    assert action is not None
    assert (action.kind, cluster.submitted) == ("done", [f"nightly-{NIGHT}"])


def test_a_night_that_was_due_while_nothing_ran_is_caught_up() -> None:
    cluster, nights = machine()
    look(SETTINGS, cluster, nights, TWO + timedelta(hours=9))  # type: ignore[arg-type]
    assert cluster.submitted == [f"nightly-{NIGHT}"]


def test_nights_long_gone_are_reported_once_and_not_made_up(told: list[str]) -> None:
    cluster, nights = machine()
    nights.verdicts = {"2026-03-25": "ok"}
    for _ in range(2):
        look(SETTINGS, cluster, nights, TWO + timedelta(hours=1))  # type: ignore[arg-type]
    assert cluster.submitted == [f"nightly-{NIGHT}"]
    assert [text.split(" was")[0] for text in told] == [f"night 2026-03-{day}" for day in (26, 27, 28)]
    assert nights.alerts == told


def test_a_night_that_is_too_late_is_missed(told: list[str]) -> None:
    cluster, nights = machine()
    look(replace(SETTINGS, catch_up_hours=6), cluster, nights, TWO + timedelta(hours=7))  # type: ignore[arg-type]
    assert (cluster.submitted, len(told)) == ([], 1)
    assert "6 hours have passed" in told[0]


def test_backfill_runs_a_named_night() -> None:
    cluster, nights = machine()
    assert once("2026-03-01", SETTINGS, cluster, nights) == 0  # type: ignore[arg-type]
    assert cluster.submitted == ["nightly-2026-03-01"]
    assert once("2026-03-01", SETTINGS, cluster, nights) == 0  # type: ignore[arg-type]
    assert cluster.submitted == ["nightly-2026-03-01"]


def test_last_night_still_at_work_is_waited_for_and_then_tonight_runs() -> None:
    cluster, nights = machine()
    cluster.jobs[f"nightly-{BEFORE}"] = Job(f"nightly-{BEFORE}", "RUNNING")
    waiting = look(SETTINGS, cluster, nights, TWO)  # type: ignore[arg-type]
    assert waiting is not None
    assert (waiting.kind, waiting.reason) == ("wait", f"job nightly-{BEFORE} is still running")
    cluster.jobs[f"nightly-{BEFORE}"] = Job(f"nightly-{BEFORE}", "SUCCEEDED", 0)
    look(SETTINGS, cluster, nights, TWO + timedelta(hours=2))  # type: ignore[arg-type]
    assert cluster.submitted == [f"nightly-{NIGHT}"]


def test_a_judged_night_is_followed_until_its_job_has_ended() -> None:
    ending = Job(f"nightly-{NIGHT}", "RUNNING")
    assert decide(NIGHT, [ending], "ok", {}, 3).kind == "follow"
    assert decide(NIGHT, [replace(ending, status="SUCCEEDED", exit_code=0)], "ok", {}, 3).kind == "done"
    assert decide(NIGHT, [], "ok", {}, 3).kind == "done"


def test_a_lease_of_another_night_blocks_even_when_the_head_forgot_its_job() -> None:
    assert decide(NIGHT, [], None, {f"nightly-{BEFORE}-abc123": "node:7"}, 3).reason == (
        f"run nightly-{BEFORE}-abc123 is still held by node:7"
    )
    assert decide(NIGHT, [], None, {f"nightly-{NIGHT}-abc123": "node:7"}, 3).kind == "submit"


def test_a_crashed_driver_is_started_again_under_a_new_id() -> None:
    cluster, nights = machine(endings=[("FAILED", None, None), ("SUCCEEDED", 0, "ok")])
    assert once(NIGHT, SETTINGS, cluster, nights) == 0  # type: ignore[arg-type]
    assert cluster.submitted == [f"nightly-{NIGHT}", f"nightly-{NIGHT}-r2"]


def test_a_head_that_lost_its_history_starts_the_night_again() -> None:
    """The new job finds the run in the database and finishes it."""
    cluster, nights = machine()
    cluster.submit(f"nightly-{NIGHT}", "x")
    cluster.jobs.clear()
    assert once(NIGHT, SETTINGS, cluster, nights) == 0  # type: ignore[arg-type]
    assert cluster.submitted == [f"nightly-{NIGHT}", f"nightly-{NIGHT}"]


def test_three_crashes_are_enough(told: list[str]) -> None:
    cluster, nights = machine(endings=[("FAILED", 1, "failed")])
    for _ in range(2):
        assert once(NIGHT, SETTINGS, cluster, nights) == 1  # type: ignore[arg-type]
    assert cluster.submitted == [f"nightly-{NIGHT}", f"nightly-{NIGHT}-r2", f"nightly-{NIGHT}-r3"]
    assert told == [f"night {NIGHT} was given up: 3 attempts failed; the last was nightly-{NIGHT}-r3"]


@pytest.mark.parametrize(
    ("ending", "code", "submissions"),
    [
        (("FAILED", 3, "regression"), 3, 1),
        (("FAILED", 2, None), 1, 1),
        (("STOPPED", None, None), 1, 1),
        (("SUCCEEDED", 0, "first"), 0, 1),
    ],
)
def test_what_ends_for_a_reason_is_not_tried_again(
    ending: tuple[str, int | None, str | None], code: int, submissions: int, told: list[str]
) -> None:
    cluster, nights = machine(endings=[ending])
    assert once(NIGHT, SETTINGS, cluster, nights) == code  # type: ignore[arg-type]
    assert len(cluster.submitted) == submissions
    assert bool(told) == (code == 1)


@pytest.mark.parametrize("who", ["cluster", "nights"])
def test_an_absence_is_told_and_the_next_look_goes_on(
    who: str, told: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    cluster, nights = machine()
    absent: Cluster | Nights = cluster if who == "cluster" else nights
    absent.away = True
    assert look(SETTINGS, cluster, nights, TWO) is None  # type: ignore[arg-type]
    assert once(NIGHT, SETTINGS, cluster, nights) == 2  # type: ignore[arg-type]
    assert len(told) == 2
    assert NIGHT in caplog.text
    absent.away = False
    look(SETTINGS, cluster, nights, TWO + timedelta(minutes=15))  # type: ignore[arg-type]
    assert cluster.submitted == [f"nightly-{NIGHT}"]


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize("changes", [datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC)])
def test_summer_time_neither_skips_nor_repeats_a_night(changes: datetime) -> None:
    """On these dates 02:30 local time does not exist, or exists twice; in UTC it is an ordinary moment."""
    assert ZoneInfo("Europe/Berlin").utcoffset(changes) != ZoneInfo("Europe/Berlin").utcoffset(
        changes + timedelta(days=1)
    )
    fired = set()
    moment = changes - timedelta(days=2)
    while moment < changes + timedelta(days=3):
        latest = due("30 2 * * *", moment)
        assert latest is not None
        assert (latest.hour, latest.minute, latest.utcoffset()) == (2, 30, timedelta(0))
        fired.add(latest.date())
        moment += timedelta(minutes=30)
    assert len(fired) == 6


def test_a_clock_set_back_does_not_run_a_night_twice() -> None:
    cluster, nights = machine()
    look(SETTINGS, cluster, nights, TWO + timedelta(minutes=1))  # type: ignore[arg-type]
    look(SETTINGS, cluster, nights, TWO - timedelta(hours=3))  # type: ignore[arg-type]
    look(SETTINGS, cluster, nights, TWO + timedelta(minutes=2))  # type: ignore[arg-type]
    assert cluster.submitted == [f"nightly-{NIGHT}"]


def test_missed_nights_follow_the_schedule() -> None:
    monday = datetime(2026, 3, 30, 2, tzinfo=UTC)
    assert missed("0 2 * * mon", ["2026-03-09"], monday) == ["2026-03-16", "2026-03-23"]
    assert missed("0 2 * * *", ["2026-03-29"], monday) == []
    assert missed("0 2 * * *", [], monday) == []


def test_the_command_line_reads_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERO_RAY_NIGHTLY_CRON", "15 3 * * *")
    monkeypatch.setenv("HERO_RAY_NIGHTLY_ARGS", "--limit 8")
    options = schedule.parser().parse_args([])
    assert (options.cron, options.arguments) == ("15 3 * * *", ["--limit", "8"])
    options = schedule.parser().parse_args(["--once", "--night", "2026-03-01", "--", "--tasks", "pope"])
    assert (options.once, options.night.isoformat(), options.arguments) == (True, "2026-03-01", ["--tasks", "pope"])
    assert schedule.main(["--cron", "every night"]) == 2


def test_the_health_check_wants_a_recent_sign_of_life(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pytest.TempPathFactory
) -> None:
    monkeypatch.setattr(schedule.tempfile, "gettempdir", lambda: str(tmp_path))
    assert schedule.main(["--check"]) == 1
    schedule.heartbeat_file().touch()
    assert schedule.main(["--check"]) == 0
