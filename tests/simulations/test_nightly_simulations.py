"""How often the guard cries wolf, and how surely it wakes: simulated nights, the repetition included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from hero_ray.nightly.guard import judge
from hero_ray.nightly.records import GuardSettings, Night, Suspicion
from tests.nights import Panel, lower, only, slower

SETTINGS = GuardSettings()
WORST = "hero 0.2 synth-digits"
pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("panel", "times"),
    [
        (Panel(questions=200), 400),
        (Panel(questions=200, flicker=0.0, noise=0.005, shared=0.0), 200),
        (Panel(questions=200, flicker=0.05, noise=0.08, shared=0.05, failing=0.002), 400),
    ],
    ids=["usual", "deterministic", "noisy"],
)
def test_false_alarms_stay_below_five_per_cent_of_nights(panel: Panel, times: int) -> None:
    """1,000 histories of 14 nights and one more, none of which changed anything."""
    alarms = suspected = 0
    for number in range(times):
        simulated = replace(panel, seed=number)
        rng, base = np.random.default_rng(10_000 + number), simulated.base()
        past = simulated.history(rng, base)

        def rerun(findings: Sequence[Suspicion], panel=simulated, rng=rng, base=base) -> Night:  # type: ignore[no-untyped-def]
            return only(panel.night(rng, base), findings)

        verdict = judge("2026-01-15", simulated.night(rng, base), past, SETTINGS, rerun)
        alarms += verdict.state == "regression"
        suspected += bool(verdict.alarms or verdict.silenced)
    print(f"{alarms} alarms, {suspected} nights with a repetition, of {times}")
    assert alarms <= 0.05 * times
    assert suspected <= 2 * SETTINGS.suspicion * times


@pytest.mark.parametrize("plant", ["drop", "slowdown"])
def test_a_planted_change_is_caught_the_same_night_with_its_cell(plant: str) -> None:
    """Two points lost in one cell of 21, or one of eight timed pairs 15 % slower."""
    caught = 0
    for seed in range(50):
        panel = Panel(seed=seed)
        rng, base = np.random.default_rng(seed), panel.base()
        past = panel.history(rng, base)

        def bad(panel=panel, rng=rng, base=base) -> Night:  # type: ignore[no-untyped-def]
            night = panel.night(rng, base)
            return lower(night, WORST, 2.0) if plant == "drop" else slower(night, "hero 0.2", 1.15)

        verdict = judge("2026-01-15", bad(), past, SETTINGS, lambda found, bad=bad: only(bad(), found))
        wanted = {("quality", WORST)} if plant == "drop" else {("speed", "hero 0.2")}
        caught += wanted <= {(f.kind, f.label) for f in verdict.alarms}
    print(f"{plant}: caught on {caught} of 50 nights")
    assert caught >= 45
