"""Mixed load on the service and the dashboard: nothing unnamed fails, nothing grows, all that is accepted ends.

    python -m perf.soak [--minutes 30] [--visitors 20] [--kill-every 60] [--out perf/results/soak.json]

Starts `hero-ray serve` (two replicas, tokens on) and `hero-ray dashboard` as people start them, on loopback. Clients
chat, stream, explain, leave in the middle, send nonsense, start sweeps; visitors open pages; a replica is killed every
minute, always the younger one, so that the other shows what a long life does to its memory. Ends with 1 if a request
that was accepted was not answered, if a 5xx came that is no 503 with a name (`replica_lost`, `not_ready`), or if a
page failed. How memory is counted: `perf.soak_memory`.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from perf.report import keep, report
from perf.soak_clients import Clients, visit
from perf.soak_memory import Sample, growth, table, watch

PAGES = ("", "compare", "flips", "efficiency", "runs", "studies")
NAMED = ("replica_lost", "not_ready")
LIMITS = {"request_seconds": 120, "queued": 64}


class Programs:
    """The two programs, and their processes."""

    def __init__(self, folder: Path, token: str) -> None:
        from hero_ray.serve.settings import TOKENS_VARIABLE

        self.folder, self.port, self.pages = folder, _free_port(), _free_port()
        settings = {"replicas": 2, "cpus_per_replica": 0.2, "port": self.port, "limits": LIMITS}
        (folder / "serve.yaml").write_text(json.dumps(settings))
        database = ["--db", f"sqlite:///{folder / 'results.db'}"]
        environment = os.environ | {"OMP_NUM_THREADS": "1", TOKENS_VARIABLE: f"admin:{token}"}
        self.service = self._start("serve", ["serve", "serve.yaml", *database], environment)
        self.dashboard = self._start("dashboard", ["dashboard", "--port", str(self.pages), *database], dict(os.environ))

    def ready(self) -> None:
        """Wait for both."""
        self.wait(f"http://127.0.0.1:{self.port}/readyz")
        self.wait(f"http://127.0.0.1:{self.pages}/_stcore/health")

    def _start(self, name: str, words: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("wb") as log:
            command = [sys.executable, "-m", "hero_ray", *words]
            return subprocess.Popen(command, cwd=self.folder, env=environment, stdout=log, stderr=log)

    def wait(self, url: str, seconds: float = 300) -> None:
        """Until a page answers 200."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with suppress(httpx.HTTPError):
                if httpx.get(url, timeout=10).status_code == 200:
                    return
            time.sleep(1)
        raise RuntimeError(f"{url} did not answer within {seconds:g} s; see {self.folder}")

    def family(self, root: subprocess.Popen[bytes]) -> dict[int, psutil.Process]:
        """A program and all it started."""
        try:
            own = psutil.Process(root.pid)
            return {each.pid: each for each in [own, *own.children(recursive=True)]}
        except psutil.Error:
            return {}

    def processes(self) -> dict[str, dict[int, psutil.Process]]:
        """Of both, as they are now."""
        return {"service": self.family(self.service), "dashboard": self.family(self.dashboard)}

    def youngest_replica(self) -> int | None:
        """Process id of the model replica that was started last, if there are two."""
        found = [each for each in self.family(self.service).values() if "ModelReplica" in _command(each)]
        return max(found, key=lambda each: each.create_time()).pid if len(found) > 1 else None

    def stop(self) -> None:
        """End both as Ctrl-C does, and what is left of their own processes after a minute."""
        left = {**self.family(self.dashboard), **self.family(self.service)}
        for root in (self.dashboard, self.service):
            root.send_signal(signal.SIGINT)
        for root in (self.dashboard, self.service):
            with suppress(subprocess.TimeoutExpired):
                root.wait(60)
        for each in left.values():
            with suppress(psutil.Error):
                each.kill()


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _free_port() -> int:
    import socket

    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


async def every(seconds: float, until: float, act: Callable[[], Awaitable[None]]) -> None:
    """Do something again and again."""
    while time.monotonic() < until:
        await act()
        await asyncio.sleep(seconds)


async def kill_replicas(programs: Programs, seconds: float, until: float, seen: Counter[str]) -> None:
    """One replica every `seconds`, none in the last half minute."""
    await asyncio.sleep(seconds / 2)
    while time.monotonic() < until - 30:
        with suppress(ProcessLookupError, psutil.Error):
            if (found := await asyncio.to_thread(programs.youngest_replica)) is not None:
                os.kill(found, signal.SIGKILL)
                seen["replicas killed"] += 1
        await asyncio.sleep(seconds)


async def soak(programs: Programs, token: str, minutes: float, visitors: int, kill_every: float) -> dict[str, Any]:
    """Everything at once; returns the figures."""
    until, seen = time.monotonic() + 60 * minutes, Counter[str]()
    samples: list[Sample] = []
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{programs.port}", headers={"authorization": f"Bearer {token}"}, timeout=180,
        limits=httpx.Limits(max_connections=100),
    ) as http:  # fmt: skip
        clients = Clients(http, seen)
        kinds = [*[clients.chat] * 3, *[clients.stream] * 2, clients.explain, clients.leave, clients.nonsense]
        work = [every(0.2, until, kind) for kind in kinds] + [every(20, until, clients.sweep)]
        work += [kill_replicas(programs, kill_every, until, seen), watch(programs, until, samples)]
        pages = itertools.cycle(PAGES)
        address = f"ws://127.0.0.1:{programs.pages}/_stcore/stream"
        for _ in range(visitors):
            work.append(every(5, until, lambda: visit(address, next(pages), seen)))
        await asyncio.gather(*work)
    bad = {name: count for name, count in seen.items() if _is_fault(name)}
    memory = growth(samples)
    return {"minutes": minutes, "visitors": visitors, "memory": memory, "seen": dict(sorted(seen.items())), "bad": bad}


def _is_fault(outcome: str) -> bool:
    """`KIND STATUS CODE` of what should not have been."""
    words = outcome.split()
    if "unanswered" in words or "failed" in words:
        return True
    status = next((word for word in words if word.isdigit()), "200")
    return status.startswith("5") and not (status == "503" and words[-1] in NAMED)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--visitors", type=int, default=20)
    parser.add_argument("--kill-every", type=float, default=60.0)
    parser.add_argument("--out", type=Path, default=Path("perf/results/soak.json"))
    arguments = parser.parse_args()
    token = secrets.token_hex(16)
    with tempfile.TemporaryDirectory() as folder:
        programs = Programs(Path(folder), token)
        try:
            programs.ready()
            work = soak(programs, token, arguments.minutes, arguments.visitors, arguments.kill_every)
            figures = asyncio.run(work)
        finally:
            programs.stop()
    keep(arguments.out, "soak", figures)
    for name, count in figures["seen"].items():
        print(f"{count:8}  {name}")
    print("\n".join(table(figures["memory"])))
    report("soak", figures)
    return 1 if figures["bad"] else 0


if __name__ == "__main__":
    sys.exit(main())
