"""Small bodies cost little, one bad request harms no other, and an error nobody foresaw leaves a trace."""

from __future__ import annotations

import json
import time
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from hero_ray.serve import engine, problems
from hero_ray.serve.observe import access_logger
from hero_ray.serve.problems import problem_from
from hero_ray.serve.schemas import ChatRequest, ExplainRequest

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
EXPLAIN: dict[str, Any] = {"model": "m", "image": "data:,", "question": "q"}


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (ChatRequest, CHAT | {"stop": [0] * 1_000_000}),
        (ChatRequest, CHAT | {"stop": ["x"] * 1_000_000}),
        (ChatRequest, CHAT | {"messages": [0] * 1_000_000}),
        (ChatRequest, CHAT | {"messages": [{"role": "user", "content": [0] * 1_000_000}]}),
        (ExplainRequest, EXPLAIN | {"pruning": [0] * 1_000_000}),
    ],
    ids=["stop of numbers", "stop", "messages", "content", "pruning"],
)
def test_long_lists_are_refused_at_once_and_with_few_errors(kind: type, body: dict[str, Any]) -> None:
    started = time.process_time()
    with pytest.raises(ValidationError) as refused:
        kind.model_validate(body)
    assert refused.value.error_count() <= 5
    assert time.process_time() - started < 2.0, "a linear walk took minutes"


def test_stop_strings_are_few_and_short() -> None:
    assert ChatRequest.model_validate(CHAT | {"stop": ["a", "b", "c", "d"]}).stops == ("a", "b", "c", "d")
    for stop in (["a"] * 5, "x" * 257, ["x" * 257]):
        with pytest.raises(ValidationError):
            ChatRequest.model_validate(CHAT | {"stop": stop})


def test_a_turn_that_breaks_its_batch_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def generate(adapter: Any, turns: Any, **_: Any) -> list[str]:
        if "long" in [turn.question for turn in turns]:
            raise ValueError("136 visual and 6003 text tokens")
        return [f"{turn.question}!" for turn in turns]

    monkeypatch.setattr(engine, "generate", generate)
    job = SimpleNamespace(choices=1, temperature=0, stops=())
    turns: Any = [SimpleNamespace(question=question, job=job) for question in ("a", "long", "b")]
    adapter: Any = SimpleNamespace(tokenizer=None)
    made = engine.generated(adapter, turns)
    assert [str(one) for one in made] == ["a!", "136 visual and 6003 text tokens", "b!"]
    assert isinstance(made[1], ValueError)


def test_an_unforeseen_error_is_logged_without_what_the_caller_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(access_logger(), "error", lines.append)
    monkeypatch.setattr(problems, "REQUEST", ContextVar("of a test", default="asked-1"))
    try:
        raise ZeroDivisionError("a secret prompt")
    except ZeroDivisionError as error:
        problem = problem_from(error)
    assert (problem.status, "secret" in problem.message) == (500, False)
    line = json.loads(lines[-1])
    assert (line["event"], line["error"]) == ("internal error", "ZeroDivisionError")
    assert "test_serve_limits.py" in line["stack"][-1]
    assert line["request_id"] == "asked-1"
    assert "secret" not in json.dumps(line)
