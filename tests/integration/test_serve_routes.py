"""The HTTP routes over a real engine and a real database, without Ray."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from PIL import Image

from hero_ray import methods
from hero_ray.serve.desk import Desk
from hero_ray.serve.engine_types import ChatJob, ChatResult
from hero_ray.serve.problems import Problem, problem_from
from hero_ray.serve.schemas import PruningRequest
from hero_ray.serve.settings import ServeSettings
from hero_ray.store import open_store
from tests.local_serve import HERO, Build, Local, Noted, data_url, picture, question, refusal

if TYPE_CHECKING:
    from fastapi.testclient import TestClient


class Stuck(Local):
    """A model that never answers."""

    async def chat(self, model: str, job: ChatJob) -> ChatResult:
        await asyncio.sleep(60)
        raise AssertionError("unreachable")


def test_a_chat_answer_counts_what_was_kept(client: TestClient) -> None:
    full = client.post("/v1/chat/completions", json=question()).json()
    pruned = client.post("/v1/chat/completions", json=question(pruning=HERO)).json()
    assert full["choices"][0]["finish_reason"] in ("stop", "length")
    assert full["usage"]["visual_tokens"]["kept"] == full["usage"]["visual_tokens"]["full"]
    visual = pruned["usage"]["visual_tokens"]
    assert visual["selected"] < 0.25 * visual["full"]
    assert visual["kept"] >= visual["selected"]
    assert pruned["usage"]["prompt_tokens"] < full["usage"]["prompt_tokens"]


def test_a_stream_spells_the_same_answer(client: TestClient) -> None:
    whole = client.post("/v1/chat/completions", json=question(pruning=HERO)).json()
    body = question(pruning=HERO, stream=True, stream_options={"include_usage": True})
    lines = [line for line in client.post("/v1/chat/completions", json=body).text.split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    text = "".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"])
    assert text == whole["choices"][0]["message"]["content"]
    assert chunks[-1]["usage"] == whole["usage"]
    assert chunks[-2]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]


def test_a_stop_string_is_never_shown(client: TestClient) -> None:
    text = client.post("/v1/chat/completions", json=question()).json()["choices"][0]["message"]["content"]
    assert len(text) >= 2, text
    stop = text[1:]
    whole = client.post("/v1/chat/completions", json=question(stop=stop)).json()["choices"][0]
    assert whole["finish_reason"] == "stop"
    assert whole["message"]["content"] == text[:1].strip()
    streamed = client.post("/v1/chat/completions", json=question(stop=[stop], stream=True)).text
    chunks = [json.loads(line[6:]) for line in streamed.split("\n\n") if line and "[DONE]" not in line]
    shown = "".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"])
    assert shown == text[:1].strip()


def test_a_seed_repeats_a_draw(client: TestClient) -> None:
    body = question(temperature=1.5, seed=2**63 - 1)
    first, second = (client.post("/v1/chat/completions", json=body).json()["choices"] for _ in range(2))
    assert first == second


def test_a_stream_that_fails_at_once_has_a_status(client: TestClient) -> None:
    bad = question(data_url(b"not a picture"), stream=True)
    assert refusal(client.post("/v1/chat/completions", json=bad), 400)["param"] == "messages"


def test_explain_encodes_once_for_several_prunings(client: TestClient) -> None:
    prunings = [{"method": "full"}, HERO, {"method": "random", "tokens": 8}]
    body = {"model": "hero-tiny", "image": data_url(picture()), "question": "What color is it?", "pruning": prunings}
    made = client.post("/v1/explain", json=body | {"overlay": True, "max_tokens": 4}).json()
    assert made["encodes"] == 1
    full, hero, random = made["results"]
    assert hero["tokens"]["n_selected"] < full["tokens"]["n_selected"]
    assert random["tokens"]["n_selected"] == 8
    bits = [int(bit) for byte in base64.b64decode(hero["keep"]) for bit in f"{byte:08b}"]
    assert sum(bits) == sum(hero["kept_per_view"])
    png = base64.b64decode(hero["overlay"].partition(",")[2])
    with Image.open(io.BytesIO(png)) as overlay:
        assert overlay.format == "PNG"
    assert {"select", "generate"} <= set(hero["timings_ms"])


@pytest.fixture
def passes(backend: Local, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Views that went through the vision tower, one entry per pass."""
    made: list[int] = []
    run = backend.adapter._run_tower

    def counted(pixels: torch.Tensor, taken: frozenset[int]) -> dict[int, torch.Tensor]:
        made.append(pixels.shape[0])
        return run(pixels, taken)

    monkeypatch.setattr(backend.adapter, "_run_tower", counted)
    return made


