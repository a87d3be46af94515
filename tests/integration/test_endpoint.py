"""A server on loopback as a model: our own service for the answers, a scripted one for what servers do wrong."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hero_ray.core.config import build
from hero_ray.core.errors import ConfigError, EndpointError
from hero_ray.engine.endpoint import ALLOWED, TOKEN, Endpoint, check_allowed
from hero_ray.pipeline.endpoint_speeds import certificate as certificate_of
from hero_ray.pipeline.endpoint_speeds import endpoint_speeds
from hero_ray.pipeline.facts import Plan, make_plan
from hero_ray.pipeline.forecast import describe_plan
from hero_ray.pipeline.model_turns import model_args
from hero_ray.pipeline.verify import verify
from hero_ray.store import figures, open_store
from hero_ray.store.verifications import whole_answers
from tests import machine
from tests.answered import answered, small_sweep
from tests.local_serve import Local, Noted

SOURCE = {"num_images": 3, "questions_per_image": 2}
PICTURE = Image.new("RGB", (8, 8), "red")


class Scripted(BaseHTTPRequestHandler):
    """Answers by the server's script: status codes, redirects, or a stream that is whole or cut."""

    def do_GET(self) -> None:
        self._json({"data": [{"id": "scripted-1"}]})

    def do_POST(self) -> None:
        server: Any = self.server
        server.asked.append((dict(self.headers), json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
        server.at.append(time.monotonic())
        step = server.script.pop(0) if server.script else "whole"
        if isinstance(step, int):
            self.send_response(step)
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")
            self.send_header("Retry-After", "0.01")
            self.end_headers()
            self.wfile.write(b'{"error": {"message": "not now"}}')
        elif step == "json":
            message = {"choices": [{"message": {"content": " blue "}}], "usage": {"prompt_tokens": 9}}
            self._json(message)
        else:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            events = [{"choices": [{"delta": {"content": piece}}]} for piece in ("re", "d")]
            events.append({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2}})
            for event in events[: 1 if step == "cut" else 3]:
                self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
            if step != "cut":
                self.wfile.write(b"data: [DONE]\n\n")

    def _json(self, content: Any) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def scripted(*script: Any) -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Scripted)
    server.script, server.asked, server.at = list(script), [], []
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    server.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ALLOWED, "http://127.0.0.1:1/v1")
    monkeypatch.delenv(TOKEN, raising=False)


def endpoint(server: Any, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Endpoint:
    monkeypatch.setenv(ALLOWED, server.url)
    return Endpoint.of(f"endpoint:{server.url}", options)


def test_an_answer_comes_with_usage_and_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, "sesame")
    with scripted("whole", "json") as server:
        asked = endpoint(server, monkeypatch)
        reply = asked.ask(PICTURE, "What colour?", 5)
        assert (reply.text, reply.prompt_tokens, reply.completion_tokens, reply.attempts) == ("red", 9, 2, 1)
        assert 0 < reply.ttft_ms <= reply.total_ms
        assert asked.ask(PICTURE, "What colour?", 5).text == "blue"
        headers, body = server.asked[0]
    assert headers["Authorization"] == "Bearer sesame"
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("scripted-1", 0, 5)
    assert body["messages"][0]["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")


def test_what_passes_is_asked_again_and_what_does_not_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted(429, 503, "cut", "whole") as server:
        assert endpoint(server, monkeypatch).ask(PICTURE, "?", 5).attempts == 4
    with scripted(400, "whole") as server:
        with pytest.raises(EndpointError, match="answered 400: not now"):
            endpoint(server, monkeypatch).ask(PICTURE, "?", 5)
        assert len(server.asked) == 1
    with scripted(500, 500) as server, pytest.raises(EndpointError, match="answered 500"):
        endpoint(server, monkeypatch, attempts=2).ask(PICTURE, "?", 5)


def test_a_redirect_does_not_carry_the_token_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, "sesame")
    with scripted(307) as server, pytest.raises(EndpointError, match="answered 307"):
        endpoint(server, monkeypatch, attempts=1).ask(PICTURE, "?", 5)


def test_the_rate_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted() as server:
        asked = endpoint(server, monkeypatch, rate=20)
        for _ in range(4):
            asked.ask(PICTURE, "?", 5)
        assert server.at[-1] - server.at[0] >= 3 / 20 - 0.02


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:2/v1", "not among the endpoints"),
        ("http://127.0.0.1:1/v12", "not among the endpoints"),
        ("http://127.0.0.1:1/v1@evil.example", "not among the endpoints"),
        ("http://evil.example/http://127.0.0.1:1/v1", "not among the endpoints"),
        ("http://user:pass@127.0.0.1:1/v1", "holds no password"),
        ("http://127.0.0.1:1/v1?x=1", "holds no password"),
        ("file:///etc/passwd", "is no address"),
        ("127.0.0.1:1/v1", "is no address"),
    ],
    ids=["port", "beginning", "at", "path", "password", "query", "scheme", "bare"],
)
def test_only_listed_addresses_are_asked(url: str, said: str) -> None:
    check_allowed("http://127.0.0.1:1/v1")
    with pytest.raises(ConfigError, match=said):
        check_allowed(url)


