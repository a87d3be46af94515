"""`python -m hero_ray.nightly.schedule`: submit the nightly panel to a Ray cluster, every night, once.

The job's id carries the night's date and the cluster refuses a second job of that id, so two schedulers, a restart or a
clock set back cannot run a night twice. All state is in the cluster and the database: this process may die at any
moment. It looks at the schedule's own time, again every quarter of an hour, and when it starts; a night that was due
while nothing could run is caught up within `--catch-up-hours`.
"""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from hero_ray.core.errors import HeroRayError, MissingExtraError, StoreError
from hero_ray.nightly import notify
from hero_ray.nightly.crontab import trigger
from hero_ray.nightly.decide import Action, Job, decide, due, missed

log = logging.getLogger("hero_ray.nightly.schedule")

EXITS = {"ok": 0, "first": 0, "accepted": 0, "regression": 3}
EXIT_GIVEN_UP, EXIT_UNREACHABLE = 1, 2
TICK_MINUTES = 15
HEALTHY_S = 180.0


class ClusterAwayError(HeroRayError):
    """The Ray cluster's NightJobs API does not answer."""


class NightJobs(Protocol):
    """The part of the NightJobs API that is needed; raises ClusterAwayError."""

    def list(self) -> list[Job]: ...

    def submit(self, job_id: str, entrypoint: str) -> bool:
        """False if a job of that id is there already."""
        ...


@dataclass(frozen=True)
class ScheduleSettings:
    """See `parser` for the meaning of each."""

    cron: str = "0 2 * * *"
    arguments: tuple[str, ...] = ()
    db: str | None = None
    address: str | None = None
    working_dir: str | None = None
    catch_up_hours: float = 20.0
    attempts: int = 3
    poll_s: float = 10.0


class RayNightJobs:
    """The NightJobs API of a cluster. A token comes from the environment, as everywhere in Ray."""

    def __init__(self, address: str | None, working_dir: str | None) -> None:
        self._address, self._working_dir = address, working_dir

    def _call(self, action: Callable[[Any], Any]) -> Any:
        from ray.exceptions import RayError  # a refused token is one
        from ray.job_submission import JobSubmissionClient

        try:
            return action(JobSubmissionClient(self._address))
        except (ConnectionError, RuntimeError, OSError, RayError) as error:
            raise ClusterAwayError(f"the Ray cluster does not answer: {str(error).splitlines()[0]}") from error

    def list(self) -> list[Job]:
        details = self._call(lambda client: client.list_jobs())
        jobs = [Job(d.submission_id or "", str(d.status.value), d.driver_exit_code) for d in details]
        return [job for job in jobs if job.night]

    def submit(self, job_id: str, entrypoint: str) -> bool:
        runtime_env = {"working_dir": self._working_dir} if self._working_dir else None
        if any(job.id == job_id for job in self.list()):
            return False
        self._call(
            lambda client: client.submit_job(
                entrypoint=entrypoint, submission_id=job_id, runtime_env=runtime_env, metadata={"hero_ray": "nightly"}
            )
        )
        return True


class Nights:
    """What the database says of the nights; opened anew for every look, so that a restarted server is no matter."""

    def __init__(self, url: str | None) -> None:
        self._url = url

    def look(self, night: str) -> tuple[str | None, dict[str, str], list[str]]:
        """(state of the night's verdict, runs at work, judged nights)."""
        from hero_ray.store import nights, open_store

        with open_store(self._url, upgrade=False, patience_s=10) as store:
            judged = store.read(nights.verdicts, "nightly-")
            at_work = store.read(nights.at_work)
        state = next((v["state"] for run, v in judged.items() if run.startswith(f"nightly-{night}-")), None)
        done = sorted({str(v["night"]) for v in judged.values()})
        return state, at_work, done

    def report(self, night: str, message: str) -> bool:
        """Leave an alert about a night once; False if it is there already."""
        from hero_ray.store import nights, open_store

        with open_store(self._url, upgrade=False, patience_s=10) as store:
            return store.transaction(nights.report_once, night, message)