def test_a_smaller_picture_never_pays_for_the_whole_one(client: TestClient, passes: list[int]) -> None:
    whole = client.post("/v1/chat/completions", json=question()).json()["usage"]["visual_tokens"]
    full = passes.pop()
    smaller = {"method": "downsample", "retention_ratio": 0.2}
    seen = client.post("/v1/chat/completions", json=question(pruning=smaller)).json()["usage"]["visual_tokens"]
    assert len(passes) == 1
    assert passes.pop() < full
    assert 0 < seen["kept"] == seen["full"] < 0.25 * whole["full"]
    body = {"model": "hero-tiny", "image": data_url(picture()), "question": "What color is it?", "pruning": [smaller]}
    made = client.post("/v1/explain", json=body).json()
    assert (made["encodes"], len(passes)) == (1, 1)
    both = client.post("/v1/explain", json=body | {"pruning": [smaller, {"method": "full"}]}).json()
    assert (both["encodes"], len(passes)) == (2, 3)
    assert both["results"][0] | {"timings_ms": {}} == made["results"][0] | {"timings_ms": {}}


BAD_BODIES = {
    "wrong type of max_tokens": ({"max_tokens": "8"}, "max_tokens"),
    "temperature as text": ({"temperature": "0.5"}, "temperature"),
    "nine answers": ({"n": 9}, "n"),
    "too many tokens": ({"max_tokens": 100_000}, "max_tokens"),
    "unknown method": ({"pruning": {"method": "nothing"}}, "method"),
    "unknown parameter": ({"pruning": HERO | {"beta": 3}}, "pruning"),
    "parameter of the wrong type": ({"pruning": HERO | {"alpha": "x"}}, "pruning"),
    "ratio above one": ({"pruning": {"method": "hero", "retention_ratio": 1.5}}, "pruning.retention_ratio"),
    "two budgets": ({"pruning": HERO | {"tokens": 5}}, "pruning"),
    "no messages": ({"messages": []}, "messages"),
    "no user": ({"messages": [{"role": "system", "content": "hi"}]}, "messages"),
}


@pytest.mark.parametrize(("change", "param"), BAD_BODIES.values(), ids=BAD_BODIES)
def test_what_is_wrong_is_named(client: TestClient, change: dict[str, Any], param: str) -> None:
    assert refusal(client.post("/v1/chat/completions", json=question(**change)), 400)["param"] == param


ODD = ("x", "", -1, 0, 1e308, 1e-300, 10**40, [], {}, True, "\x00", [1, "a"], {"a": [1]}, [[]], [0.5, 0.4, {}])


@pytest.mark.parametrize("method", methods.names())
def test_odd_parameters_of_a_method_are_the_callers_mistake(backend: Local, method: str) -> None:
    """Each parameter of each method with each odd value: an answer or a 400, never a 5xx."""
    for name in ("variant", *methods.create(method).parameters()):
        for odd in ODD:
            try:
                pruning = PruningRequest.model_validate({"method": method, "retention_ratio": 0.3, name: odd})
            except ValueError:
                continue  # which the route answers with 400
            outcome = backend.engine.answer(backend.adapter, [ChatJob("?", "?", picture(), pruning, 1)])[0]
            assert isinstance(outcome, ChatResult) or problem_from(outcome).status == 400, (name, odd, outcome)


def test_unknown_fields_are_ignored_and_unknown_models_are_not(client: TestClient) -> None:
    assert client.post("/v1/chat/completions", json=question(logit_bias={}, user="me")).status_code == 200
    error = refusal(client.post("/v1/chat/completions", json=question(model="../../etc/passwd")), 404)
    assert error["code"] == "model_not_found"


def test_a_stuck_model_gives_504(client_of: Build, backend: Local) -> None:
    stuck = Stuck.__new__(Stuck)
    client = client_of(stuck, limits={"request_seconds": 0.05})
    assert refusal(client.post("/v1/chat/completions", json=question()), 504)["code"] == "timeout"


