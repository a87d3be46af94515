"""The service's replica over vLLM, with the stand-in: answers, streams and stop strings as over our own blocks."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
import torch

from hero_ray import models
from hero_ray.core.errors import ParameterError
from hero_ray.models.engines.vllm import decoder
from hero_ray.models.invariance import drawn_picture
from hero_ray.models.runner import Runner
from hero_ray.serve.engine import Engine
from hero_ray.serve.engine_types import ChatJob, ChatReply
from hero_ray.serve.schemas import PruningRequest
from tests.stand_in_vllm import StandInEngine, sampling


def encoded() -> bytes:
    buffer = io.BytesIO()
    drawn_picture(2).save(buffer, "PNG")
    return buffer.getvalue()


def job(text: str, method: str = "hero", **more: Any) -> ChatJob:
    return ChatJob(text, text, encoded(), PruningRequest(method=method, retention_ratio=0.3), 12, **more)


@pytest.fixture(scope="module")
def engine() -> Engine:
    torch.set_num_threads(1)
    return Engine({}, threads=1)


@pytest.fixture(scope="module")
def sides(engine: Engine) -> tuple[Any, Any]:
    """(our blocks alone, the same model with its blocks behind a stand-in for vLLM)."""
    ours, other = models.load("hero-tiny"), models.load("hero-tiny")
    stand_in = StandInEngine(models.load("hero-tiny"), 4096)
    other.engine, other.decoder = decoder(stand_in, sampling, other, 4096), None
    return ours, other


def test_jobs_answer_alike_and_a_text_alone_too(engine: Engine, sides: tuple[Any, Any]) -> None:
    jobs = [
        job("What is written here?"),
        job("Is there a circle?", "fastervlm"),
        ChatJob("Hi", "Hi", None, PruningRequest(), 4),
        job("And how many?", history=(("Is there a circle?", "yes"),)),
        job("What is written here?", choices=2),
    ]
    ours, vllm = (engine.answer(side, jobs) for side in sides)
    for one, other in zip(ours, vllm, strict=True):
        assert vars(one) | {"seconds": None} == vars(other) | {"seconds": None}


def test_log_probabilities_come_from_either_engine_and_draws_are_vllms_own(engine: Engine, sides: Any) -> None:
    asked = job("What is written here?", logprobs=3)
    ours, vllm = (engine.answer(side, [asked])[0].choices[0] for side in sides)
    assert [entry["token"] for entry in ours.logprobs] == [entry["token"] for entry in vllm.logprobs]
    for one, other in zip(ours.logprobs, vllm.logprobs, strict=True):
        pairs = zip([one, *one["top_logprobs"]], [other, *other["top_logprobs"]], strict=True)
        assert all(a["token"] == b["token"] and abs(a["logprob"] - b["logprob"]) < 1e-4 for a, b in pairs)
        assert len(other["top_logprobs"]) == 3
    told: list[Any] = []
    drawn = job("What is written here?", choices=3, temperature=1.0, seed=5, logprobs=0)
    streamed = engine.stream(sides[1], drawn, told.append)
    assert [choice.text for choice in streamed.choices] == [
        "".join(piece.text for piece in told if piece.index == index) for index in range(3)
    ]
    asked_of = sides[1].engine.engine.asked[-3:]
    assert [params.seed for _, _, params in asked_of] == [5, 6, 7]
    assert [len(choice.logprobs) for choice in streamed.choices] == [choice.tokens for choice in streamed.choices]


def test_streams_and_stop_strings_are_the_services_own(engine: Engine, sides: tuple[Any, Any]) -> None:
    whole = engine.answer(sides[0], [job("What is written here?")])[0].text
    asked = [job("What is written here?"), job("What is written here?", stops=(whole[-1:],))]
    for one in asked:
        told: list[list[str]] = [[], []]
        results = [
            engine.stream(side, one, lambda piece, heard=heard: heard.append(piece.text))
            for side, heard in zip(sides, told, strict=True)
        ]
        assert "".join(told[0]) == "".join(told[1]) == results[0].text == results[1].text
        assert results[0].finish == results[1].finish


def test_nothing_is_generated_behind_a_stop_string(engine: Engine, sides: tuple[Any, Any], monkeypatch: Any) -> None:
    asked = job("What is written here?", temperature=5.0, seed=3)  # so hot that no answer ends early
    ours, vllm = sides
    whole, steps = engine.answer(ours, [asked])[0], list[Any]()
    step = Runner.decode
    monkeypatch.setattr(Runner, "decode", lambda *given: steps.append(given) or step(*given))
    assert engine.answer(ours, [asked])[0].choices[0].tokens == whole.choices[0].tokens > 2
    needed = len(steps)
    steps.clear()
    stopping = replace(asked, stops=(whole.text[:1],))
    assert engine.answer(ours, [stopping])[0].choices[0] == ChatReply("", "stop", 1)
    assert len(steps) == 0 < needed
    streamed = engine.stream(ours, stopping, lambda _: None)
    assert (len(steps), streamed.choices[0].tokens) == (0, 1)
    whole = engine.answer(vllm, [asked])[0]
    before = len(vllm.engine.engine.skipped)
    made = engine.answer(vllm, [replace(asked, stops=(whole.text[:1],))])[0]
    assert (made.choices[0].tokens, len(vllm.engine.engine.skipped)) == (1, before + 1)


def test_a_method_inside_the_language_model_is_refused_by_name(engine: Engine, sides: tuple[Any, Any]) -> None:
    good, bad = engine.answer(sides[1], [job("Is there a circle?"), job("Is there a circle?", "fastv")])
    assert good.text
    assert isinstance(bad, ParameterError)
    assert "engine=auto" in str(bad)
