"""crontab(5) for APScheduler, whose own reader counts weekdays from Monday = 0 and wants day and weekday to hold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from hero_ray.core.errors import MissingExtraError

if TYPE_CHECKING:
    from apscheduler.triggers.base import BaseTrigger

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_NAMED = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_FIELDS: Sequence[tuple[str, int, int, Sequence[str]]] = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("weekday", 0, 7, _WEEKDAYS),
)
_ITEM = re.compile(r"(?:(?P<all>\*)|(?P<first>[0-9a-z]+)(?:-(?P<last>[0-9a-z]+))?)(?:/(?P<step>[0-9]+))?")
_FAR = datetime(2000, 1, 1, tzinfo=UTC)


def trigger(line: str) -> BaseTrigger:
    """A crontab line in UTC, so that no summer time skips or repeats a night.

    Weekdays count from Sunday = 0, 7 is Sunday too. Where day of month and weekday are both given, either is enough;
    a field that begins with `*` is not "given" in this sense, and then both must hold, as in Vixie's cron.

    Raises:
        ValueError: not a crontab line, or one that never fires; says which field.
        MissingExtraError: APScheduler is not installed.
    """
    try:
        from apscheduler.triggers.combining import OrTrigger
        from apscheduler.triggers.cron import CronTrigger
    except ImportError:
        raise MissingExtraError("apscheduler", "schedule") from None

    words = line.lower().split()
    if len(words) == 1 and words[0].startswith("@"):
        if words[0] not in _NAMED:
            raise ValueError(f"{words[0]} is none of {', '.join(_NAMED)}")
        words = _NAMED[words[0]].split()
    if len(words) != len(_FIELDS):
        raise ValueError(f"{len(words)} fields, expected 5: minute, hour, day of month, month, weekday")
    numbers = [_numbers(word, *field) for word, field in zip(words, _FIELDS, strict=True)]
    minute, hour, day, month = (",".join(map(str, found)) for found in numbers[:4])
    weekday = ",".join(_WEEKDAYS[number] for number in sorted({number % 7 for number in numbers[4]}))

    def made(**days: str) -> BaseTrigger:
        return CronTrigger(minute=minute, hour=hour, month=month, timezone=UTC, **days)

    if words[2].startswith("*") or words[4].startswith("*"):
        fires = made(day=day, day_of_week=weekday)
    else:
        fires = OrTrigger([made(day=day), made(day_of_week=weekday)])
    if fires.get_next_fire_time(None, _FAR) is None:
        raise ValueError("such a day never comes")
    return fires


def _numbers(word: str, field: str, low: int, high: int, names: Sequence[str]) -> list[int]:
    """The numbers a field stands for; raises ValueError."""
    found: set[int] = set()
    for item in word.split(","):
        match = _ITEM.fullmatch(item)
        if match is None:
            raise ValueError(f"{field} {item!r} is no number, range or *")
        step = int(match["step"] or 1)
        first = low if match["all"] else _number(match["first"], low, names)
        last = first
        if match["last"]:
            last = _number(match["last"], low, names)
            if match["last"] == "sun" and last < first:  # fri-sun; a number would be written 5-7
                last = 7
        elif match["all"] or match["step"]:
            last = high
        if step == 0:
            raise ValueError(f"{field} {item!r} has the step 0")
        if not low <= first <= last <= high:
            raise ValueError(f"{field} {item!r} is not within {low}-{high}, from low to high")
        found.update(range(first, last + 1, step))
    return sorted(found)


def _number(text: str, low: int, names: Sequence[str]) -> int:
    """A number, or a name's; -1 for what is neither."""
    if text in names:
        return names.index(text) + low
    return int(text) if text.isdigit() else -1
