"""Progress of a running sweep, read from SQL: bars in a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType

from hero_ray.core.errors import StoreError
from hero_ray.store import Store

TERMINAL_PERIOD_S = 0.5
LOG_PERIOD_S = 10.0


class Progress:
    """Polls the run's counts in a thread; Ray Data itself reports nothing finer than a block.

    Args:
        store: the results database.
        run_id: the run to follow.
        total: answers the run should end with.
        already: answers it had when this execution began (they do not count for the rate).
    """

    def __init__(self, store: Store, run_id: str, total: int, already: int) -> None:
        self._store, self._run_id, self._total, self._already = store, run_id, total, already
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="progress", daemon=True)
        self._started = time.monotonic()
        self._bar = sys.stderr.isatty()
        self._stage = "starting replicas"

    def stage(self, text: str) -> None:
        """Name what the sweep is doing now."""
        self._stage = text

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=5)
        if self._bar:
            sys.stderr.write("\n")

    def _follow(self) -> None:
        while not self._stop.wait(TERMINAL_PERIOD_S if self._bar else LOG_PERIOD_S):
            try:
                self._show(self._line())
            except StoreError:
                self._show("waiting for the database")

    def _show(self, line: str) -> None:
        sys.stderr.write(f"\r\x1b[2K{line}" if self._bar else f"{line}\n")
        sys.stderr.flush()

    def _line(self) -> str:
        counts = self._store.counts(self._run_id).values()
        done, failed = sum(c.done for c in counts), sum(c.failed for c in counts)
        ready = sum(c.done + c.failed >= c.expected for c in counts)
        finished, total = done + failed, sum(c.expected for c in counts) or self._total
        seconds = time.monotonic() - self._started
        rate = max(0, finished - self._already) / seconds
        left = f"{(total - finished) / rate:.0f} s left" if rate else self._stage
        if finished >= total:
            left = self._stage
        share = 100 * finished / max(1, total)
        failures = f", {failed} failed" if failed else ""
        return (
            f"{finished}/{total} answers ({share:.0f}%){failures}, {rate:.1f}/s, "
            f"{ready}/{len(counts)} cells complete, {left}"
        )
