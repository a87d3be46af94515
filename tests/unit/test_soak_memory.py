"""The soak's slopes: a leak is seen through restarts, and what restarts is no leak."""

from __future__ import annotations

import pytest

from perf.soak_memory import EVERY_S, Sample, growth, kind, table

TIMES = [EVERY_S * step for step in range(360)]
"""Half an hour."""


def replicas(mib_per_minute: float, life_s: float = 300.0) -> list[Sample]:
    """One replica lives all the time, its neighbours so long; each loads 400 MiB in its first minute."""

    def at(age_s: float) -> float:
        return 300 + 400 * min(1.0, age_s / 60) + mib_per_minute * age_s / 60

    return [
        (when, {1: ("model replica", at(when)), 2 + int(when / life_s): ("model replica", at(when % life_s))})
        for when in TIMES
    ]


@pytest.mark.parametrize("leak", [0.0, 2.5, -1.0])
def test_a_slope_is_that_of_one_process_whoever_dies_beside_it(leak: float) -> None:
    row = growth(replicas(leak))["model replica"]
    assert row["mib_per_minute"] == pytest.approx(leak, abs=1e-9)
    assert (row["lived"], row["at_end"]) == (7, 2)
    assert row["longest_to_mib"] - row["longest_from_mib"] == pytest.approx(22.4 * leak, abs=abs(leak) + 1e-9)


def test_kinds_are_apart_and_a_worker_is_what_it_became() -> None:
    samples: list[Sample] = [
        (when, {1: ("other workers (Ray)" if when < 30 else "API ingress", 200.0), 2: ("raylet (Ray)", when / 60)})
        for when in TIMES
    ]
    samples[100] = (samples[100][0], samples[100][1] | {3: ("driver of a sweep", 150.0)})
    figures = growth(samples)
    assert set(figures) == {"API ingress", "raylet (Ray)", "driver of a sweep"}
    assert figures["API ingress"]["mib_per_minute"] == pytest.approx(0)
    assert figures["raylet (Ray)"]["mib_per_minute"] == pytest.approx(1)
    assert figures["driver of a sweep"]["mib_per_minute"] != figures["driver of a sweep"]["mib_per_minute"]  # no time
    assert len(table(figures)) == 4


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("ray::ServeReplica:hero-ray:ModelReplica", "model replica"),
        ("ray::ServeReplica:hero-ray:Ingress", "API ingress"),
        ("ray::ProxyActor", "HTTP proxy (Ray Serve)"),
        ("/x/ray/core/src/ray/raylet/raylet --python=/y/dashboard/agent.py", "raylet (Ray)"),
        ("/x/ray/core/src/ray/gcs/gcs_server --log_dir=/y", "control store (Ray)"),
        ("ray::JobSupervisor", "job supervisor (Ray)"),
        ("/x/python -m hero_ray.sweep env:HERO_RAY_SWEEP --run-id api-1", "driver of a sweep"),
        ("/x/python -m hero_ray serve serve.yaml", "hero-ray serve"),
        ("ray::IDLE", "other workers (Ray)"),
        ("sh", "other"),
    ],
)
def test_processes_are_known_by_their_commands(command: str, name: str) -> None:
    assert kind(command) == name
