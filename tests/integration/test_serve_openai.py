"""What OpenAI's clients, gateways and browsers expect beside the answers themselves. No Ray."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("openai")
from openai.types import Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from hero_ray.serve.schemas import UNSUPPORTED
from tests.local_serve import HERO, Build, data_url, picture, question, refusal

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

CHAT = "/v1/chat/completions"
TOKENS = {"read": "read-secret", "infer": "infer-secret", "admin": "admin-secret"}


@pytest.fixture
def guarded(client_of: Build, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    monkeypatch.setenv("HERO_RAY_TOKENS", ",".join(f"{role}:{secret}" for role, secret in TOKENS.items()))
    return client_of(models=("hero-tiny", "owner/some-model"))


@pytest.mark.parametrize("change", [{}, {"pruning": HERO}, {"max_tokens": 1}, {"temperature": 1.0, "seed": 3}])
def test_every_answer_is_one_of_the_clients_own_types(client: TestClient, change: dict[str, Any]) -> None:
    """The client builds its types without checking them; here they are checked."""
    whole = client.post(CHAT, json=question(**change)).json()
    assert ChatCompletion.model_validate(whole, strict=True).choices[0].message.role == "assistant"
    asked = question(stream=True, stream_options={"include_usage": True}, **change)
    lines = client.post(CHAT, json=asked).text.split("\n\n")
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines if line and "[DONE]" not in line]
    typed = [ChatCompletionChunk.model_validate(chunk, strict=True) for chunk in chunks]
    assert typed[-1].usage.total_tokens == whole["usage"]["total_tokens"]
    for model in client.get("/v1/models").json()["data"]:
        assert Model.model_validate(model, strict=True).id == "hero-tiny"


def test_one_model_is_found_by_its_name(guarded: TestClient) -> None:
    headers = {"authorization": "Bearer read-secret"}
    for name in ("hero-tiny", "owner/some-model", "owner%2Fsome-model"):
        found = guarded.get(f"/v1/models/{name}", headers=headers).json()
        assert found["id"] == name.replace("%2F", "/")
    for name in ("nothing", "hero-tiny/x", "%2e%2e"):
        assert refusal(guarded.get(f"/v1/models/{name}", headers=headers), 404)["code"] in ("model_not_found", None)


@pytest.mark.parametrize("path", ["/healthz", "/v1/models", "/v1/models/hero-tiny", "/metrics", "/docs"])
def test_head_is_get_without_the_body(client: TestClient, path: str) -> None:
    head, whole = client.head(path), client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == whole.headers["content-type"]
    assert refusal(client.request("TRACE", path), 405)


SENT = {
    "response_format": [{"type": "json_object"}, {"type": "json_schema", "json_schema": {"name": "x"}}],
    "tools": [[{"type": "function", "function": {"name": "f"}}]],
    "tool_choice": ["required"],
    "functions": [[{"name": "f"}]],
    "function_call": [{"name": "f"}],
    "logit_bias": [{"50256": -100}],
    "presence_penalty": [0.5, "0.5", []],
    "frequency_penalty": [-2],
    "modalities": [["text", "audio"]],
    "audio": [{"voice": "x"}],
    "prediction": [{"type": "content", "content": "x"}],
    "reasoning_effort": ["high"],
    "web_search_options": [{}],
}


def test_every_field_that_is_refused_is_tried() -> None:
    assert set(SENT) == set(UNSUPPORTED)


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, vs in SENT.items() for v in vs], ids=lambda x: str(x)[:24])
def test_what_would_change_the_answer_is_refused_by_name(client: TestClient, name: str, value: Any) -> None:
    error = refusal(client.post(CHAT, json=question(**{name: value})), 400)
    assert (error["param"], error["code"]) == (name, "unsupported_parameter")
    assert name in error["message"]


def test_what_asks_for_nothing_is_let_through(client: TestClient) -> None:
    idle = {name: values[0] for name, values in UNSUPPORTED.items() if values} | {"audio": None, "tools": None}
    more = {"user": "me", "metadata": {"a": "b"}, "store": False, "service_tier": "auto", "parallel_tool_calls": True}
    plain = client.post(CHAT, json=question()).json()["choices"]
    assert client.post(CHAT, json=question(**idle, **more)).json()["choices"] == plain


def one_picture(url: Any, *text: str) -> dict[str, Any]:
    parts = [*({"type": "text", "text": each} for each in text), {"type": "image_url", "image_url": url}]
    return question() | {"messages": [{"role": "user", "content": parts}]}


def test_a_picture_may_be_given_as_text_and_with_a_charset(client: TestClient) -> None:
    url, text = data_url(picture()), "What color is the circle?"
    plain = client.post(CHAT, json=one_picture({"url": url}, text)).json()["choices"]
    for other in (url, url.replace(";base64", ";charset=utf-8;base64"), {"url": url, "detail": "auto"}):
        assert client.post(CHAT, json=one_picture(other, text)).json()["choices"] == plain
    for wrong in ("http://127.0.0.1/x.png", "", "data:image/png;x;base64,"):
        assert refusal(client.post(CHAT, json=one_picture(wrong, text)), 400)["param"] == "messages"


def test_a_picture_without_text_is_described(client: TestClient) -> None:
    url = {"url": data_url(picture())}
    bare, asked = (client.post(CHAT, json=one_picture(url, *text)) for text in ([], ["Describe the picture."]))
    assert bare.status_code == 200, bare.text
    assert bare.json()["choices"] == asked.json()["choices"]
    nothing = question() | {"messages": [{"role": "user", "content": "  "}]}
    assert "no text" in refusal(client.post(CHAT, json=nothing), 400)["message"]


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 1e-40, "seed": 1},
        {"temperature": 5e-324, "seed": 1},
        {"temperature": 0.5, "top_p": 1e-300, "seed": 1},
        {"temperature": 0.5, "top_p": 0, "seed": 1},
        {"pruning": None},
    ],
    ids=str,
)
def test_numbers_at_the_edge_are_greedy(client: TestClient, change: dict[str, Any]) -> None:
    plain = client.post(CHAT, json=question()).json()["choices"]
    assert client.post(CHAT, json=question(**change)).json()["choices"] == plain


@pytest.mark.parametrize("more", [{"name": "x"}, {"temperature_cls": 5e-324}, {"temperature_clip": 5e-324}], ids=str)
def test_parameters_that_once_broke_the_server_are_the_callers_mistake(client: TestClient, more: Any) -> None:
    answer = client.post(CHAT, json=question(pruning=HERO | more))
    assert answer.status_code in (200, 400), answer.text


def test_a_key_may_come_as_x_api_key(guarded: TestClient) -> None:
    assert guarded.post(CHAT, json=question(), headers={"x-api-key": "infer-secret"}).status_code == 200
    for headers in ({"x-api-key": "wrong"}, {"x-api-key": "infer-secret", "authorization": "Bearer wrong"}):
        refusal(guarded.post(CHAT, json=question(), headers=headers), 401)
    refusal(guarded.post(CHAT, json=question(), headers={"x-api-key": "read-secret"}), 403)


def test_answers_say_how_many_places_are_left(client_of: Build) -> None:
    client = client_of(limits={"queued": 5})
    answer = client.post(CHAT, json=question())
    found = {name: answer.headers.get(f"x-ratelimit-{name}-requests") for name in ("limit", "remaining", "reset")}
    assert found == {"limit": "5", "remaining": "4", "reset": "0s"}
    assert "x-ratelimit-limit-requests" not in client.get("/v1/models").headers


def test_other_origins_may_ask_only_where_they_are_named(client_of: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = {"origin": "https://front.example", "access-control-request-method": "POST"}
    ask["access-control-request-headers"] = "authorization,content-type"
    closed = client_of()
    assert "access-control-allow-origin" not in closed.options(CHAT, headers=ask).headers
    assert "access-control-allow-origin" not in closed.get("/healthz", headers=ask).headers
    monkeypatch.setenv("HERO_RAY_TOKENS", "infer:infer-secret")
    opened = client_of(cors_origins=("https://front.example",))
    allowed = opened.options(CHAT, headers=ask)
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, "https://front.example")
    assert refusal(opened.post(CHAT, json=question(), headers=ask), 401)
    other = opened.options(CHAT, headers=ask | {"origin": "https://else.example"})
    assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "[2001:db8::1]:80"])
def test_without_tokens_a_foreign_host_name_is_not_answered(client: TestClient, host: str) -> None:
    """A web page can make its own name resolve to loopback; it cannot make it be loopback."""
    assert refusal(client.get("/v1/models", headers={"host": host}), 403)["code"] == "unknown_host"


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "127.0.0.9:1", "[::1]:8000", "LOCALHOST"])
def test_names_of_this_machine_are_answered(client: TestClient, host: str) -> None:
    assert client.get("/v1/models", headers={"host": host}).status_code == 200


def test_other_names_are_answered_where_they_are_set_or_tokens_are(client_of: Build, guarded: TestClient) -> None:
    headers = {"host": "models.example", "authorization": "Bearer read-secret"}
    assert guarded.get("/v1/models", headers=headers).status_code == 200
    assert client_of(hosts=("models.example",)).get("/v1/models", headers=headers).status_code == 200


def test_what_is_not_there_is_404_for_every_token(guarded: TestClient) -> None:
    for role, secret in TOKENS.items():
        headers = {"authorization": f"Bearer {secret}"}
        for path in ("/v1/embeddings", "/v1/responses", "/v1/completions", "/nothing"):
            refusal(guarded.post(path, json={}, headers=headers), 404)
        if role != "admin":
            refusal(guarded.post("/v1/sweeps", json={}, headers=headers), 403)
    refusal(guarded.post("/v1/embeddings", json={}), 401)


PLACES = {
    "a part": ({"content": [{"type": "text", "text": 5}]}, "messages.0.content.0.text"),
    "a part's url": (
        {"content": [{"type": "image_url", "image_url": {"url": 5}}]},
        "messages.0.content.0.image_url.url",
    ),
    "a part without text": ({"content": [{"type": "text"}]}, "messages.0.content.0.text"),
    "half a surrogate": ({"content": "\ud800"}, "messages.0.content"),
    "content": ({"content": 5}, "messages.0.content"),
    "role": ({"role": "tool"}, "messages.0.role"),
}


@pytest.mark.parametrize(("change", "place"), PLACES.values(), ids=PLACES)
def test_a_refusal_names_the_place_in_the_body(client: TestClient, change: dict[str, Any], place: str) -> None:
    body = question() | {"messages": [{"role": "user", "content": "hi"} | change]}
    sent = json.dumps(body).encode()
    error = refusal(client.post(CHAT, content=sent, headers={"content-type": "application/json"}), 400)
    assert error["param"] == place
    assert not re.search(r"function-|list\[|Part\b|ImageUrl|_encodable", error["message"]), error["message"]


def test_a_refusal_repeats_little_of_what_was_sent(client: TestClient) -> None:
    long = "x" * 200_000
    for body in (question(pruning=HERO | {long: 1}), question(pruning={"method": long}), question(tools=long)):
        answer = client.post(CHAT, json=body)
        refusal(answer, 400)
        assert len(answer.content) < 4000
    assert len(client.get(f"/v1/sweeps?limit={long[:50_000]}").content) < 4000


def test_the_page_of_the_api_needs_no_token_and_loads_nothing(guarded: TestClient) -> None:
    page = guarded.get("/docs")
    assert page.status_code == 200
    assert not re.search(r"(src|href)\s*=|@import|url\(|https?://", page.text)
    assert "default-src 'none'" in page.headers["content-security-policy"]
    refusal(guarded.get("/openapi.json"), 401)
    refusal(guarded.get("/redoc", headers={"authorization": "Bearer read-secret"}), 404)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", None])
def test_what_a_web_page_can_post_without_asking_is_not_read(client: TestClient, kind: str | None) -> None:
    headers = {} if kind is None else {"content-type": kind}
    refusal(client.post(CHAT, content=json.dumps(question()).encode(), headers=headers), 415)
    charset = {"content-type": "Application/JSON; charset=utf-8"}
    assert client.post(CHAT, content=json.dumps(question()).encode(), headers=charset).status_code == 200
