"""`sweep --until decided` and its earlier names, from the command line and from files to the plan's identity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hero_ray.cli import main, run
from hero_ray.core.config import SweepConfig, build
from hero_ray.core.errors import ConfigError
from hero_ray.core.plan import sweep_hash


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[SweepConfig]:
    """What `sweep` was asked to run, in place of a run."""
    found: list[SweepConfig] = []

    def note(config: SweepConfig, *_: Any, **__: Any) -> int:
        found.append(config)
        return 0

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "run_sweep", note)
    return found


def sweep(*options: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["sweep", "--tasks", "synth-exist", *options])
    return int(stop.value.code or 0)


@pytest.mark.parametrize(
    ("options", "until", "margin"),
    [
        ((), "all", 1.0),
        (("--until", "decided"), "decided", 1.0),
        (("--until", "decided", "--margin", "2.5"), "decided", 2.5),
        (("--until", "all"), "all", 1.0),
        (("--race", "margin=2"), "decided", 2.0),
        (("--race", "0.5"), "decided", 0.5),
        (("--set", "until=decided", "--set", "margin=3"), "decided", 3.0),
        (("--set", "race_margin=4"), "decided", 4.0),
    ],
)
def test_every_way_to_ask_for_an_early_end(
    asked: list[SweepConfig], options: tuple[str, ...], until: str, margin: float
) -> None:
    assert sweep(*options) == 0
    assert [(one.until, one.margin) for one in asked] == [(until, margin)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--until", "bored"), "`until`"),
        (("--until", "decided", "--margin", "0"), "`margin`"),
        (("--until", "decided", "--margin", "100"), "`margin`"),
        (("--race", "margin=much"), "`margin`"),
        (("--race", "budget=2"), "`margin`"),
    ],
)
def test_a_wrong_end_is_named(
    asked: list[SweepConfig], capsys: pytest.CaptureFixture[str], options: tuple[str, ...], message: str
) -> None:
    assert sweep(*options) == 2
    assert asked == []
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said


def test_options_come_before_the_file(asked: list[SweepConfig]) -> None:
    Path("s.yaml").write_text("tasks: [synth-exist]\nuntil: decided\nmargin: 2\n", encoding="utf-8")
    Path("old.yaml").write_text("tasks: [synth-exist]\nrace_margin: 2\n", encoding="utf-8")
    for file in ("s.yaml", "old.yaml"):
        assert sweep("--config", file) == 0
    assert sweep("--config", "s.yaml", "--margin", "5") == 0
    assert sweep("--config", "s.yaml", "--until", "all") == 0
    assert [(one.until, one.margin) for one in asked] == [
        ("decided", 2.0), ("decided", 2.0), ("decided", 5.0), ("all", 2.0),
    ]  # fmt: skip


def test_a_sweep_that_stops_early_is_another_sweep_by_its_margin_only_then() -> None:
    def identity(**document: object) -> str:
        return sweep_hash(build({"tasks": ["t"], **document}), [], {})

    assert identity() == identity(margin=2) == identity(until="all", margin=3)
    ways = [identity(), identity(until="decided"), identity(until="decided", margin=2)]
    assert len(set(ways)) == 3
    assert identity(race_margin=2) == ways[2]
    with pytest.raises(ConfigError, match="`until`"):
        build({"tasks": ["t"], "until": "bored"})
