"""What tests need of this machine: a free port, a Chromium."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable

CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_until_answers(
    address: str, process: subprocess.Popen[bytes], patience_s: float = 90, said: Callable[[], str] = str
) -> None:
    """Until a server of this machine answers.

    Args:
        said: what it wrote, for whoever reads why it did not.

    Raises:
        RuntimeError: its process ended, or patience did.
    """
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended ({process.returncode}): {said()}")
        try:
            opener.open(address, timeout=10).close()
            return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"nothing answers at {address} after {patience_s:.0f} s: {said()}")


def chromium() -> str | None:
    """Path of the system's Chromium, None where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)
