"""One running service for all tests of a session: `hero-ray serve` in a process of its own, with a Ray of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.machine import free_port

SETTINGS = {"replicas": 2, "cpus_per_replica": 0.2, "batch_wait_s": 0.05, "limits": {"request_seconds": 60}}


class Service:
    """`hero-ray serve` in a process of its own."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.port, self.folder = free_port(), folder
        self.url = f"http://127.0.0.1:{self.port}"
        (folder / "serve.yaml").write_text(json.dumps(SETTINGS | {"port": self.port} | settings))
        environment = {key: value for key, value in os.environ.items() if key != "HERO_RAY_TOKENS"}
        self.taken = socket.socket()  # the port every Ray's agent wants, as if another Ray ran on this machine
        with contextlib.suppress(OSError):
            self.taken.bind(("0.0.0.0", 52365))
            self.taken.listen()
        self.log = (folder / "serve.log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hero_ray", "serve", "serve.yaml", "--db", f"sqlite:///{folder / 'results.db'}"],
            cwd=folder,
            env=environment | {"OMP_NUM_THREADS": "1"},
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )

    def wait(self, seconds: float = 240) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.process.poll() is None, (self.folder / "serve.log").read_text()[-3000:]
            try:
                if httpx.get(f"{self.url}/readyz", timeout=10).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(1)
        raise AssertionError("the service did not become ready: " + (self.folder / "serve.log").read_text()[-3000:])

    def replicas(self) -> list[psutil.Process]:
        found = []
        for process in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if "ModelReplica" in " ".join(process.cmdline()):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def stop(self) -> int:
        """End it as Ctrl-C does; its exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)

    def kill(self) -> None:
        """End it and its Ray at once."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
        self.process.kill()
        self.process.wait()
        self.log.close()
        self.taken.close()


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    made = Service(tmp_path_factory.mktemp("service"))
    try:
        made.wait()
        yield made
    finally:
        made.kill()
