"""The CronJob's program against a small stand-in for the Kubernetes API, with the manifest that is shipped."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from hero_ray.nightly import kubernetes, notify
from hero_ray.nightly.kubernetes import Api, create
from tests import kuberay

MANIFEST = Path(__file__).resolve().parents[2] / "cluster" / "kubernetes" / "base" / "nightly.yaml"
TEMPLATE = next(d for d in yaml.safe_load_all(MANIFEST.read_text("utf-8")) if d["kind"] == "RayJob")
BASE = "/apis/ray.io/v1/namespaces/hero-ray/rayjobs"


class Server:
    """Keeps RayJobs by name, refuses a second one of a name, asks for the token."""

    def __init__(self) -> None:
        template = TEMPLATE
        self.jobs: dict[str, Any] = {"nightly-template": template | {"status": {"jobDeploymentStatus": "Suspended"}}}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self, code: int, body: Any) -> None:
                data = json.dumps(body).encode()
                self.send_response(code)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self) -> None:
                if self.headers["Authorization"] != "Bearer token":
                    self.answer(401, {})
                elif self.path == BASE:
                    self.answer(200, {"items": list(outer.jobs.values())})
                else:
                    self.answer(200, outer.jobs[self.path.removeprefix(f"{BASE}/")])

            def do_DELETE(self) -> None:
                name = self.path.removeprefix(f"{BASE}/")
                self.answer(200 if outer.jobs.pop(name, None) else 404, {})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                name = body["metadata"]["name"]
                known = name in outer.jobs
                outer.jobs.setdefault(name, body)
                self.answer(409 if known else 201, body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.api = Api(f"http://127.0.0.1:{self.server.server_port}", "hero-ray", "token")
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_a_night_is_created_once_from_the_template(server: Server) -> None:
    assert create(server.api, "nightly-template", "2026-01-31") == "nightly-2026-01-31 created"
    made = kuberay.RayJob(**server.jobs["nightly-2026-01-31"])
    assert made.spec.entrypoint == "hero-ray nightly --config configs/nightly.yaml --night 2026-01-31"
    assert made.spec.suspend is False
    assert made.metadata.labels["hero-ray/night"] == "2026-01-31"
    assert "already" in create(server.api, "nightly-template", "2026-01-31")
    assert len(server.jobs) == 2


def test_a_predecessor_at_work_leaves_the_night_out(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(notify, "trouble", told.append)
    create(server.api, "nightly-template", "2026-01-30")
    server.jobs["nightly-2026-01-30"]["status"] = {"jobDeploymentStatus": "Running"}
    assert "left out" in create(server.api, "nightly-template", "2026-01-31")
    assert told == ["night 2026-01-31 was left out: nightly-2026-01-30 is still at work"]
    server.jobs["nightly-2026-01-30"]["status"] = {"jobDeploymentStatus": "Failed"}
    assert create(server.api, "nightly-template", "2026-01-31") == "nightly-2026-01-31 created"


@pytest.mark.parametrize(
    ("state", "waits"),
    [
        *((state, True) for state in ("", "Initializing", "Running", "Suspending", "Suspended", "Retrying", "Waiting")),
        *((state, False) for state in ("Complete", "Failed", "ValidationFailed")),
    ],
)
def test_every_state_of_a_rayjob_is_at_work_or_ended(
    server: Server, monkeypatch: pytest.MonkeyPatch, state: str, waits: bool
) -> None:
    """All states that KubeRay 1.7 knows. A refused one (`ValidationFailed`) once left out every later night."""
    monkeypatch.setattr(notify, "trouble", lambda message: None)
    create(server.api, "nightly-template", "2026-01-30")
    server.jobs["nightly-2026-01-30"]["status"] = {"jobDeploymentStatus": state}
    assert ("left out" in create(server.api, "nightly-template", "2026-01-31")) == waits


def test_old_nights_are_tidied_away_and_nothing_else(server: Server) -> None:
    """KubeRay keeps a RayJob for ever; each look lists all of them."""
    kept = {"nightly-2026-01-01": "Complete", "nightly-2025-12-02": "Running", "sweep-abcde": "Complete"}
    old = {"nightly-2025-12-03": "Failed", "nightly-2025-12-31": "Complete", "nightly-2025-11-30": "ValidationFailed"}
    for name, state in {**kept, **old}.items():
        server.jobs[name] = {"metadata": {"name": name}, "status": {"jobDeploymentStatus": state}}
    assert sorted(kubernetes.tidy(server.api, "2026-01-01")) == sorted(old)
    assert server.jobs.keys() == {"nightly-template", *kept}


def test_a_night_tidies_after_itself(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kubernetes.Api, "in_cluster", lambda: server.api)
    for name in ("nightly-2025-12-31", "nightly-2026-01-01"):
        server.jobs[name] = {"metadata": {"name": name}, "status": {"jobDeploymentStatus": "Complete"}}
    assert kubernetes.main(["--night", "2026-01-31"]) == 0
    assert "nightly-2025-12-31 deleted: older than 30 days" in capsys.readouterr().out
    assert server.jobs.keys() == {"nightly-template", "nightly-2026-01-01", "nightly-2026-01-31"}


def test_a_refused_request_is_told_and_fails(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[str] = []
    monkeypatch.setattr(notify, "trouble", told.append)
    refused = Api(server.api.server, "hero-ray", "wrong")
    monkeypatch.setattr(kubernetes.Api, "in_cluster", lambda: refused)
    assert kubernetes.main(["--night", "2026-01-31"]) == 1
    assert told == ["night 2026-01-31: the RayJob could not be created: HTTP 401"]
    assert "HTTP 401" in capsys.readouterr().err
