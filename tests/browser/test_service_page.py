"""The service's own page under `/docs` in a real Chromium: with a token, and with nothing from anywhere else."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests import machine
from tests.browser.conftest import Visitor
from tests.local_serve import Local, Noted, backend, question, url  # noqa: F401

pytestmark = [pytest.mark.slow, pytest.mark.browser]
TOKEN = "a-long-secret"


@pytest.fixture(scope="module")
def address(backend: Local, url: str) -> Iterator[str]:  # noqa: F811
    """The service's API with tokens, over one engine in this process."""
    uvicorn = pytest.importorskip("uvicorn")
    from hero_ray.serve.api import build_api
    from hero_ray.serve.desk import Desk
    from hero_ray.serve.settings import ServeSettings, Tokens

    settings, port = ServeSettings(db=url), machine.free_port()
    api = build_api(settings, backend, Desk(settings, Noted()), tokens=Tokens((("infer", TOKEN),)))
    server = uvicorn.Server(uvicorn.Config(api, "127.0.0.1", port, log_level="error", lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(30)


@pytest.fixture
def reader(person: Any, address: str) -> Iterator[Visitor]:
    """A tab on the page, which must not have asked anyone but the service."""
    made = Visitor(person.new_page(), address)
    made.page.goto(f"{address}/docs")
    yield made
    made.page.close()
    assert made.outside == []


def settled(text: Any, pattern: str) -> str:
    """The text of an element once it is what is waited for; the page's policy allows no `wait_for_function`."""
    from playwright.sync_api import expect

    expect(text).to_have_text(re.compile(pattern), timeout=120_000)
    return str(text.inner_text())


def read(page: Any, token: str) -> str:
    """What the page says once it has tried a token."""
    page.fill("#token", token)
    page.click("#open button")
    return settled(page.locator("#state"), "[a-z]{3}")


def test_without_a_token_the_page_asks_for_one_and_shows_nothing(reader: Visitor) -> None:
    page = reader.page
    assert settled(page.locator("#state"), "[a-z]") == "Type a token of this service and press Read."
    assert "Type a token" in read(page, "a-wrong-secret")
    assert page.locator("#operations details").count() == 0
    refused = [text for text in reader.problems if "401" not in text]
    assert refused == []


def test_with_a_token_every_route_is_there_and_can_be_tried(reader: Visitor) -> None:
    page = reader.page
    assert read(page, TOKEN).startswith("hero_ray ")
    shown = page.locator("#operations > details > summary").all_inner_texts()
    for route in ("POST /v1/chat/completions", "POST /v1/explain", "GET /v1/models", "GET /v1/sweeps/{sweep_id}"):
        assert any(route in " ".join(text.split()) for text in shown), shown

    def send(verb: str, path: str, body: dict[str, Any] | None = None, field: str = "") -> str:
        box = page.locator("#operations > details").filter(has=page.locator(f"summary code:text-is('{path}')"))
        box = box.filter(has=page.locator(f"summary .verb:text-is('{verb}')")).first
        box.locator("summary").first.click()
        if body is not None:
            box.locator("textarea").fill(json.dumps(body))
        if field:
            box.locator("form > label input").fill(field)
        out = box.locator("form > pre").last
        box.get_by_role("button", name="Send").click()
        return settled(out, r"^\d{3} ")

    assert send("GET", "/v1/models").startswith("200 GET /v1/models")
    answer = send("POST", "/v1/chat/completions", question())
    assert answer.startswith("200 POST /v1/chat/completions")
    assert '"visual_tokens"' in answer
    assert send("GET", "/v1/models/{model}", field="a/../b?c").startswith("404 GET /v1/models/a%2F..%2Fb%3Fc")
    assert send("DELETE", "/v1/sweeps/{sweep_id}", field="x").startswith("403"), (
        "an infer token starts and stops nothing"
    )
    assert TOKEN not in page.url
    assert TOKEN not in page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie])")


def test_the_page_may_load_nothing_from_elsewhere_and_stand_in_no_frame(reader: Visitor, address: str) -> None:
    """A second name of this machine is elsewhere; were a request let out, it would be seen."""
    elsewhere = address.replace("127.0.0.1", "localhost")
    page = reader.page
    blocked = page.evaluate(
        """async (where) => {
            const seen = [];
            document.addEventListener('securitypolicyviolation', event => seen.push(event.effectiveDirective));
            const image = new Image(), script = document.createElement('script');
            image.src = where + '/x.png';
            script.src = where + '/x.js';
            document.head.append(script);
            await fetch(where + '/healthz').catch(() => null);
            for (let wait = 0; wait < 100 && seen.length < 3; wait++) await new Promise(go => setTimeout(go, 50));
            return seen.sort(); }""",
        elsewhere,
    )
    assert blocked == ["connect-src", "img-src", "script-src-elem"]
    reader.outside.clear()  # Chromium names what it then refuses to send
    policy = page.request.get(f"{address}/docs").headers["content-security-policy"]
    assert {"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"} <= set(
        policy.split("; ")
    )
