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
        self._bar = sys.stderr.isatty()
        self._stage, self._since = "starting replicas", time.monotonic()
        self._first: tuple[float, int] | None = None
        self._told: tuple[object, float, float] = (None, 0.0, 0.0)

    def stage(self, text: str) -> None:
        """Name what the sweep is doing now."""
        self._stage, self._since, self._first = text, time.monotonic(), None

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
                finished, line = self.line(time.monotonic())
            except StoreError:
                finished, line = -1, "waiting for the database"
            if self._bar or self.worth_telling((self._stage, finished), time.monotonic()):
                self._show(line)

    def _show(self, line: str) -> None:
        sys.stderr.write(f"\r\x1b[2K{line}" if self._bar else f"{line}\n")
        sys.stderr.flush()

    def worth_telling(self, state: object, now: float) -> bool:
        """Whether a log wants this line: something moved, or twice as long as before went by without."""
        held, said, gap = self._told
        if state != held:
            self._told = (state, now, 2 * LOG_PERIOD_S)
            return True
        if now - said < gap:
            return False
        self._told = (state, now, 2 * gap)
        return True

    def line(self, now: float) -> tuple[int, str]:
        """(answers there, what to say) at a moment of the monotonic clock, in seconds.

        The rate counts from the first answer on: what a replica takes to load would make it rise for minutes.
        """
        counts = self._store.counts(self._run_id).values()
        done, failed = sum(c.done for c in counts), sum(c.failed for c in counts)
        finished, total = done + failed, sum(c.expected for c in counts) or self._total
        failures = f", {failed} failed" if failed else ""
        share = f"{finished}/{total} answers ({100 * finished / max(1, total):.0f}%){failures}"
        waited = f"{self._stage}, {now - self._since:.0f} s"
        if finished >= total:
            return finished, f"{share}; {waited}"
        if finished <= self._already:
            there = f"; {share}" if finished else f" without an answer of {total} yet"
            return finished, waited + there
        self._first = self._first or (now, finished)
        ready = f"{sum(c.done + c.failed >= c.expected for c in counts)}/{len(counts)} cells complete"
        seconds, more = now - self._first[0], finished - self._first[1]
        if not more or seconds <= 0:
            return finished, f"{share}, {ready}, {self._stage}"
        rate = more / seconds
        return finished, f"{share}, {rate:.1f}/s, {ready}, {(total - finished) / rate:.0f} s left, {self._stage}"
