"""Work is counted before it is begun, and ends when nobody waits for it. No Ray."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image
from starlette.requests import Request as Asked

from hero_ray.serve import engine, explanation
from hero_ray.serve.engine_types import ChatJob, ChatResult
from hero_ray.serve.inference import Places
from hero_ray.serve.problems import Problem
from hero_ray.serve.schemas import PruningRequest
from hero_ray.serve.settings import Limits
from hero_ray.serve.work import Caller, work_of
from tests.local_serve import HERO, Build, Local, Noted, data_url, picture, question, refusal

if TYPE_CHECKING:
    from fastapi.testclient import TestClient


@pytest.fixture(scope="module")
def huge() -> str:
    """39.9 million pixels of one colour, in few bytes."""
    import io

    Image.new("1", (7980, 5000), 1).save(buffer := io.BytesIO(), "PNG")
    assert len(buffer.getvalue()) < 130_000
    return data_url(buffer.getvalue())


def test_a_small_body_that_asks_for_much_is_refused_at_once(client: TestClient, huge: str) -> None:
    """16 prunings of this picture took a replica 46 s."""
    prunings = [{"method": "downsample", "retention_ratio": 0.1 + 0.05 * at} for at in range(16)]
    body = {"model": "hero-tiny", "image": huge, "question": "?", "pruning": prunings}
    began = time.process_time()
    error = refusal(client.post("/v1/explain", json=body), 400)
    assert time.process_time() - began < 2.0
    assert error["code"] == "too_much_work"
    assert "690" in error["message"]
    assert "39.9 megapixels" in error["message"]


def test_answers_count_as_work_too(client: TestClient) -> None:
    body = {"model": "hero-tiny", "image": data_url(picture()), "question": "?", "pruning": [HERO] * 16}
    assert refusal(client.post("/v1/explain", json=body | {"max_tokens": 1024}), 400)["code"] == "too_much_work"


@pytest.mark.parametrize(
    ("size", "prunings", "tokens", "work"), [(40.0, 1, 1024, 142.4), (12.0, 16, 32, 243.2), (0.0, 1, 256, 25.6)]
)
def test_what_people_ask_for_is_within_the_limit(size: float, prunings: int, tokens: int, work: float) -> None:
    assert work_of(size, prunings, tokens, Limits()) == pytest.approx(work)


def test_pictures_are_refused_by_their_header(client_of: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    def reached(*_: Any, **__: Any) -> Any:
        raise AssertionError("a replica was asked")

    monkeypatch.setattr(Local, "chat", reached)
    client = client_of(limits={"pixels": 10_000})
    error = refusal(client.post("/v1/chat/completions", json=question()), 400)
    assert error["param"] == "messages"
    assert "the limit is 10000" in error["message"]


def enter(places: Places, work: float) -> Any:
    asked = Asked({"type": "http", "state": {}})
    places.enter(asked, work)
    return asked.state


def test_what_waits_is_bounded_by_number_and_by_work() -> None:
    places = Places(Limits(queued=3, queued_work=100))
    first = enter(places, 70)
    assert first.places == (3, 2)
    with pytest.raises(Problem) as busy:
        enter(places, 40)
    assert (busy.value.status, busy.value.headers) == (429, {"retry-after": "1"})
    enter(places, 30)
    first.release()
    enter(places, 40)
    enter(places, 1)
    with pytest.raises(Problem):
        enter(places, 1)
    assert enter(Places(Limits(queued_work=100)), 300), "alone, any work that is allowed is done"


class Leaves(Caller):
    """A caller who is gone after some looks at whether he waits."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.left, self.looks = after, 0

    def check(self) -> None:
        self.looks += 1
        self.gone = self.looks > self.left
        super().check()


def test_an_explanation_ends_with_its_caller(backend: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    cuts: list[Any] = []
    whole = explanation.cut
    monkeypatch.setattr(explanation, "cut", lambda *given: cuts.append(given) or whole(*given))
    prunings = [PruningRequest(method="random", tokens=4 + at) for at in range(6)]
    for looks, begun in ((0, 0), (1, 0), (2, 1), (3, 1)):
        cuts.clear()
        with pytest.raises(Problem) as gone:
            backend.engine.explain(backend.adapter, picture(), "?", prunings, 8, caller=Leaves(looks))
        assert (gone.value.status, len(cuts)) == (499, begun)


def test_jobs_whose_callers_are_gone_are_left_out_of_their_batch(backend: Local) -> None:
    jobs = [ChatJob("?", "?", picture(), PruningRequest(), 4) for _ in range(3)]
    callers = [Caller(), Caller(), Caller()]
    callers[1].gone = True
    first, second, third = backend.engine.answer(backend.adapter, jobs, callers)
    assert isinstance(second, Problem)
    assert second.status == 499
    assert isinstance(first, ChatResult)
    assert isinstance(third, ChatResult)
    assert (first.batch, third.batch, first.text) == (2, 2, third.text)


def test_a_batch_goes_on_while_anyone_waits(backend: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of two leaves at the first token, the other at the third."""
    callers, told = [Caller(), Caller()], 0
    whole = engine.generate

    def watched(adapter: Any, turns: Any, on_token: Any) -> Any:
        def leaving(row: int, token: int) -> None:
            nonlocal told
            told += row == 1
            callers[0].gone = True
            callers[1].gone = told >= 3
            on_token(row, token)

        return whole(adapter, turns, on_token=leaving)

    monkeypatch.setattr(engine, "generate", watched)
    adapter = backend.engine.load("hero-tiny:random")
    jobs = [ChatJob("?", "?", picture(), PruningRequest(), 64) for _ in callers]
    made = backend.engine.answer(adapter, jobs, callers)
    assert [getattr(each, "status", None) for each in made] == [499, 499]
    assert told == 3


def test_slow_tables_leave_room_for_those_who_ask_a_model(backend: Local, url: str) -> None:
    """Twenty readers whose database is slow took every thread of the pool."""
    import asyncio
    import threading

    import httpx

    from hero_ray.serve.api import build_api
    from hero_ray.serve.desk import Desk
    from hero_ray.serve.settings import ServeSettings

    go = threading.Event()

    class SlowDesk(Desk):
        def cells(self, run_id: str) -> dict[str, Any]:
            assert go.wait(120)
            return {"run_id": run_id, "data": []}

    settings = ServeSettings(db=url)
    api = build_api(settings, backend, SlowDesk(settings, Noted()))

    async def ask() -> tuple[int, set[int]]:
        transport = httpx.ASGITransport(api)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=None) as http:
            readers = [asyncio.create_task(http.get("/v1/cells")) for _ in range(40)]
            await asyncio.sleep(0.1)
            try:
                async with asyncio.timeout(60):
                    answer = await http.post("/v1/chat/completions", json=question())
            finally:
                go.set()
            return answer.status_code, {each.status_code for each in await asyncio.gather(*readers)}

    assert asyncio.run(ask()) == (200, {200})
