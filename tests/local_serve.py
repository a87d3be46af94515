"""The service without Ray: its routes over one engine in this process, and what tests send to them."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image, ImageDraw

from hero_ray.results.database import open_results
from hero_ray.serve.desk import Desk
from hero_ray.serve.engine import Engine
from hero_ray.serve.engine_types import ChatJob, ChatResult, Piece
from hero_ray.serve.problems import problem_from
from hero_ray.serve.settings import ServeSettings

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

Build = Callable[..., "TestClient"]
HERO = {"method": "hero", "retention_ratio": 0.2}


class Local:
    """`Backend` on one engine in this process."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.adapter = engine, engine.load("hero-tiny")

    async def chat(self, model: str, job: ChatJob) -> ChatResult:
        outcome = self.engine.answer(self.adapter, [job])[0]
        if isinstance(outcome, Exception):
            raise problem_from(outcome)
        return outcome

    async def stream(self, model: str, job: ChatJob) -> AsyncIterator[Piece | ChatResult]:
        pieces: list[Piece] = []
        try:
            result = self.engine.stream(self.adapter, job, pieces.append)
        except Exception as error:
            raise problem_from(error) from None
        for piece in pieces:
            yield piece
        yield result

    async def explain(self, model: str, picture: bytes, question: str, prunings: Any, options: Any) -> dict[str, Any]:
        options.pop("request_id")
        return self.engine.explain(self.adapter, picture, question, prunings, **options)

    async def ready(self) -> bool:
        return True

    def lost(self, within_s: float) -> bool:
        return False


class Noted:
    """Jobs that are only written down."""

    def __init__(self) -> None:
        self.submitted: list[tuple[str, dict[str, str], str]] = []
        self.stopped: list[str] = []

    def submit(self, entrypoint: str, environment: dict[str, str], job_id: str) -> None:
        self.submitted.append((entrypoint, environment, job_id))

    def status(self, job_id: str) -> str | None:
        known = any(job_id == known for *_, known in self.submitted)
        return None if not known else "stopped" if job_id in self.stopped else "pending"

    def stop(self, job_id: str) -> None:
        self.stopped.append(job_id)

    def active(self) -> int:
        return sum(self.status(job_id) in ("pending", "running") for *_, job_id in self.submitted)

    def complaint(self, job_id: str) -> str | None:
        return None


def picture(size: tuple[int, int] = (160, 120), format: str = "PNG") -> bytes:
    image = Image.new("RGB", size, "white")
    ImageDraw.Draw(image).ellipse((20, 20, 70, 70), fill="red")
    buffer = io.BytesIO()
    image.save(buffer, format)
    return buffer.getvalue()


def data_url(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def question(url: str | None = None, text: str = "What color is the circle?", **more: Any) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"type": "text", "text": text}]
    parts.append({"type": "image_url", "image_url": {"url": url or data_url(picture())}})
    return {"model": "hero-tiny", "messages": [{"role": "user", "content": parts}], "max_tokens": 8} | more


def refusal(response: Any, status: int) -> dict[str, Any]:
    """The error of a refused request, its shape checked."""
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert "Traceback" not in response.text
    return error


@pytest.fixture(scope="module")
def backend() -> Local:
    return Local(Engine({}))


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    made = f"sqlite:///{tmp_path_factory.mktemp('serve') / 'results.db'}"
    open_results(made).close()
    return made


@pytest.fixture
def client_of(backend: Local, url: str) -> Build:
    """Makes a client of the routes, with other settings or another backend."""
    pytest.importorskip("fastapi")
    pytest.importorskip("prometheus_client")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what starlette says of its own test client's future
        from fastapi.testclient import TestClient
    from hero_ray.serve.api import build_api

    def build(used: Local = backend, **settings: Any) -> TestClient:
        made = ServeSettings(**({"db": url} | settings))
        api = build_api(made, used, Desk(made, Noted()))
        return TestClient(api, base_url="http://127.0.0.1", raise_server_exceptions=False)

    return build


@pytest.fixture
def client(client_of: Build) -> Iterator[TestClient]:
    with client_of() as made:
        yield made
