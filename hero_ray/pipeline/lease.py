"""One driver works on a run at a time: it says so every third of a minute, and stops when another has taken over."""

from __future__ import annotations

import os
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from hero_ray.core.errors import RunLockedError, StoreError
from hero_ray.store import Store

LEASE_S = 60.0


def still_ours(run_id: str, lost: threading.Event) -> None:
    """Raises: RunLockedError: another driver has taken the run over; two would time on one machine."""
    if lost.is_set():
        raise RunLockedError(f"run {run_id} was taken over by another driver while this one was away; it goes on there")


@contextmanager
def lease(store: Store, run_id: str) -> Iterator[threading.Event]:
    """Hold the run while working on it; a second start is told who has it. The event is set once the claim is lost."""
    holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    store.acquire_lease(run_id, holder, LEASE_S)
    stop, lost = threading.Event(), threading.Event()

    def beat() -> None:
        while not stop.wait(LEASE_S / 3):
            try:
                store.heartbeat(run_id, holder, LEASE_S)
            except RunLockedError:
                lost.set()
                return
            except StoreError:
                continue  # the database is away; it may come back before the claim runs out

    thread = threading.Thread(target=beat, name="lease", daemon=True)
    thread.start()
    try:
        yield lost
    finally:
        stop.set()
        thread.join(timeout=5)
        store.release(run_id, holder)
