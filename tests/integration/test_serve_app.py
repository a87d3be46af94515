"""A real service, started as people start it, asked over loopback by the official client and by plain HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

pytest.importorskip("ray.serve")
from serve_fixture import Service

from tests.integration.test_no_warnings import complaints
from tests.local_serve import HERO, data_url, picture, question

pytestmark = pytest.mark.ray


@pytest.fixture
def client(service: Service) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key="unused", max_retries=0, timeout=90) as made:
        yield made


def asked(**more: Any) -> dict[str, Any]:
    return question(**more)


def test_the_official_client_chats(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["hero-tiny"]
    answer = client.chat.completions.create(**asked(), extra_body={"pruning": HERO})
    assert answer.choices[0].message.content
    visual = answer.usage.model_extra["visual_tokens"]
    assert visual["kept"] < visual["full"]


def test_the_official_client_streams(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(**asked(), extra_body={"pruning": HERO})
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(client.chat.completions.create(**asked(**options), extra_body={"pruning": HERO}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_the_official_client_understands_refusals(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="unknown model"):
        client.chat.completions.create(**asked(model="gpt-5"))
    with pytest.raises(openai.BadRequestError, match="no parameter"):
        client.chat.completions.create(**asked(), extra_body={"pruning": HERO | {"beta": 1}})
    with pytest.raises(openai.BadRequestError, match="data URL"):
        client.chat.completions.create(**asked(url="http://127.0.0.1/x.png", stream=True))


def test_no_warning_is_shown(service: Service) -> None:
    assert httpx.post(f"{service.url}/v1/chat/completions", json=asked(), timeout=90).json()["choices"]
    said = (service.folder / "serve.log").read_text()
    assert "Started Serve" in said
    assert complaints(said) == []


def test_explain(service: Service) -> None:
    body = {"model": "hero-tiny", "image": data_url(picture()), "question": "What color is it?"}
    body |= {"pruning": [{"method": "full"}, HERO], "overlay": True}
    made = httpx.post(f"{service.url}/v1/explain", json=body, timeout=90).json()
    full, hero = made["results"]
    assert made["encodes"] == 1
    assert hero["tokens"]["n_visual_llm"] < full["tokens"]["n_visual_llm"]


async def _together(service: Service, bodies: list[dict[str, Any]]) -> list[httpx.Response]:
    async with httpx.AsyncClient(base_url=service.url, timeout=120) as client:
        return await asyncio.gather(*(client.post("/v1/chat/completions", json=body) for body in bodies))


@pytest.mark.slow
def test_64_at_once_answer_as_one_does(service: Service) -> None:
    kinds = [asked(text=text, pruning=HERO) for text in ("What color is the circle?", "Is there a circle?")]
    kinds += [asked(text="How many circles are there?")]
    alone = [httpx.post(f"{service.url}/v1/chat/completions", json=body, timeout=90).json() for body in kinds]
    answers = asyncio.run(_together(service, [kinds[at % 3] for at in range(64)]))
    assert {answer.status_code for answer in answers} == {200}
    for at, answer in enumerate(answers):
        assert answer.json()["choices"] == alone[at % 3]["choices"]
        assert answer.json()["usage"] == alone[at % 3]["usage"]
    metrics = httpx.get(f"{service.url}/metrics", timeout=30).text
    single = float(re.search(r'hero_ray_batch_size_bucket\{le="1.0"\} (\S+)', metrics)[1])
    every = float(re.search(r"hero_ray_batch_size_count (\S+)", metrics)[1])
    mean = float(re.search(r"hero_ray_batch_size_sum (\S+)", metrics)[1]) / every
    print(f"\nbatches: {every - single:.0f} of {every:.0f} answers shared one, mean size {mean:.1f}")
    assert every - single > 0


def test_a_disconnect_in_mid_stream_does_no_harm(service: Service) -> None:
    for _ in range(3):
        with httpx.stream("POST", f"{service.url}/v1/chat/completions", json=asked(stream=True), timeout=90) as answer:
            next(answer.iter_lines())
    assert httpx.post(f"{service.url}/v1/chat/completions", json=asked(), timeout=90).status_code == 200


def test_a_body_of_100_mb_is_refused(service: Service) -> None:
    try:
        status = httpx.post(f"{service.url}/v1/explain", content=b"x" * 100_000_000, timeout=90).status_code
    except httpx.TransportError:
        status = 413  # refused by closing the connection before all was sent
    assert status == 413
    assert httpx.get(f"{service.url}/healthz", timeout=30).status_code == 200


def test_a_slow_client_holds_nobody_up(service: Service) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as slow:
        slow.sendall(b"POST /v1/explain HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n")
        slow.sendall(b"content-length: 1000\r\n\r\n{")
        assert httpx.post(f"{service.url}/v1/chat/completions", json=asked(), timeout=90).status_code == 200


@pytest.mark.slow
def test_a_replica_killed_under_load_is_replaced(service: Service) -> None:
    before = {process.pid for process in service.replicas()}
    assert len(before) == 2
    statuses: list[tuple[float, int, str]] = []
    over = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=service.url, timeout=120) as client:
            while not over.is_set():
                answer = client.post("/v1/chat/completions", json=asked(max_tokens=4))
                statuses.append((time.monotonic(), answer.status_code, answer.text[:200]))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(3)
        killed = time.monotonic()
        os.kill(min(before), signal.SIGKILL)
        while time.monotonic() < killed + 90:
            if len({process.pid for process in service.replicas()} - before) and len(service.replicas()) == 2:
                break
            time.sleep(0.5)
        back = time.monotonic() - killed
        time.sleep(2)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    after = [(status, text) for when, status, text in statuses if when > killed]
    failed = [text for status, text in after if status != 200]
    print(f"\nkilled one of 2 replicas: {len(after)} answers after it, {len(failed)} failed, replaced in {back:.1f} s")
    assert back < 90
    assert {status for status, _ in after} <= {200, 503}
    assert all(json.loads(text)["error"]["type"] == "server_error" for text in failed)
    assert len(after) > len(failed)
    assert httpx.post(f"{service.url}/v1/chat/completions", json=asked(), timeout=90).status_code == 200


def test_a_public_address_without_a_token_is_refused(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "HERO_RAY_TOKENS"}
    command = [sys.executable, "-m", "hero_ray", "serve", "--host", "0.0.0.0"]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2
    assert "without a token" in ended.stderr
