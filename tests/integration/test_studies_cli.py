"""`hero-ray study` from the command to files and database, on the embedded model and a judge that runs here."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from dashboard import study_figures
from hero_ray import cli
from hero_ray.benchmarks import judge
from hero_ray.core.errors import JudgeError
from hero_ray.models import load
from hero_ray.store import open_store, studies
from hero_ray.studies import caption_judge, case_study
from hero_ray.studies.records import StudyRequest


@pytest.fixture(scope="module")
def model() -> Any:
    torch.set_num_threads(1)
    return load("hero-tiny")


def invoke(*arguments: str) -> Any:
    cli.load_verbs()
    return CliRunner().invoke(cli.app, ["study", *arguments], catch_exceptions=False)


def test_a_study_leaves_figures_files_and_a_row(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'results.db'}"
    done = invoke("layer-similarity", "--limit", "2", "--out", str(tmp_path / "out"), "--db", url)
    assert done.exit_code == 0
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["findings"]["n"] == 2
    read = study_figures.read_study(study_figures.read_file(tmp_path / "out" / "layer-similarity.json") or {})
    assert read is not None
    assert len(read["charts"][0][1].data[0].z) == 12
    with open_store(url) as store, store.engine.connect() as connection:
        (row,) = studies.found(connection, "layer-similarity")
        assert studies.found(connection, "layer-iou") == []
    assert (row["id"], row["model"]) == (last["id"], "hero-tiny")
    assert row["result"]["findings"] == last["findings"]
    assert row["request"]["limit"] == 2


def test_without_a_name_the_studies_are_listed() -> None:
    listed = invoke().stdout
    assert "caption-judge" in listed
    assert "verify-paper" in listed


def test_a_table_is_set_beside_a_run(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'results.db'}"
    with open_store(url) as store:
        store.create_run("r1", "sweep", {"budget_base": "grid"}, "hash")
    done = invoke("verify-paper", "hero-viii", "--db", url)
    assert done.exit_code == 0
    assert json.loads(done.stdout.splitlines()[-1])["verdicts"] == {
        "not comparable": 9, "reproduced": 7, "differs": 1
    }  # fmt: skip
    assert "Eq. 7 gives 14.95" in done.stdout


def mark(caption: str) -> int:
    return 1 + len(caption) % 5


class Endpoint(HTTPServer):
    """A judge whose mark depends on the caption and nothing else."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies: list[dict[str, Any]] = []


class Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append(body)
        caption = body["messages"][0]["content"][0]["text"].rpartition("Caption: ")[2]
        reply = json.dumps(dict.fromkeys(caption_judge.RATINGS, mark(caption)))
        answer = json.dumps({"choices": [{"message": {"content": reply}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments: Any) -> None:
        """Quiet."""


@pytest.fixture
def endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    server = Endpoint()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    monkeypatch.setenv(judge.URL, f"http://127.0.0.1:{server.server_port}/v1")
    monkeypatch.setenv(judge.MODEL, "stub-1")
    monkeypatch.setenv(judge.CACHE, str(tmp_path / "cache"))
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_captions_are_rated_with_the_picture_in_sight(endpoint: Endpoint, model: Any) -> None:
    found = caption_judge.run(StudyRequest(model, ("synth-scene",), limit=1))
    captions = {row[1]: row[2] for row in found.tables[1].rows}
    assert list(captions) == ["primary", "shortcut", "random"]
    for role, _, value, *_ in found.tables[0].rows:
        assert value == mark(captions[role] or "(empty)")
    text, picture = endpoint.bodies[0]["messages"][0]["content"]
    assert text["text"].endswith(f"Caption: {captions['primary'] or '(empty)'}")
    assert picture["image_url"]["url"].startswith("data:image/png;base64,")
    asked = len(endpoint.bodies)
    caption_judge.run(StudyRequest(model, ("synth-scene",), limit=1))
    assert len(endpoint.bodies) == asked  # the second time every reply comes from the cache


def test_without_a_judge_nothing_is_captioned(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(judge.URL, raising=False)
    with pytest.raises(JudgeError, match=judge.URL):
        caption_judge.run(StudyRequest(model, ("synth-scene",), limit=1))


def test_a_case_shows_every_method_with_its_answer(model: Any) -> None:
    found = case_study.run(StudyRequest(model, ("synth-words",), limit=1, methods=("hero", "random", "fastv")))
    assert found.findings["methods"] == ["hero", "random"]  # fastv keeps no tokens before the LLM
    assert [row[3] for row in found.tables[0].rows] == ["hero", "random"]
    (sheet,) = found.pictures.values()
    assert sheet.width > 2 * 250
