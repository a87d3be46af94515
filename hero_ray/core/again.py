"""A plain HTTP request, tried again: which answers are worth it, and how long to wait before it."""

from __future__ import annotations

import time
import urllib.error
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Again:
    """How often and when a request is tried again.

    Attributes:
        attempts: requests at most, the first among them.
        pause_s: before the second attempt; it doubles before each further one.
        passing: answers below 500 that a server may give otherwise a moment later; everything from 500 on may pass.
        longest_s: as long as this at most is waited where the server says how long (Retry-After, in seconds);
            0 does not look at what it says.
        lost: errors of a request that got no whole answer.
    """

    attempts: int
    pause_s: float
    passing: frozenset[int] = frozenset({408, 409, 425, 429})
    longest_s: float = 0.0
    lost: tuple[type[Exception], ...] = (OSError, ValueError, KeyError, TypeError, IndexError)

    def ask(self, call: Callable[[int], T]) -> T:
        """What `call`, told the number of its attempt from 1, returns at last.

        Raises:
            urllib.error.HTTPError: refused, or not answered otherwise by the last attempt.
            Exception: one of `lost`, by the last attempt.
        """
        for attempt in range(1, self.attempts + 1):
            told = None
            try:
                return call(attempt)
            except urllib.error.HTTPError as error:  # an OSError, but one that says why
                if attempt == self.attempts or not (error.code >= 500 or error.code in self.passing):
                    raise
                told = error.headers.get("Retry-After")
                error.close()
            except self.lost:
                if attempt == self.attempts:
                    raise
            time.sleep(self._pause(attempt, told))
        raise AssertionError("the last attempt returns or raises")

    def _pause(self, attempt: int, told: str | None) -> float:
        if self.longest_s and told and told.replace(".", "", 1).isdigit():
            return min(float(told), self.longest_s)
        return self.pause_s * 2 ** (attempt - 1)