def attend(
    night: str, settings: ScheduleSettings, jobs: NightJobs, nights: Nights, sleep: Callable[[float], None] = time.sleep
) -> Action:
    """See a night through until it is judged, given up, or has to wait.

    Raises:
        ClusterAwayError, StoreError: nothing can be decided now; the next look will.
    """
    words = ["python", "-m", "hero_ray", "nightly", "--night", night, *settings.arguments]
    following = ""
    while True:
        submitted = jobs.list()  # before the verdicts: a job that has ended by now has left its verdict by then
        verdict, at_work, _ = nights.look(night)
        action = decide(night, submitted, verdict, at_work, settings.attempts)
        if action.kind == "submit":
            new = jobs.submit(action.subject, shlex.join(words))
            log.info("night %s: %s %s", night, "submitted" if new else "someone else submitted", action.subject)
        elif action.kind == "follow":
            if following != action.subject:
                log.info("night %s: following %s", night, action.subject)
            following = action.subject
            sleep(settings.poll_s)
        else:
            log.info("night %s: %s %s", night, action.kind, action.reason)
            return action


def look(settings: ScheduleSettings, jobs: NightJobs, nights: Nights, now: datetime) -> Action | None:
    """One look at the schedule: report missed nights, attend to the one that is due. Never raises."""
    latest = due(settings.cron, now)
    if latest is None:
        return None
    night = latest.date().isoformat()
    try:
        state, _, judged = nights.look(night)
        for gone in missed(settings.cron, judged, latest):
            _tell(nights, gone, f"night {gone} was missed: nothing ran while it was due")
        if state in (None, "failed") and now - latest > timedelta(hours=settings.catch_up_hours):
            _tell(nights, night, f"night {night} was missed: {settings.catch_up_hours:g} hours have passed")
            return None
        action = attend(night, settings, jobs, nights)
        if action.kind == "give-up":
            _tell(nights, night, f"night {night} was given up: {action.reason}")
        return action
    except (ClusterAwayError, StoreError) as error:
        log.error("night %s: %s; looking again in %d minutes", night, error, TICK_MINUTES)
        notify.trouble(f"night {night}: {error}")
    except Exception as error:
        log.exception("night %s: the scheduler stumbled and goes on", night)
        notify.trouble(f"night {night}: the scheduler stumbled: {type(error).__name__}: {error}")
    return None


def _tell(nights: Nights, night: str, message: str) -> None:
    if nights.report(night, message):
        log.error("%s", message)
        notify.trouble(message)


def once(night: str, settings: ScheduleSettings, jobs: NightJobs, nights: Nights) -> int:
    """Run one night now and return its exit code: 0 good, 1 given up, 2 cluster or database away, 3 regression."""
    try:
        action = attend(night, settings, jobs, nights)
    except (ClusterAwayError, StoreError) as error:
        log.error("night %s: %s", night, error)
        notify.trouble(f"night {night}: {error}")
        return EXIT_UNREACHABLE
    if action.kind == "done":
        return EXITS[action.reason]
    if action.kind == "give-up":
        _tell(nights, night, f"night {night} was given up: {action.reason}")
    return EXIT_GIVEN_UP


def heartbeat_file() -> Path:
    return Path(tempfile.gettempdir()) / "hero_ray_schedule.alive"


def healthy() -> bool:
    """Whether a scheduler on this machine gave a sign of life lately."""
    try:
        return time.time() - heartbeat_file().stat().st_mtime < HEALTHY_S
    except OSError:
        return False


