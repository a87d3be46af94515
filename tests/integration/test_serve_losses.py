"""A service with one replica and few places: callers that are slow or leave, and the loss of all that answers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest

pytest.importorskip("ray.serve")
from serve_fixture import Service

from tests.local_serve import data_url, picture, question

pytestmark = [pytest.mark.ray, pytest.mark.slow]

PLACES = 4
BODY_SECONDS = 2.0
REQUEST_SECONDS = 10.0
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def lone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    limits = {"body_seconds": BODY_SECONDS, "queued": PLACES, "request_seconds": REQUEST_SECONDS}
    made = Service(tmp_path_factory.mktemp("lone"), replicas=1, models=["hero-tiny", "hero-tiny:random"], limits=limits)
    try:
        made.wait()
        yield made
        assert made.stop() == 0, "Ctrl-C is an orderly end"
        said = (made.folder / "serve.log").read_text().splitlines()
        assert said[-1] == "hero_ray: stopping", "and a quiet one"
    finally:
        made.kill()


def post(to: Service, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(to.url + CHAT, json=body, timeout=60)


def raw(to: Service, body: dict[str, Any] | None, declared: int | None = None) -> socket.socket:
    """A connection that has sent a request's head, and its body if there is one."""
    data = b"" if body is None else json.dumps(body).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    made = socket.create_connection(("127.0.0.1", to.port), timeout=60)
    made.sendall(f"{head}content-length: {declared or len(data)}\r\n\r\n".encode() + data)
    return made


def test_a_body_that_drips_is_ended_with_408(lone: Service) -> None:
    """One byte every tenth of a second would take minutes; the answer comes in time and the connection is closed."""
    began, received = time.monotonic(), b""
    with raw(lone, None, declared=5000) as slow:
        slow.settimeout(0.1)
        while time.monotonic() < began + 30:
            try:
                slow.sendall(b" ")
                part = slow.recv(4096)
            except TimeoutError:
                continue
            except OSError:
                break  # closed with bytes of ours on their way
            received += part
            if not part:
                break
    seconds = time.monotonic() - began
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert head.lower().count(b"x-request-id") == 1
    assert json.loads(body)["error"]["code"] == "body_too_slow"
    assert BODY_SECONDS <= seconds < BODY_SECONDS + 10, seconds