def test_a_lost_replica_gives_503_not_504(client_of: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stuck, "lost", lambda self, within_s: within_s > 0)
    client = client_of(Stuck.__new__(Stuck), limits={"request_seconds": 0.05})
    answer = client.post("/v1/chat/completions", json=question())
    assert refusal(answer, 503)["code"] == "replica_lost"
    assert answer.headers["retry-after"] == "5"


def test_places_in_the_queue_come_back(client_of: Build) -> None:
    client = client_of(limits={"queued": 1})
    for body in (question(), question(stream=True), question(data_url(b"bad")), question(stream=True)):
        assert client.post("/v1/chat/completions", json=body).status_code in (200, 400)
    text = client.get("/metrics").text
    assert "hero_ray_requests_in_flight 1.0" in text  # this very request
    assert 'hero_ray_stage_seconds_count{stage="generate"} 1.0' in text


ROLES = [
    ("GET", "/healthz", {None, "read", "infer", "admin"}),
    ("GET", "/v1/models", {"read", "infer", "admin"}),
    ("GET", "/v1/published", {"read", "infer", "admin"}),
    ("GET", "/metrics", {"read", "infer", "admin"}),
    ("GET", "/openapi.json", {"read", "infer", "admin"}),
    ("POST", "/v1/chat/completions", {"infer", "admin"}),
    ("POST", "/v1/explain", {"infer", "admin"}),
    ("POST", "/v1/sweeps", {"admin"}),
    ("DELETE", "/v1/sweeps/x", {"admin"}),
]


@pytest.mark.parametrize(("method", "path", "allowed"), ROLES, ids=[f"{m} {p}" for m, p, _ in ROLES])
def test_roles(
    client_of: Build, monkeypatch: pytest.MonkeyPatch, method: str, path: str, allowed: set[str | None]
) -> None:
    monkeypatch.setenv("HERO_RAY_TOKENS", "read:read-secret,infer:infer-secret,admin:admin-secret")
    client = client_of()
    for role in (None, "read", "infer", "admin"):
        headers = {"authorization": f"Bearer {role}-secret"} if role else {}
        status = client.request(method, path, headers=headers, json={}).status_code
        assert (status in (401, 403)) == (role not in allowed), (role, status)
    assert client.get("/v1/models", headers={"authorization": "Bearer wrong-secret"}).status_code == 401
    assert client.get("/v1/models", headers={"authorization": "Basic read-secret"}).status_code == 401


