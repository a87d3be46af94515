"""Pictures and bodies meant to do harm: each is refused by name, and the service goes on."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image, features

from tests.local_serve import HERO, Build, data_url, picture, question, refusal

if TYPE_CHECKING:
    from fastapi.testclient import TestClient


TOKEN = "infer:a-long-secret"


@pytest.fixture
def client_of(client_of: Build, monkeypatch: pytest.MonkeyPatch) -> Build:
    """Harm is refused with tokens switched on, too, and by who has one."""
    monkeypatch.setenv("HERO_RAY_TOKENS", TOKEN)

    def build(*given: Any, **settings: Any) -> TestClient:
        made = client_of(*given, **settings)
        made.headers["authorization"] = f"Bearer {TOKEN.partition(':')[2]}"
        return made

    return build


def _bomb() -> bytes:
    from PIL import PngImagePlugin

    Image.new("1", (16, 16)).save(buffer := io.BytesIO(), "PNG", pnginfo=PngImagePlugin.PngInfo())
    data = bytearray(buffer.getvalue())
    data[16:24] = (60_000).to_bytes(4, "big") * 2  # the header claims 3.6 billion pixels
    import zlib

    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    return bytes(data)


def _text_bomb() -> bytes:
    """97 KB of PNG whose comment unpacks to 100 MB."""
    from PIL import PngImagePlugin

    notes = PngImagePlugin.PngInfo()
    notes.add_text("comment", "x" * 100_000_000, zip=True)
    Image.new("RGB", (8, 8)).save(buffer := io.BytesIO(), "PNG", pnginfo=notes)
    return buffer.getvalue()


def _damaged_avif() -> bytes:
    if not features.check("avif"):
        return b"\0\0\0\x1cftypavif"
    data = bytearray(picture(format="AVIF"))
    data[-40:] = bytes(40)
    return bytes(data)


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
HOSTILE = {
    "svg": lambda: data_url(SVG, "svg+xml"),
    "svg that says png": lambda: data_url(SVG),
    "image bomb": lambda: data_url(_bomb()),
    "text bomb": lambda: data_url(_text_bomb()),
    "damaged avif": lambda: data_url(_damaged_avif(), "avif"),
    "broken base64": lambda: "data:image/png;base64,@@@@",
    "odd base64": lambda: "data:image/png;base64,abc",
    "empty": lambda: "data:image/png;base64,",
    "truncated": lambda: data_url(picture()[:200]),
    "http": lambda: "http://169.254.169.254/latest/meta-data",
    "file": lambda: "file:///etc/passwd",
    "path": lambda: "../../../etc/passwd",
    "null bytes": lambda: "data:image/png;base64,\x00\x00",
    "eps": lambda: data_url(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n"),
}


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
def test_hostile_pictures_are_refused(client: TestClient, make: Callable[[], str]) -> None:
    assert refusal(client.post("/v1/chat/completions", json=question(make())), 400)["param"] == "messages"
    body = {"model": "hero-tiny", "image": make(), "question": "?"}
    assert refusal(client.post("/v1/explain", json=body), 400)["param"] in ("image", "messages")


RAW = {
    "nested": b"[" * 200_000,
    "nested object": b'{"model":' * 50_000,
    "not utf-8": b'{"model": "\xff\xfe"}',
    "lone surrogate": b'{"model": "hero-tiny", "messages": [{"role": "user", "content": "\\ud800"}]}',
    "surrogate key": json.dumps(question(pruning=HERO | {"\ud800": 1})).encode(),
    "null": b"null",
    "empty": b"",
    "huge number": b'{"model": "hero-tiny", "seed": ' + b"9" * 10_000 + b"}",
    "not a number": json.dumps(question(temperature=float("nan"))).encode(),
}


@pytest.mark.parametrize("body", RAW.values(), ids=RAW)
def test_hostile_json_is_refused(client: TestClient, body: bytes) -> None:
    for path in ("/v1/chat/completions", "/v1/explain"):
        refusal(client.post(path, content=body, headers={"content-type": "application/json"}), 400)


def test_a_thin_picture_and_null_text_do_no_harm(client: TestClient) -> None:
    thin = question(data_url(picture((3000, 1))), text="What\x00 color?")
    assert client.post("/v1/chat/completions", json=thin).status_code in (200, 400)


def test_bodies_over_the_limit_are_refused_declared_or_not(client_of: Build) -> None:
    client = client_of(limits={"body_bytes": 4096})
    assert refusal(client.post("/v1/explain", content=b"x" * 5000), 413)["code"] == "body_too_large"
    chunks = (b"x" * 1000 for _ in range(6))  # no content-length
    assert refusal(client.post("/v1/explain", content=chunks), 413)["code"] == "body_too_large"


MILLIONS = {
    "empty lists": b"[]," * 1_000_000 + b"[]",
    "numbers": b"0," * 1_000_000 + b"0",
    "objects": b"{}," * 1_000_000 + b"{}",
    "names": b",".join(b'{"%x":1}' % at for at in range(300_000)),
}


@pytest.mark.parametrize("values", MILLIONS.values(), ids=MILLIONS)
def test_a_body_of_millions_of_values_is_not_read(client: TestClient, values: bytes) -> None:
    """21 MB of `[],` in a field that is ignored kept the reader busy for 7 s and took 0.7 GB."""
    rest = json.dumps(question())[1:].encode()
    body = b'{"metadata": [' + values + b"], " + rest
    answer = client.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert refusal(answer, 413)["code"] == "too_many_values"


def test_long_prompts_of_commas_are_still_prompts(client: TestClient) -> None:
    error = refusal(client.post("/v1/chat/completions", json=question(text="," * 32_000)), 400)
    assert "context" in error["message"]


LONG = "h" * 1_000_000


@pytest.mark.parametrize(
    "more",
    [{"model": LONG}, {"pruning": {"method": LONG}}, {"pruning": {"method": "hero", "variant": LONG}}, {"stop": LONG}],
    ids=lambda more: next(iter(more)),
)
def test_names_are_short_before_anything_is_compared_with_them(client: TestClient, more: dict[str, Any]) -> None:
    """The nearest known method to 20 MB was looked for during 3 s."""
    error = refusal(client.post("/v1/chat/completions", json=question(**more)), 400)
    assert "at most 256 characters" in error["message"]
    assert len(error["message"]) < 300


@pytest.mark.parametrize(
    "url", ["data:image/png" + ";a=b" * 300_000 + ";base64,AAAA", "data:image/" + "a" * 1_000_000, "data:" + LONG]
)
def test_a_data_url_says_shortly_what_it_holds(client: TestClient, url: str) -> None:
    """Five million parameters took 1.1 GB."""
    assert "must be a data URL" in refusal(client.post("/v1/chat/completions", json=question(url)), 400)["message"]


def test_base64_may_be_broken_into_lines_of_any_length(client: TestClient) -> None:
    head, _, data = data_url(picture()).partition(",")
    for spaced in (" ".join(data), "\r\n".join(data[at : at + 76] for at in range(0, len(data), 76))):
        assert client.post("/v1/chat/completions", json=question(f"{head},{spaced}")).status_code == 200
