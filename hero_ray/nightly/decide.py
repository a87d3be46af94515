"""What to do about a night, from what cluster and database say of it. Pure; `hero_ray.nightly.schedule` acts on it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from hero_ray.nightly.crontab import trigger

ENDED = frozenset({"SUCCEEDED", "FAILED", "STOPPED"})
BAD_INPUT = 2
LOOK_BACK = timedelta(days=32)
_ID = re.compile(r"nightly-(\d{4}-\d{2}-\d{2})(?:-r(\d+))?")


@dataclass(frozen=True)
class Job:
    """A nightly submission as the cluster knows it; the date in its id is what keeps a night from running twice."""

    id: str
    status: str
    exit_code: int | None = None

    @property
    def night(self) -> str:
        match = _ID.fullmatch(self.id)
        return match[1] if match else ""

    @property
    def attempt(self) -> int:
        match = _ID.fullmatch(self.id)
        return int(match[2] or 1) if match else 0

    @property
    def ended(self) -> bool:
        return self.status in ENDED


@dataclass(frozen=True)
class Action:
    """`submit` a job of this id, `follow` one, `wait` until something else is out of the way, `done`, or `give-up`."""

    kind: str
    subject: str
    reason: str = ""


def decide(night: str, jobs: Iterable[Job], verdict: str | None, at_work: Mapping[str, str], attempts: int) -> Action:
    """The next step for a night.

    Args:
        night: its date.
        jobs: every nightly submission that the cluster remembers (a restarted head remembers none).
        verdict: state of the night's verdict in the database; None without one.
        at_work: nightly run id -> holder, for runs whose lease has not run out.
        attempts: submissions of one night before it is given up.
    """
    known = sorted((job for job in jobs if job.night), key=lambda job: (job.night, job.attempt))
    mine = [job for job in known if job.night == night]
    for job in mine:
        if not job.ended:  # after its verdict too: the next night would find it in its way
            return Action("follow", job.id)
    if verdict not in (None, "failed"):
        return Action("done", night, str(verdict))
    for job in known:
        if not job.ended:
            return Action("wait", night, f"job {job.id} is still {job.status.lower()}")
    for run, holder in at_work.items():
        if not run.startswith(f"nightly-{night}-"):
            return Action("wait", night, f"run {run} is still held by {holder}")
    if mine and mine[-1].status == "STOPPED":
        return Action("give-up", night, f"job {mine[-1].id} was stopped by hand")
    if mine and mine[-1].exit_code == BAD_INPUT:
        return Action("give-up", night, f"job {mine[-1].id} ended with exit code 2: bad input or no database")
    if len(mine) >= attempts:
        return Action("give-up", night, f"{len(mine)} attempts failed; the last was {mine[-1].id}")
    return Action("submit", f"nightly-{night}" + (f"-r{mine[-1].attempt + 1}" if mine else ""))


def due(cron: str, now: datetime) -> datetime | None:
    """The latest moment at or before `now` at which the schedule fired; None within the last month."""
    fires = trigger(cron)
    last, moment = None, fires.get_next_fire_time(None, now - LOOK_BACK)
    while moment is not None and moment <= now:
        last, moment = moment, fires.get_next_fire_time(moment, moment + timedelta(seconds=1))
    return last


def missed(cron: str, judged: Sequence[str], latest: datetime) -> list[str]:
    """Nights between the last judged one and the latest due one that nobody ran: reported, never made up for, since
    running today's code under an old date would falsify the record."""
    if not judged:
        return []
    begin = datetime.combine(date.fromisoformat(max(judged)) + timedelta(days=1), datetime.min.time(), UTC)
    fires, found = trigger(cron), []
    moment = fires.get_next_fire_time(None, max(begin, latest - LOOK_BACK))
    while moment is not None and moment.date() < latest.date():
        found.append(moment.date().isoformat())
        moment = fires.get_next_fire_time(moment, moment + timedelta(seconds=1))
    return found
