"""A crontab line means what crontab(5) says it means."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hero_ray.nightly import schedule
from hero_ray.nightly.crontab import trigger
from hero_ray.nightly.decide import due, missed

MONDAY = datetime(2026, 6, 1, tzinfo=UTC)  # 1 June 2026 is a Monday
YEAR_END = datetime(2026, 12, 15, tzinfo=UTC)
DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


def fires(line: str, days: int = 30, start: datetime = MONDAY) -> list[datetime]:
    """Every moment at which a line fires within `days` days."""
    found: list[datetime] = []
    trig, moment = trigger(line), start
    while (moment := trig.get_next_fire_time(found[-1] if found else None, moment)) and moment < start + timedelta(
        days
    ):
        found.append(moment)
        moment += timedelta(seconds=1)
    return found


def weekdays(line: str) -> list[str]:
    return sorted({f"{moment:%a}".lower() for moment in fires(line)}, key=DAYS.index)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("0 2 * * 1-5", "mon tue wed thu fri"),
        ("0 2 * * 0", "sun"),
        ("0 2 * * 7", "sun"),
        ("0 2 * * 1", "mon"),
        ("0 2 * * 6,0", "sat sun"),
        ("0 2 * * 5-7", "fri sat sun"),
        ("0 2 * * 0-7", "mon tue wed thu fri sat sun"),
        ("0 2 * * */2", "tue thu sat sun"),
        ("0 2 * * 1-5/2", "mon wed fri"),
        ("0 2 * * mon-fri", "mon tue wed thu fri"),
        ("0 2 * * FRI-Sun", "fri sat sun"),
        ("0 2 * * Sun-tue", "mon tue sun"),
        ("0 2 * * Mon,3", "mon wed"),
    ],
)
def test_weekdays_count_from_sunday(line: str, expected: str) -> None:
    assert weekdays(line) == expected.split()


@pytest.mark.parametrize(
    ("line", "days"),
    [
        ("0 2 13 * 5", {5, 12, 13, 19, 26}),  # both restricted: either is enough
        ("0 2 1,15 * 1", {1, 8, 15, 22, 29}),
        ("0 2 10 * *", {10}),
        ("0 2 * * 5", {5, 12, 19, 26}),
        ("0 2 */2 * 1", {1, 15, 29}),  # a day that begins with * restricts nothing to join: both must hold
        ("0 2 1-7 * */7", {1, 2, 3, 4, 5, 6, 7} & {7}),
    ],
)
def test_day_of_month_and_weekday_are_joined_as_crontab_does(line: str, days: set[int]) -> None:
    assert {moment.day for moment in fires(line)} == days


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@hourly", "0 * * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        ("@Annually", "0 0 1 1 *"),
    ],
)
def test_names_stand_for_lines(name: str, line: str) -> None:
    assert fires(name, 32, YEAR_END) == fires(line, 32, YEAR_END) != []


def test_minutes_hours_and_months() -> None:
    assert [f"{moment:%H:%M}" for moment in fires("*/40 1-5/4 1 * *")] == ["01:00", "01:40", "05:00", "05:40"]
    assert [f"{moment:%H:%M}" for moment in fires("10/25 3 1 jun *")] == ["03:10", "03:35"]
    assert fires("0 2 * JUL-aug *") == []
    assert [f"{moment:%M}" for moment in fires("*/90 3 1 * *")] == ["00"]  # a step beyond the range: its first value


def test_due_and_missed_know_both_days() -> None:
    assert due("0 2 13 * 5", datetime(2026, 6, 14, tzinfo=UTC)) == datetime(2026, 6, 13, 2, tzinfo=UTC)
    assert due("0 2 13 * 5", datetime(2026, 6, 13, tzinfo=UTC)) == datetime(2026, 6, 12, 2, tzinfo=UTC)
    assert missed("0 2 13 * 5", ["2026-06-04"], datetime(2026, 6, 19, 2, tzinfo=UTC)) == [
        "2026-06-05", "2026-06-12", "2026-06-13"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("every night", "2 fields"),
        ("0 2 * *", "4 fields"),
        ("0 2 * * * *", "6 fields"),
        ("", "0 fields"),
        ("60 2 * * *", "minute '60'"),
        ("0 24 * * *", "hour '24'"),
        ("0 2 0 * *", "day of month '0'"),
        ("0 2 * 13 *", "month '13'"),
        ("0 2 * * 8", "weekday '8'"),
        ("0 2 * * fri-mon", "weekday 'fri-mon'"),
        ("0 2 * * funday", "weekday 'funday'"),
        ("0 2 last * *", "day of month 'last'"),
        ("0 2 * * ?", "weekday"),
        ("*/0 2 * * *", "step"),
        ("1,,2 2 * * *", "minute"),
        ("-5 2 * * *", "minute"),
        ("٣ 2 * * *", "minute"),
        ("@reboot", "@reboot"),
        ("@often", "@often"),
        ("0 2 31 2 *", "never"),
    ],
)
def test_what_is_no_crontab_line_is_said(line: str, says: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValueError, match=says.replace("?", r"\?")):
        trigger(line)
    assert schedule.main(["--cron", line]) == 2
    assert "0 2 * * *" in caplog.text


@settings(max_examples=60, deadline=None)
@given(st.sets(st.integers(0, 7), min_size=1), st.sets(st.integers(1, 28), min_size=1))
def test_any_weekdays_and_days(numbers: set[int], days: set[int]) -> None:
    asked = {number % 7 for number in numbers}
    text, other = ",".join(map(str, numbers)), ",".join(map(str, days))
    every = [MONDAY + timedelta(days=n, hours=2) for n in range(30)]
    assert fires(f"0 2 * * {text}") == [day for day in every if day.isoweekday() % 7 in asked]
    assert fires(f"0 2 {other} * {text}") == [
        day for day in every if day.isoweekday() % 7 in asked or day.day in days
    ]  # fmt: skip
