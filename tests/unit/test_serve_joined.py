"""Clients of one vLLM: they join its next step, leave without taking others along, and are told when it fails."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event
from typing import Any

import pytest
import torch

from hero_ray import models
from hero_ray.core.errors import ParameterError, PromptError, ReplicaError
from hero_ray.models import loader
from hero_ray.models.base import Request
from hero_ray.models.engines.vllm import decoder
from hero_ray.models.generation import GenerationOptions
from hero_ray.serve.engine import Engine
from hero_ray.serve.engine_types import ChatResult
from hero_ray.serve.joined import JoinedEngine, join
from hero_ray.serve.replica import joins, ongoing
from hero_ray.serve.settings import ServeSettings
from hero_ray.serve.work import Caller
from tests.stand_in_vllm import StandInEngine, sampling
from tests.unit.test_engines_serve import job


class Held(StandInEngine):
    """Makes no step until it is let go."""

    go: Event

    def step(self) -> list[Any]:
        assert self.go.wait(60)
        return super().step()


@pytest.fixture(scope="module")
def ours() -> Any:
    torch.set_num_threads(1)
    return models.load("hero-tiny")


@pytest.fixture
def engine(ours: Any) -> Iterator[Held]:
    made = Held(ours, 4096)
    made.go = Event()
    yield made
    made.go.set()


@pytest.fixture
def requests(ours: Any) -> list[Request]:
    generator = torch.Generator().manual_seed(1)
    width = ours.info.language.hidden
    texts = ("Is there a circle?", "How many?", "What color is the star?", "What is written here?", "Where?", "Why?")
    return [Request(ours.prompt(text), torch.randn(9, width, generator=generator), 6) for text in texts]


def test_all_who_ask_meanwhile_are_answered_as_alone(ours: Any, engine: Held, requests: Any) -> None:
    joined = JoinedEngine(decoder(engine, sampling, ours, 4096))
    started = Barrier(len(requests) + 1)

    def ask(request: Request) -> Any:
        started.wait(60)
        return joined.answer([request])

    with ThreadPoolExecutor(len(requests)) as threads:
        waiting = [threads.submit(ask, request) for request in requests]
        started.wait(60)
        engine.go.set()
        found = [answer for one in waiting for answer in one.result(60)]
    assert found == ours.decoder.answer(requests)


def test_who_comes_while_others_are_answered_joins_them(ours: Any, engine: Held, requests: Any) -> None:
    joined = JoinedEngine(decoder(engine, sampling, ours, 4096))
    order: list[str] = []
    second: list[Any] = []

    def told(name: str, token: int) -> None:
        order.append(name)
        if name == "first" and len(order) == 1:  # the engine's own thread: nothing is stepped before this returns
            late = GenerationOptions(ignore_eos=True, on_token=lambda *_: told("second", 0))
            second.append(threads.submit(joined.answer, [requests[1]], None, "compact", late))
            while joined.steps.brought.empty():
                pass

    engine.go.set()
    with ThreadPoolExecutor(2) as threads:
        options = GenerationOptions(ignore_eos=True, on_token=lambda *_: told("first", 0))
        joined.answer([requests[0]], options=options)
        second[0].result(60)
    assert order.index("second") < len(order) - 1 - order[::-1].index("first"), "told between the first one's tokens"


def test_who_leaves_or_asks_wrongly_takes_no_other_along(ours: Any, engine: Held, requests: Any) -> None:
    class Gone(Exception):
        pass

    def leave(*_: int) -> None:
        raise Gone

    joined = JoinedEngine(decoder(engine, sampling, ours, 4096))
    with ThreadPoolExecutor(3) as threads:
        leaving = threads.submit(
            joined.answer, [requests[0]], None, "compact", GenerationOptions(on_token=leave, ignore_eos=True)
        )
        wrong = threads.submit(joined.answer, [Request(requests[0].prompt, torch.zeros(3, 5), 4)])
        staying = threads.submit(joined.answer, [requests[1]])
        engine.go.set()
        assert staying.result(60) == ours.decoder.answer([requests[1]])
        with pytest.raises(Gone):
            leaving.result(60)
        with pytest.raises(PromptError):
            wrong.result(60)
    with pytest.raises(ParameterError, match="engine=auto"):
        joined.answer([requests[0]], pruner=object())
    assert joined.steps.broken is None


def test_an_engine_that_fails_tells_everyone_and_those_who_come_later(ours: Any, engine: Held, requests: Any) -> None:
    joined = JoinedEngine(decoder(engine, sampling, ours, 4096))
    engine.fails = RuntimeError("no memory left")
    with ThreadPoolExecutor(2) as threads:
        waiting = [threads.submit(joined.answer, [request]) for request in requests[:2]]
        engine.go.set()
        for one in waiting:
            with pytest.raises(ReplicaError, match="no memory left"):
                one.result(60)
    with pytest.raises(ReplicaError, match="no memory left"):
        joined.answer([requests[2]])
    assert isinstance(joined.steps.broken, ReplicaError)


def test_the_services_engine_answers_and_streams_through_it(ours: Any, engine: Held, monkeypatch: Any) -> None:
    engine.go.set()
    behind = models.load("hero-tiny")
    behind.engine, behind.decoder = decoder(engine, sampling, behind, 4096), None
    monkeypatch.setattr(models, "load", lambda name, **_: behind)
    served = Engine({}, kept_bytes=2**22)
    adapter = served.load("hero-tiny")
    assert isinstance(adapter.engine, JoinedEngine)
    asked = [job("What is written here?", choices=2, logprobs=1), job("Is there a circle?", "fastervlm")]
    plain = Engine({}).answer(ours, asked)
    told: list[Any] = []
    for one, expected in zip(asked, plain, strict=True):
        whole = served.one(adapter, served.turn(adapter, one, Caller()))
        streamed = served.told(adapter, served.turn(adapter, one, Caller()), told.append)
        assert (
            [c.text for c in whole.choices] == [c.text for c in streamed.choices] == [c.text for c in expected.choices]
        )
        assert whole.visual == expected.visual
    served.check()
    engine.fails = RuntimeError("gone")
    assert isinstance(served.one(adapter, served.turn(adapter, asked[0], Caller())), ReplicaError)
    with pytest.raises(ReplicaError, match="gone"):
        served.check()


def test_a_vllm_that_made_room_gives_its_memory_back_and_others_answer_on(
    ours: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: dict[str, list[str]] = {}

    def load(name: str, **_: Any) -> Any:
        """The model behind a stand-in for vLLM that notes how it is ended."""
        adapter, stand_in = loader.load("hero-tiny"), StandInEngine(ours, 4096)
        ends[name] = stand_in.ended
        adapter.engine, adapter.decoder = decoder(stand_in, sampling, adapter, 4096), None
        return adapter

    monkeypatch.setattr(models, "load", load)
    served, asked = Engine({}), job("Is there a circle?")
    held = {"first": served.load("first"), "second": served.load("second")}
    engine = weakref.ref(held["first"].engine.steps.decoder.engine)
    assert isinstance(served.one(held["first"], served.turn(held["first"], asked, Caller())), ChatResult)
    assert ends == {"first": [], "second": []}
    del held["first"]  # as a replica does that has room for two
    held["third"] = served.load("third")
    assert ends["first"] == ["detached", "workers", "scheduler"], "vLLM's own ending would be the others' too"
    assert engine() is None
    for name in held:
        assert isinstance(served.one(held[name], served.turn(held[name], asked, Caller())), ChatResult)
    served.check()
    held.clear()
    served.load("fourth")
    assert ends["second"] == ends["third"] == ends["first"], "also the last one, whose groups the next one finds"


def test_our_own_blocks_are_joined_by_nobody(ours: Any) -> None:
    assert join(ours) is None
    assert not joins(ours, job("Is there a circle?"))
    vllm = type("Model", (), {"info": type("Info", (), {"engine": "auto"})})
    assert joins(vllm, job("Is there a circle?", "hero"))
    assert not joins(vllm, job("Is there a circle?", "fastv"))
    assert joins(vllm, job("Is there a circle?", temperature=1.0)), "a draw keeps nobody waiting there"
    assert ongoing(ServeSettings(batch_size=4)) == 8
    assert ongoing(ServeSettings(batch_size=4, model_args={"engine": "vllm"})) == 64
