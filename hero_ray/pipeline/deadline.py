"""The end of a process that hangs."""

from __future__ import annotations

import os
import threading

HUNG_EXIT_CODE = 86


class Deadline:
    """Ends the process when a unit hangs: a stuck kernel or read cannot be interrupted from Python.

    Ray restarts the actor and gives the unit again; the attempt counter decides when it is given up.
    """

    def __init__(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, os._exit, args=(HUNG_EXIT_CODE,))
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
