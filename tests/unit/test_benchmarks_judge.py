"""The judge: what is sent, what is kept, and when it is refused."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from hero_ray.benchmarks import get
from hero_ray.benchmarks.judge import Judge, grade
from hero_ray.benchmarks.mmvet import judge_prompt
from hero_ray.core.errors import JudgeError
from hero_ray.core.types import Sample, Scored


class Endpoint(HTTPServer):
    """A real HTTP endpoint with scripted (status, reply) answers."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[tuple[int, str]] = []
        self.seen: list[tuple[dict[str, str], dict[str, Any]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((dict(self.headers), body))
        status, reply = self.server.script.pop(0)
        content = json.dumps({"choices": [{"message": {"content": reply}}]}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None: ...


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setattr("hero_ray.core.again.time.sleep", lambda seconds: None)
    server = Endpoint()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_the_question_is_the_tables_last_row() -> None:
    prompt = judge_prompt("What is x?", "-1<AND>-5", "x = -1")
    assert prompt.startswith("Compare the ground truth and prediction")
    assert prompt.endswith("\n\nWhat is x? | -1 <AND> -5 | x = -1 |")


def test_what_is_sent(endpoint: Endpoint) -> None:
    endpoint.script = [(200, "0.5")]
    assert Judge(endpoint.url, "judge-1", key="secret").grade("the prompt").score == 0.5
    headers, body = endpoint.seen[0]
    assert headers["Authorization"] == "Bearer secret"
    assert body == {
        "model": "judge-1",
        "messages": [{"role": "user", "content": "the prompt"}],
        "temperature": 0.0,
        "max_tokens": 128,
    }


def test_unreadable_replies_raise_the_temperature(endpoint: Endpoint) -> None:
    endpoint.script = [(200, "good"), (200, "spent"), (200, "0.3 I think")]
    verdict = Judge(endpoint.url, "judge-1").grade("p")
    assert (verdict.score, verdict.calls) == (0.3, 3)
    assert [body["temperature"] for _, body in endpoint.seen] == [0.0, 0.5, 0.5]


def test_a_busy_endpoint_is_asked_again(endpoint: Endpoint) -> None:
    endpoint.script = [(429, ""), (503, ""), (200, "1.0")]
    assert Judge(endpoint.url, "judge-1").grade("p").score == 1.0


@pytest.mark.parametrize(("script", "calls"), [([(401, "")], 1), ([(500, "")] * 3, 3)])
def test_a_closed_endpoint_is_an_error(endpoint: Endpoint, script: list[tuple[int, str]], calls: int) -> None:
    endpoint.script = list(script)
    with pytest.raises(JudgeError, match="cannot be asked"):
        Judge(endpoint.url, "judge-1", key="secret").grade("p")
    assert len(endpoint.seen) == calls


def test_errors_do_not_show_the_key(endpoint: Endpoint) -> None:
    endpoint.script = [(401, "")]
    with pytest.raises(JudgeError) as caught:
        Judge(endpoint.url, "judge-1", key="secret").grade("p")
    assert "secret" not in str(caught.value)


def test_verdicts_are_kept_by_content(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.script = [(200, "0.4 because"), (200, "0.9")]
    first = Judge(endpoint.url, "judge-1", key="secret", cache=tmp_path).grade("p")
    assert Judge(endpoint.url, "judge-1", cache=tmp_path).grade("p") == first
    assert len(endpoint.seen) == 1
    assert Judge(endpoint.url, "judge-2", cache=tmp_path).grade("p").score == 0.9
    kept = [json.loads(path.read_text()) for path in tmp_path.rglob("*.json")]
    assert sorted(record["replies"][0] for record in kept) == ["0.4 because", "0.9"]
    assert "secret" not in json.dumps(kept)


def test_a_judge_that_never_stays_in_range_is_stopped() -> None:
    with pytest.raises(JudgeError, match=r"outside 0\.\.1, 5 times"):
        grade(lambda prompt, temperature: "7", "p")


@pytest.mark.parametrize("missing", ["HERO_RAY_JUDGE_URL", "HERO_RAY_JUDGE_MODEL"])
def test_refused_when_unset(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setenv("HERO_RAY_JUDGE_URL", "http://localhost:1/v1")
    monkeypatch.setenv("HERO_RAY_JUDGE_MODEL", "judge-1")
    monkeypatch.delenv(missing)
    with pytest.raises(JudgeError, match=f"{missing} is not set"):
        get("mmvet").require()  # type: ignore[attr-defined]


def test_only_http_addresses(tmp_path: Path) -> None:
    with pytest.raises(JudgeError, match="not an http"):
        Judge(f"file://{tmp_path}", "judge-1").grade("p")


def test_mmbench_asks_a_judge_about_what_it_cannot_match(
    endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HERO_RAY_JUDGE_URL", endpoint.url)
    monkeypatch.setenv("HERO_RAY_JUDGE_MODEL", "judge-1")
    monkeypatch.setenv("HERO_RAY_JUDGE_CACHE", str(tmp_path))
    endpoint.script = [(200, "B"), (200, "E")]
    benchmark = get("mmbench_en_dev", judge=True)
    references = {"answer": "B", "options": {"A": "cat", "B": "dog", "C": "nan", "D": "nan"}}
    assert benchmark.score("B. dog", references) == {"gpt_eval_score": 1.0, "letter": "B"}
    asked = benchmark.score("a puppy", references)
    assert asked == {"gpt_eval_score": 1.0, "letter": "B", "judge": "judge-1", "judge_replies": ["B"]}
    assert benchmark.score("a puppy", references) == asked
    assert benchmark.score("a spider", references)["letter"] is None
    assert len(endpoint.seen) == 2
    assert "Options: A. cat B. dog\nAnswer: a puppy" in endpoint.seen[0][1]["messages"][0]["content"]


def test_capabilities_overlap() -> None:
    def row(key: str, capability: str, score: float) -> Scored:
        return Scored(
            Sample("mmvet", key, "", "", key, None, "", {"capability": capability}), "", {"gpt_eval_score": score}
        )

    metrics = get("mmvet").aggregate([row("1", "rec,ocr", 1.0), row("2", "ocr", 0.5)])
    assert {metric.category: (metric.value, metric.n) for metric in metrics} == {
        "": (75.0, 2),
        "rec": (100.0, 1),
        "ocr": (75.0, 2),
    }
