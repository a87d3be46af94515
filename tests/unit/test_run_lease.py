"""A driver that lost its run stops, and one whose database was away for a while goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hero_ray.core.errors import RunLockedError, StoreError
from hero_ray.pipeline import lease as claims
from hero_ray.store import Store, open_store


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(claims, "LEASE_S", 0.3)
    opened = open_store(f"sqlite:///{tmp_path / 'x.db'}")
    opened.create_run("r", "s", {}, "h")
    return opened


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_lost_claim_ends_the_work(store: Store) -> None:
    with claims.lease(store, "r") as lost:
        with store.engine.begin() as connection:
            connection.exec_driver_sql("update leases set holder = 'another'")
        until(lost.is_set)
        with pytest.raises(RunLockedError, match="taken over by another driver"):
            claims.still_ours("r", lost)
    with pytest.raises(RunLockedError, match="held by another"):
        store.acquire_lease("r", "third", 60)


def test_a_database_that_is_away_for_a_while_ends_no_heartbeat(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    beats: list[bool] = []
    heartbeat = store.heartbeat

    def shaky(*arguments: object) -> None:
        beats.append(len(beats) < 2)
        if beats[-1]:
            raise StoreError("away")
        heartbeat(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "heartbeat", shaky)
    with claims.lease(store, "r") as lost:
        until(lambda: beats.count(False) >= 2)
        assert not lost.is_set()


def test_equal_hosts_and_processes_are_still_two_holders(store: Store) -> None:
    with claims.lease(store, "r"), pytest.raises(RunLockedError), claims.lease(store, "r"):
        raise AssertionError("one run, two holders")
    assert threading.active_count() < 50