def test_no_secret_is_logged(
    client_of: Build, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HERO_RAY_TOKENS", "read:read-secret")
    client_of().get("/v1/models?key=read-secret", headers={"authorization": "Bearer read-secret"})
    assert "read-secret" not in "".join(capfd.readouterr())


SWEEP = {"tasks": ["synth-exist"], "methods": ["hero"], "limit": 2}
ALIASES = "hero:alpha=[&a0 [x]" + "".join(f", &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 28)) + "]"
BAD_SWEEPS = {
    "another database": SWEEP | {"db": "sqlite:////etc/x.db"},
    "an output folder": SWEEP | {"output_path": "/etc"},
    "loader options": SWEEP | {"model_args": {"trust_remote_code": True}},
    "a file": SWEEP | {"tasks": ["file:/etc/passwd"]},
    "a folder": SWEEP | {"tasks": [{"name": "gqa", "source": {"folder": "/etc"}}]},
    "a path": SWEEP | {"tasks": ["../../etc/passwd"]},
    "a preset": SWEEP | {"methods": [{"preset": "/etc/x.yaml"}]},
    "a preset as text": SWEEP | {"methods": ["hero", "preset:/etc/x.yaml"]},
    "a preset in a line": SWEEP | {"methods": "full, preset:/etc/x.yaml"},
    "a preset by name": SWEEP | {"methods": ["hero", {"preset": "hero-paper"}]},
    "another model": SWEEP | {"models": ["/etc"]},
    "no such method": SWEEP | {"methods": ["nothing"]},
    "method parameters of a wrong kind": SWEEP | {"methods": [{"hero": 5}]},
    "method in broken YAML": SWEEP | {"methods": ["hero:alpha=["]},
    "unknown key": SWEEP | {"taskz": 1},
    "no tasks": {},
    "a ratio above one": SWEEP | {"budgets": [{"ratio": 7}]},
    "an empty budget": SWEEP | {"budgets": [{}]},
    "two budgets in one": SWEEP | {"budgets": [{"ratio": 0.2, "tokens": 3}]},
    "a budget of nothing": SWEEP | {"methods": [{"name": "hero", "budgets": [{"tokens": 0}]}]},
    "seeds without end": SWEEP | {"random_seeds": 1_000_000_000},
    "replicas without end": SWEEP | {"replicas": 1_000_000},
    "timing without end": SWEEP | {"profile": {"repeats": 1_000_000_000}},
    "pictures without end": SWEEP | {"profile": {"images": 1_000_000_000}},
    "patience without end": SWEEP | {"unit_timeout_s": 1e308},
    "cells without end": SWEEP | {"budgets": [{"tokens": each + 1} for each in range(5000)]},
    "nothing included": SWEEP | {"include": [{"task": "synth-digits"}]},
    "everything excluded": SWEEP | {"exclude": [{"method": ["hero", "full", "random", "spatial", "downsample"]}]},
    "an unknown key of include": SWEEP | {"include": [{"seed": 1}]},
    "an unknown flavour": SWEEP | {"tasks": [{"name": "synth-exist", "flavour": "nothing"}]},
    "aliases": SWEEP | {"methods": [ALIASES]},
    "too long": SWEEP | {"name": "x" * 200_000},
    "a name too long": SWEEP | {"name": "x" * 201},
    "more names than anyone reads": SWEEP | {"methods": "hero," * 30_000},
    "rows without end": SWEEP | {"limit": 10**30},
    "rows of a task without end": SWEEP | {"tasks": [{"name": "synth-exist", "limit": 10**30}]},
}


@pytest.mark.parametrize("config", BAD_SWEEPS.values(), ids=BAD_SWEEPS)
def test_sweeps_that_reach_too_far_are_refused(client: TestClient, config: dict[str, Any]) -> None:
    answer = client.post("/v1/sweeps", json={"config": config})
    assert "results.db" not in refusal(answer, 400)["message"]
    assert len(answer.content) < 4000


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("sqlite:////results/x.db", {"HERO_RAY_DB": "sqlite:////results/x.db"}),
        ("postgresql://u@h/hero", {"HERO_RAY_DB": "postgresql://u@h/hero"}),
        ("postgresql://u:top-secret@h/hero", {"HERO_RAY_DB_NAME": "hero"}),
        ("postgresql://u@h/hero?password=top-secret", {"HERO_RAY_DB_NAME": "hero"}),
    ],
)
def test_a_job_is_told_no_password(url: str, told: dict[str, str]) -> None:
    jobs = Noted()
    Desk(ServeSettings(db=url), jobs).submit(SWEEP)
    ((entrypoint, environment, _),) = jobs.submitted
    assert {name: value for name, value in environment.items() if name != "HERO_RAY_SWEEP"} == told
    assert "top-secret" not in entrypoint + json.dumps(environment)


@pytest.mark.parametrize("address", [None, "192.0.2.7:6380"])
def test_a_job_is_told_the_ray_of_its_service(url: str, address: str | None) -> None:
    """Ray itself tells a job of the cluster that was started last on the machine, whoever's it is."""
    jobs = Noted()
    made = Desk(ServeSettings(db=url, ray_address=address), jobs).submit(SWEEP)
    ((entrypoint, *_),) = jobs.submitted
    words = shlex.split(entrypoint)
    assert words[1:4] == ["-m", "hero_ray.sweep", "env:HERO_RAY_SWEEP"]
    assert words[4:] == ["--run-id", made["id"], *(["--address", address] if address else [])]


def test_a_sweep_is_known_before_its_first_row(client: TestClient) -> None:
    sweep_id = client.post("/v1/sweeps", json={"config": SWEEP}).json()["id"]
    assert client.get(f"/v1/sweeps/{sweep_id}").json() == {"id": sweep_id, "status": "submitted"}
    assert client.delete(f"/v1/sweeps/{sweep_id}").json()["status"] == "stopped"
    assert client.get(f"/v1/sweeps/{sweep_id}").json()["status"] == "stopped"
    refusal(client.get("/v1/sweeps/api-000000000000"), 404)


