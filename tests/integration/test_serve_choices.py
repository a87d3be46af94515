"""Several answers to one request, log-probabilities, and conversations about one picture. No Ray."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("openai")
import httpx
from openai import AsyncOpenAI, BadRequestError
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from hero_ray.benchmarks.images import decode
from hero_ray.engine import cut
from hero_ray.models.base import Request
from hero_ray.serve import engine as engine_module
from hero_ray.serve.engine import Engine
from hero_ray.serve.explanation import pruning_of
from hero_ray.serve.schemas import PruningRequest
from tests.local_serve import HERO, Build, Local, data_url, picture, question, refusal

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

CHAT = "/v1/chat/completions"
DRAWN = {"temperature": 1.2, "seed": 11, "max_tokens": 6}
TURNS = ("What color is the circle?", "Is there a square?", "How many circles are there?")


@pytest.fixture(scope="module")
def backend() -> Local:
    return Local(Engine({}, kept_bytes=2**26))


def chunks_of(text: str) -> list[dict[str, Any]]:
    lines = [line for line in text.split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def conversation(*answers: str, turns: tuple[str, ...] = TURNS, system: str = "") -> list[dict[str, Any]]:
    """Turns with a picture in the first, the given answers between them."""
    first = [{"type": "text", "text": turns[0]}, {"type": "image_url", "image_url": {"url": data_url(picture())}}]
    said: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    said.append({"role": "user", "content": first})
    for answer, turn in zip(answers, turns[1:], strict=False):
        said += [{"role": "assistant", "content": answer}, {"role": "user", "content": turn}]
    return said


@pytest.mark.parametrize(
    "pruning", [None, HERO, {"method": "fastv", "retention_ratio": 0.5}], ids=["full", "hero", "fastv"]
)
def test_every_choice_is_what_its_own_seed_draws_alone(client: TestClient, pruning: Any) -> None:
    asked = question(pruning=pruning, **DRAWN)
    whole = client.post(CHAT, json=asked | {"n": 4}).json()
    typed = ChatCompletion.model_validate(whole, strict=True)
    alone = [client.post(CHAT, json=asked | {"seed": 11 + number}).json() for number in range(4)]
    assert [choice.index for choice in typed.choices] == [0, 1, 2, 3]
    for choice, single in zip(whole["choices"], alone, strict=True):
        assert choice | {"index": 0} == single["choices"][0]
    usage = whole["usage"]
    assert usage["prompt_tokens"] == alone[0]["usage"]["prompt_tokens"], "the prompt is run once"
    assert usage["completion_tokens"] == sum(one["usage"]["completion_tokens"] for one in alone)
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_greedy_choices_are_one_answer(client: TestClient) -> None:
    one, three = (client.post(CHAT, json=question(n=n)).json() for n in (1, 3))
    assert [choice | {"index": 0} for choice in three["choices"]] == one["choices"] * 3
    assert three["usage"]["completion_tokens"] == 3 * one["usage"]["completion_tokens"]


@pytest.mark.parametrize(
    "change",
    [{"n": 1}, {"n": 3}, {"n": 3} | DRAWN, {"stop": ["e", "o"], "n": 2}, {"max_tokens": 1}],
    ids=["one", "greedy", "drawn", "stopped", "one token"],
)
def test_streams_spell_the_same_choices_with_the_same_log_probabilities(client: TestClient, change: Any) -> None:
    asked = question(pruning=HERO, logprobs=True, top_logprobs=2) | change
    whole = client.post(CHAT, json=asked).json()
    chunks = chunks_of(client.post(CHAT, json=asked | {"stream": True, "stream_options": {"include_usage": True}}).text)
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk, strict=True)
    assert ChatCompletion.model_validate(whole, strict=True)
    assert chunks[-1]["usage"] == whole["usage"]
    for choice in whole["choices"]:
        mine = [c for chunk in chunks for c in chunk["choices"] if c["index"] == choice["index"]]
        assert "".join(one["delta"].get("content", "") for one in mine) == choice["message"]["content"]
        assert mine[0]["delta"]["role"] == "assistant"
        assert mine[-1]["finish_reason"] == choice["finish_reason"]
        told = [entry for one in mine for entry in (one["logprobs"] or {"content": []})["content"]]
        assert told == choice["logprobs"]["content"]
    total = sum(len(choice["logprobs"]["content"]) for choice in whole["choices"])
    assert total == whole["usage"]["completion_tokens"]


def test_log_probabilities_have_openais_form_and_spell_the_text(client: TestClient) -> None:
    choice = client.post(CHAT, json=question(logprobs=True, top_logprobs=5)).json()["choices"][0]
    content = choice["logprobs"]["content"]
    assert "".join(entry["token"] for entry in content) == choice["message"]["content"]
    assert bytes(byte for entry in content for byte in entry["bytes"]).decode() == choice["message"]["content"]
    for entry in content:
        assert len(entry["top_logprobs"]) == 5
        best = entry["top_logprobs"][0]
        assert (best["token"], best["logprob"]) == (entry["token"], entry["logprob"]), "greedy"
        values = [one["logprob"] for one in entry["top_logprobs"]]
        assert values == sorted(values, reverse=True)
        assert all(value <= 0 for value in values)
    bare = client.post(CHAT, json=question(logprobs=True)).json()["choices"][0]["logprobs"]["content"]
    assert [entry["logprob"] for entry in bare] == [entry["logprob"] for entry in content]
    assert all(entry["top_logprobs"] == [] for entry in bare)
    assert client.post(CHAT, json=question(logprobs=False)).json()["choices"][0]["logprobs"] is None


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "nine answers": ({"n": 9}, "n"),
    "no answer": ({"n": 0}, "n"),
    "alternatives alone": ({"top_logprobs": 2}, "top_logprobs"),
    "too many alternatives": ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    "logprobs as a number": ({"logprobs": 3}, "logprobs"),
    "another question": ({"pruning": HERO | {"by_question": "none"}}, "pruning.by_question"),
    "an answer at the end": (
        {"messages": [*conversation("red", turns=TURNS[:1]), {"role": "assistant", "content": "red"}]},
        "messages",
    ),
    "two questions in a row": ({"messages": conversation() + [{"role": "user", "content": "and?"}] * 2}, "messages"),
    "the picture later": (
        {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}, *conversation()]},
        "messages",
    ),
    "two pictures": (
        {"messages": [*conversation(), {"role": "assistant", "content": "red"}, *conversation()]},
        "messages",
    ),
    "a silent question": ({"messages": conversation("red", turns=(TURNS[0], " "))}, "messages"),
    "a picture in an answer": ({"messages": conversation("<image>", turns=TURNS[:2])}, "messages"),
}


@pytest.mark.parametrize(("change", "param"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_is_refused_by_name(client: TestClient, change: dict[str, Any], param: str) -> None:
    assert refusal(client.post(CHAT, json=question() | change), 400)["param"] == param


def test_answers_and_alternatives_count_as_work(client_of: Build) -> None:
    client = client_of(limits={"work": 5.0})
    assert client.post(CHAT, json=question(max_tokens=40)).status_code == 200
    for more in ({"n": 2}, {"logprobs": True, "top_logprobs": 20}):
        error = refusal(client.post(CHAT, json=question(max_tokens=40, **more)), 400)
        assert error["code"] == "too_much_work"
        assert "80 new tokens" in error["message"]


@pytest.mark.parametrize("by", ["first", "each"])
@pytest.mark.parametrize("method", ["full", "hero", "mmtok", "fastv"])
def test_later_turns_answer_as_the_engine_alone_does(client: TestClient, backend: Local, method: str, by: str) -> None:
    pruning = {"method": method, "retention_ratio": 0.3, "by_question": by}
    adapter, said = backend.adapter, list[str]()
    for turn in range(3):
        body = question(pruning=pruning) | {"messages": conversation(*said, system="Be brief.")}
        got = client.post(CHAT, json=body).json()
        asked = ["Be brief.\n" + TURNS[0], *TURNS[1:]]
        history, text = list(zip(asked, said, strict=False)), asked[turn]
        chosen = TURNS[0] if by == "first" else TURNS[turn]
        prompt = adapter.prompt(text, chosen, history)
        chooser = adapter.prompt(asked[0], chosen) if by == "first" else prompt
        wanted = pruning_of(PruningRequest(**pruning))
        image = decode(picture())
        seen = cut.Picture(adapter, image, cut.picture_id(image), wanted.method.needs(adapter.vision))
        made = cut.cut(seen, wanted, chosen, chooser)
        (alone,) = cut.generate(adapter, [Request(prompt, made.visual, 8)], [made])
        assert got["choices"][0]["message"]["content"] == alone.text
        assert got["usage"]["prompt_tokens"] == prompt.num_text + made.visual.shape[0]
        said.append(alone.text)


def test_a_picture_is_encoded_and_cut_once_for_all_turns(client_of: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    whole = engine_module._cut
    monkeypatch.setattr(engine_module, "_cut", lambda *given: done.append(given[1].question) or whole(*given))
    keeping, forgetting = (Local(Engine({}, kept_bytes=size)) for size in (2**26, 0))
    for backend, by, method, cuts in (
        (keeping, "first", "hero", 1),
        (keeping, "first", "mmtok", 1),
        (keeping, "each", "mmtok", 2),  # the first question's choice is there already
        (forgetting, "first", "hero", 3),
    ):
        done.clear()
        client = client_of(backend)
        pruning = {"method": method, "retention_ratio": 0.2, "by_question": by}
        for said in ((), ("red",), ("red", "no")):
            body = question(pruning=pruning) | {"messages": conversation(*said)}
            assert client.post(CHAT, json=body).status_code == 200
        assert len(done) == cuts, (by, method)


def test_what_is_kept_stays_within_its_bytes(client_of: Build) -> None:
    backend = Local(Engine({}, kept_bytes=300_000))
    client = client_of(backend)
    for width in range(100, 180, 8):
        assert client.post(CHAT, json=question(data_url(picture((width, 90))))).status_code == 200
    held = backend.engine._kept._held
    assert 0 < sum(one.nbytes for one in held.values()) <= 300_000
    assert len(held) < 10


def test_the_official_client_talks_about_one_picture(client: TestClient) -> None:
    async def talk() -> tuple[list[str], list[str]]:
        transport = httpx.ASGITransport(app=client.app)
        async with AsyncOpenAI(
            base_url="http://127.0.0.1/v1", api_key="x", http_client=httpx.AsyncClient(transport=transport)
        ) as official:
            ask = official.chat.completions.create
            said: list[str] = []
            for _ in TURNS:
                answer = await ask(
                    model="hero-tiny", messages=conversation(*said), n=2, logprobs=True, top_logprobs=1,
                    max_tokens=8, extra_body={"pruning": HERO},
                )  # fmt: skip
                assert answer.choices[1].logprobs.content[0].top_logprobs[0].logprob <= 0
                said.append(answer.choices[0].message.content)
            with pytest.raises(BadRequestError) as refused:
                await ask(model="hero-tiny", messages=conversation(), n=9)
            assert refused.value.param == "n"
            stream = await ask(
                model="hero-tiny",
                messages=conversation(*said[:2]),
                stream=True,
                max_tokens=8,
                extra_body={"pruning": HERO},
            )
            pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
            return said, pieces

    said, pieces = asyncio.run(talk())
    assert "".join(pieces) == said[2]