def test_arguments_are_checked() -> None:
    with pytest.raises(ConfigError, match="no model argument 'rates'"):
        Endpoint.of("endpoint:http://127.0.0.1:1/v1", {"rates": 1})
    with pytest.raises(ConfigError, match="model arguments"):
        Endpoint.of("endpoint:http://127.0.0.1:1/v1", {"rate": "fast"})
    with pytest.raises(ConfigError, match="clients"):
        Endpoint.of("endpoint:http://127.0.0.1:1/v1", {"clients": 0})


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of our own service's routes on loopback, over one engine in this process."""
    uvicorn = pytest.importorskip("uvicorn")
    from hero_ray.results.database import open_results
    from hero_ray.serve.api import build_api
    from hero_ray.serve.desk import Desk
    from hero_ray.serve.engine import Engine
    from hero_ray.serve.settings import ServeSettings

    url = f"sqlite:///{tmp_path_factory.mktemp('serve') / 'results.db'}"
    open_results(url).close()
    port = machine.free_port()
    settings = ServeSettings(db=url, port=port)
    api = build_api(settings, Local(Engine({})), Desk(settings, Noted()))
    server = uvicorn.Server(uvicorn.Config(api, host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}/v1"
    server.should_exit = True
    thread.join(30)


def plan_of(url: str, monkeypatch: pytest.MonkeyPatch, **arguments: Any) -> Plan:
    monkeypatch.setenv(ALLOWED, url)
    document = {
        "name": "asked",
        "models": [f"endpoint:{url}"],
        "tasks": [{"name": "synth-digits", "source": SOURCE}],
        "methods": ["full"],
        "budgets": [0.2],
        "model_args": arguments,
    }
    return make_plan(build(document))


@pytest.mark.slow
def test_our_service_answers_a_sweep_as_our_engine_does(
    ours: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(ours, monkeypatch, clients=2)
    assert [(cell.method, cell.spec["model"]["revision"]) for cell in plan.cells] == [("full", "hero-tiny")]
    assert "(endpoint, n/a)" in describe_plan(plan, f"sqlite:///{tmp_path / 'none.db'}")
    with open_store(str(tmp_path / "r.db")) as store:
        answered(store, plan, "asked")
        endpoint_speeds(store, "asked", plan.cells, model_args(plan, plan.models[0].name))
        (cell,) = store.cells("asked")
        rows = store.read(whole_answers, "asked", cell.id)
        tasks = [{"name": "synth-digits", "source": SOURCE}]
        answered(store, small_sweep(tasks=tasks, methods=["full"]), "own")
        (own,) = store.cells("own")
        mine = {row.sample_id: row.stored["text"] for row in store.read(whole_answers, "own", own.id)}
        assert {row.sample_id: row.stored["text"] for row in rows} == mine
        unknown = ("keep_mask", "flops", "n_visual_llm", "kv_bytes")
        assert all(row.stored[name] is None for row in rows for name in unknown)
        usage = rows[0].stored["scores"]["endpoint"]
        assert usage["prompt_tokens"] > 0
        assert usage["ttft_ms"] > 0
        (profile,) = store.read(figures.profiles, ["asked"])
        assert profile["n"] == len(rows)
        assert profile["certificate"]["kind"] == "endpoint"
        verified = verify(store, "asked", 1.0)
        assert (verified.verdict, verified.recounted, verified.unasked) == ("not asked", 0, len(rows))


@pytest.mark.slow
def test_a_server_that_is_away_makes_failed_samples_that_a_resumed_run_asks_again(
    ours: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(ours, monkeypatch, attempts=1)
    with open_store(str(tmp_path / "r.db")) as store:
        with monkeypatch.context() as away:
            away.setattr(Endpoint, "_streamed", lambda *_: (_ for _ in ()).throw(OSError("connection refused")))
            answered(store, plan, "asked")
        assert {failure["error_type"] for failure in store.failures("asked")} == {"EndpointError"}
        answered(store, plan, "asked")
        assert store.totals("asked")[1] == 0


def test_the_engines_flag_makes_another_cell_and_speed_of_asking_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted() as server:
        plain = plan_of(server.url, monkeypatch).cells[0]
        assert plan_of(server.url, monkeypatch, clients=8, rate=2.0).cells[0].id == plain.id
        flagged = plan_of(server.url, monkeypatch, flag="--pruning-rate 0.8").cells[0]
        assert flagged.id != plain.id
        assert flagged.spec["model"]["options"] == {"flag": "--pruning-rate 0.8"}


def test_fields_in_the_servers_words_are_sent_and_name_the_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"add_special_tokens": True, "mm_processor_kwargs": {"max_dynamic_patch": 4}}
    with scripted() as server:
        plain = plan_of(server.url, monkeypatch).cells[0]
        cell = plan_of(server.url, monkeypatch, fields=said).cells[0]
        assert cell.id != plain.id
        assert cell.spec["model"]["options"] == {"fields": said}
        assert plan_of(server.url, monkeypatch, fields=json.dumps(said)).cells[0].id == cell.id
        endpoint(server, monkeypatch, fields=said).ask(PICTURE, "?", 5, {"pruning": None})
        body = server.asked[-1][1]
    assert {name: body[name] for name in said} == said
    assert (body["temperature"], body["max_tokens"]) == (0, 5)
    certificate = certificate_of(cell, {"fields": said})
    assert certificate["fields"] == said
    assert certificate["hash"] != certificate_of(cell, {})["hash"]
    for wrong, why in (('["a"]', "a JSON object"), ("{", "model arguments"), ({"temperature": 1}, "cannot say 'temp")):
        with pytest.raises(ConfigError, match=why):
            endpoint(server, monkeypatch, fields=wrong)