def test_a_head_that_never_ends_holds_nobody_up(lone: Service) -> None:
    silent = [socket.create_connection(("127.0.0.1", lone.port), timeout=30) for _ in range(20 * PLACES)]
    try:
        for each in silent:
            each.sendall(f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\nx-more".encode())
        assert post(lone, question()).status_code == 200
    finally:
        for each in silent:
            each.close()


def test_clients_that_leave_give_their_places_back(lone: Service) -> None:
    """All places are taken by long answers; when their readers hang up, those answers end at their next token."""
    long = question(model="hero-tiny:random", max_tokens=600)
    began = time.monotonic()
    assert post(lone, long).json()["usage"]["completion_tokens"] == 600
    whole = time.monotonic() - began
    readers = [raw(lone, long | {"stream": True}) for _ in range(PLACES)]
    try:
        assert readers[0].recv(64).startswith(b"HTTP/1.1 200 ")
        time.sleep(0.1)  # the first reader's answer flows; the others are still on their way in
        refused = post(lone, question())
        assert (refused.status_code, refused.headers.get("retry-after")) == (429, "1")
        assert refused.json()["error"]["code"] == "queue_full"
    finally:
        for reader in readers:
            reader.close()
    began = time.monotonic()
    while (answer := post(lone, question())).status_code == 429 and time.monotonic() < began + 60:
        time.sleep(0.05)
    seconds = time.monotonic() - began
    print(f"\n{PLACES} readers left; the next answer came {seconds:.2f} s later, one whole answer takes {whole:.2f} s")
    assert answer.status_code == 200, answer.text
    assert seconds < PLACES * whole / 2


STRANGER = """
import sys
from hero_ray.pipeline.cluster import connected
with connected(None):
    print("up", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def stranger(lone: Service) -> Iterator[None]:
    """Another Ray, started on this machine after the service's own, with a token of its own."""
    environment = {name: value for name, value in os.environ.items() if name not in ("RAY_AUTH_TOKEN", "RAY_ADDRESS")}
    command = [sys.executable, "-c", STRANGER]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"up\n"
        yield
        other.communicate(b"", timeout=120)


def test_a_caller_who_leaves_takes_his_work_along(lone: Service) -> None:
    """Eight long answers about one picture were asked for; the next caller does not wait for them."""
    one = question(model="hero-tiny:random", max_tokens=400)
    began = time.monotonic()
    assert post(lone, one).status_code == 200
    whole = time.monotonic() - began
    body = {"model": "hero-tiny:random", "question": "?", "max_tokens": 400, "pruning": [{"method": "full"}] * 8}
    body["image"] = data_url(picture())
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{lone.url}/v1/explain", json=body, timeout=max(0.5, whole))
    began = time.monotonic()
    assert post(lone, question()).status_code == 200
    seconds = time.monotonic() - began
    print(f"\nthe caller of 8 answers of {whole:.2f} s left after one; the next answer took {seconds:.2f} s")
    assert seconds < 4 * whole


def test_a_sweep_over_http_ends_in_the_database(lone: Service, stranger: None) -> None:
    config = {"tasks": ["synth-exist"], "methods": ["hero"], "budgets": [0.2], "limit": 2, "straw_men": False}
    config |= {"profile": {"enabled": False}, "replicas": 1, "name": "over HTTP"}
    made = httpx.post(f"{lone.url}/v1/sweeps", json={"config": config}, timeout=90)
    assert made.status_code == 202, made.text
    sweep = f"{lone.url}/v1/sweeps/{made.json()['id']}"
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        state = httpx.get(sweep, timeout=60).json()
        if state["status"] not in ("submitted", "running", "pending"):
            break
        time.sleep(2)
    assert state["status"] == "complete", state
    assert (state["done"], state["failed"]) == (state["expected"], 0)
    run = made.json()["id"]
    assert len(httpx.get(f"{lone.url}/v1/cells?run={run}", timeout=60).json()["data"]) == state["cells"]
    assert httpx.get(f"{lone.url}/v1/frontier?run={run}", timeout=60).json()["data"]


def test_the_only_replica_is_lost_under_load(lone: Service) -> None:
    """It is killed whenever it comes back, for a while: requests fail with 503, and later ones succeed again."""
    seen: list[tuple[float, httpx.Response]] = []
    over = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=lone.url, timeout=60) as client:
            while not over.is_set():
                answer = client.post(CHAT, json=question(max_tokens=4))
                seen.append((time.monotonic(), answer))
                time.sleep(0.05)

    threads = [threading.Thread(target=ask) for _ in range(PLACES - 1)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(2)
        first = time.monotonic()
        while time.monotonic() < first + REQUEST_SECONDS + 5:
            for replica in lone.replicas():
                try:
                    os.kill(replica.pid, signal.SIGKILL)
                except (ProcessLookupError, psutil.Error):
                    continue
                last = time.monotonic()
            time.sleep(0.2)
        while not any(when > last and answer.status_code == 200 for when, answer in seen):
            assert time.monotonic() < last + 120, "the service did not recover"
            time.sleep(0.2)
        back = next(when for when, answer in seen if when > last and answer.status_code == 200) - last
        time.sleep(2)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    statuses = Counter(answer.status_code for when, answer in seen if when > first)
    print(
        f"\nthe only replica killed for {last - first:.0f} s: answers {dict(statuses)}, back {back:.1f} s after the end"
    )
    assert set(statuses) == {200, 503}
    assert {answer.status_code for when, answer in seen if when > last + back} == {200}
    for _, answer in seen:
        if answer.status_code == 503:
            error = answer.json()["error"]
            assert (error["type"], error["code"]) == ("server_error", "replica_lost")
            assert answer.headers["retry-after"] == "5"