def serve(settings: ScheduleSettings, jobs: NightJobs, nights: Nights) -> None:
    """Keep the schedule until the process is ended."""
    from apscheduler.executors.pool import ThreadPoolExecutor
    from apscheduler.schedulers.blocking import BlockingScheduler
    from apscheduler.triggers.interval import IntervalTrigger

    # One thread for nights: a look while a night is being followed would only follow it twice.
    executors = {"default": ThreadPoolExecutor(1), "nights": ThreadPoolExecutor(1)}
    scheduler = BlockingScheduler(timezone=UTC, executors=executors)
    same: dict[str, Any] = {"executor": "nights", "max_instances": 1, "coalesce": True, "misfire_grace_time": 3600}

    def work() -> None:
        look(settings, jobs, nights, datetime.now(UTC))

    scheduler.add_job(work, trigger(settings.cron), id="schedule", **same)
    start = datetime.now(UTC) + timedelta(seconds=1)
    scheduler.add_job(work, IntervalTrigger(minutes=TICK_MINUTES, timezone=UTC), id="look", next_run_time=start, **same)
    scheduler.add_job(heartbeat_file().touch, IntervalTrigger(seconds=30, timezone=UTC), next_run_time=start)
    log.info("nights at %r UTC, database and cluster from the environment", settings.cron)
    try:
        scheduler.start()
    except (KeyboardInterrupt, SystemExit):
        log.info("ended; a job that runs goes on and is picked up again")


def parser() -> argparse.ArgumentParser:
    """The command line; every default can come from the environment."""
    env = os.environ.get
    made = argparse.ArgumentParser(prog="python -m hero_ray.nightly.schedule", description=__doc__.splitlines()[0])
    made.add_argument(
        "--cron", default=env("HERO_RAY_NIGHTLY_CRON") or ScheduleSettings.cron, help="crontab line, in UTC"
    )
    made.add_argument("--once", action="store_true", help="run one night now and exit with its exit code")
    made.add_argument(
        "--night", type=date.fromisoformat, help="with --once: the date it counts for; today if not given"
    )
    made.add_argument("--check", action="store_true", help="exit 0 if a scheduler is alive on this machine")
    made.add_argument("--db", help="database URL; else HERO_RAY_DB")
    made.add_argument("--address", help="Jobs API, http://HOST:8265; else RAY_API_SERVER_ADDRESS")
    made.add_argument("--working-dir", help="folder to send with the job; else the cluster's image holds the package")
    made.add_argument(
        "--catch-up-hours", type=float, default=ScheduleSettings.catch_up_hours, help="how late a night may begin"
    )
    made.add_argument("--attempts", type=int, default=ScheduleSettings.attempts, help="submissions of one night")
    made.add_argument(
        "--poll-s", type=float, default=ScheduleSettings.poll_s, help="seconds between looks at a running job"
    )
    extra = shlex.split(env("HERO_RAY_NIGHTLY_ARGS") or "")
    made.add_argument(
        "arguments", nargs="*", default=extra, help="for `hero-ray nightly`, after --; else HERO_RAY_NIGHTLY_ARGS"
    )
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the scheduler; returns an exit code."""
    options = parser().parse_args(arguments)
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(level=logging.INFO, format="%(asctime)sZ %(levelname)s %(message)s", stream=sys.stdout)
    logging.getLogger("apscheduler").setLevel(logging.WARNING)
    if options.check:
        return 0 if healthy() else 1
    try:
        trigger(options.cron)
    except ValueError as error:
        log.error("%r is not a crontab line (%s); write, for example, '0 2 * * *'", options.cron, error)
        return EXIT_UNREACHABLE
    except MissingExtraError as error:
        log.error("%s", error)
        return EXIT_UNREACHABLE
    names = ("cron", "db", "address", "working_dir", "catch_up_hours", "attempts", "poll_s")
    settings = ScheduleSettings(**{name: getattr(options, name) for name in names}, arguments=tuple(options.arguments))
    jobs, nights = RayNightJobs(settings.address, settings.working_dir), Nights(settings.db)
    if options.once:
        return once((options.night or datetime.now(UTC).date()).isoformat(), settings, jobs, nights)
    serve(settings, jobs, nights)
    return 0


if __name__ == "__main__":
    sys.exit(main())