def test_a_sweep_that_failed_before_its_run_says_why(url: str) -> None:
    class Failed(Noted):
        said: str | None = "error: the sweep has no cells left"

        def status(self, job_id: str) -> str | None:
            return "failed"

        def complaint(self, job_id: str) -> str | None:
            return self.said

    jobs = Failed()
    desk = Desk(ServeSettings(db=url), jobs)
    found = {"id": "api-0123456789ab", "status": "failed", "error": "error: the sweep has no cells left"}
    assert desk.run("api-0123456789ab") == desk.cancel("api-0123456789ab") == found
    assert jobs.stopped == []
    jobs.said = None
    assert desk.run("api-0123456789ab")["error"] == "unknown; see the log of the job"


def test_so_many_sweeps_at_once(client_of: Build) -> None:
    client = client_of(limits={"sweeps": 2})
    ids = [client.post("/v1/sweeps", json={"config": SWEEP}).json()["id"] for _ in range(2)]
    answer = client.post("/v1/sweeps", json={"config": SWEEP})
    assert refusal(answer, 429)["code"] == "too_many_sweeps"
    assert answer.headers["retry-after"] == "60"
    client.delete(f"/v1/sweeps/{ids[0]}")
    assert client.post("/v1/sweeps", json={"config": SWEEP}).status_code == 202


def test_a_sweep_is_stopped_by_its_whole_id(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'own.db'}"
    with open_store(url) as store:
        store.create_run("somebody-elses", "x", {}, "x", {}, None, "manual")
        store.set_status("somebody-elses", "running")
    desk = Desk(ServeSettings(db=url), Noted())
    for name in ("latest", "somebody", "s"):
        with pytest.raises(Problem) as refused:
            desk.cancel(name)
        assert refused.value.status == 404
    assert desk.cancel("somebody-elses") == {"id": "somebody-elses", "status": "cancelling"}


def test_a_sweep_whose_driver_died_is_not_said_to_run(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'own.db'}"

    class Died(Noted):
        def status(self, job_id: str) -> str | None:
            return "failed"

    with open_store(url) as store:
        for run_id in ("api-0123456789ab", "somebody-elses"):
            store.create_run(run_id, "x", {}, run_id, {}, None, "manual")
            store.set_status(run_id, "running")
    made = ServeSettings(db=url)
    assert Desk(made, Died()).run("api-0123456789ab")["status"] == "interrupted"
    assert Desk(made, Died()).run("somebody-elses")["status"] == "running"
    assert Desk(made, Noted()).run("api-0123456789ab")["status"] == "running"


@pytest.mark.parametrize("name", ["..%2F..%2Fetc", "%00", "x" * 500, "'; drop table runs", "latest"])
def test_names_that_are_no_runs(client: TestClient, name: str) -> None:
    for path in (f"/v1/sweeps/{name}", f"/v1/cells?run={name}", f"/v1/frontier?run={name}"):
        refusal(client.get(path), 404)


def test_published_numbers_are_there(client: TestClient) -> None:
    assert len(client.get("/v1/published").json()["results"]) > 100


def test_without_a_database_reading_gives_503(client_of: Build, tmp_path: Path) -> None:
    client = client_of(db=f"sqlite:///{tmp_path / 'nothing.db'}")
    error = refusal(client.get("/v1/sweeps"), 503)
    assert str(tmp_path) not in error["message"]


def test_the_document_says_what_the_service_does(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    answers = document["paths"]["/v1/chat/completions"]["post"]["responses"]
    assert {"200", "400", "429", "503", "504"} <= set(answers)
    assert "422" not in json.dumps(sorted(answers))
    assert "text/event-stream" in answers["200"]["content"]


def test_batched_answers_are_those_of_single_requests(backend: Local) -> None:
    jobs = [
        ChatJob(text, text, picture((160, 120 + 20 * at)), PruningRequest(method=method, retention_ratio=ratio), 8)
        for at, (text, method, ratio) in enumerate(
            [
                ("What color is the circle?", "full", None),
                ("Is there a circle?", "hero", 0.2),
                ("How many circles are there?", "fastv", 0.5),
                ("What color is the circle?", "dart", None),
                ("Is there a square?", "hero", 0.4),
            ]
        )
    ]
    with torch.inference_mode():
        together = backend.engine.answer(backend.adapter, jobs)
        alone = [backend.engine.answer(backend.adapter, [job])[0] for job in jobs]
    assert [result.text for result in together] == [result.text for result in alone]  # type: ignore[union-attr]
    assert max(result.batch for result in together) > 1  # type: ignore[union-attr]
