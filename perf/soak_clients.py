"""The callers and visitors of `perf.soak`; each notes what came of it as `KIND STATUS CODE`."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import random
from collections import Counter
from typing import Any

import httpx
import numpy as np
from PIL import Image

METHODS = ("full", "hero", "fastv", "visionzip", "random", "downsample")
SWEEP = {
    "tasks": ["synth-exist"],
    "methods": ["hero"],
    "budgets": [0.2],
    "limit": 2,
    "straw_men": False,
    "replicas": 1,
    "profile": {"enabled": False},
}
SWEEP_PATIENCE_S = 300.0


def picture() -> str:
    """A small photo of noise, as a data URL."""
    pixels = np.random.default_rng(random.randrange(2**32)).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def question(**more: Any) -> dict[str, Any]:
    """A chat about a picture, pruned by a method drawn at random."""
    parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": picture()}}]
    pruning = {"method": random.choice(METHODS), "retention_ratio": random.choice((0.1, 0.2, 0.5))}
    body = {"model": "hero-tiny", "messages": [{"role": "user", "content": parts}], "max_tokens": 16}
    return body | {"pruning": pruning} | more


class Clients:
    """Callers of the service that share one connection pool; `seen` counts what came of their requests."""

    def __init__(self, http: httpx.AsyncClient, seen: Counter[str]) -> None:
        self._http, self._seen, self._sweeping = http, seen, 0

    def _note(self, kind: str, answer: httpx.Response) -> None:
        code = ""
        if answer.status_code >= 400:
            try:
                code = f" {answer.json()['error']['code']}"
            except (ValueError, LookupError, TypeError):  # not ours: the proxy's in front, or what is left of it
                code = f" unnamed {answer.text[:60]!r}"
        self._seen[f"{kind} {answer.status_code}{code}"] += 1

    async def _post(self, kind: str, path: str, body: dict[str, Any]) -> httpx.Response | None:
        try:
            answer = await self._http.post(path, json=body)
        except httpx.HTTPError as error:
            self._seen[f"{kind} unanswered {type(error).__name__}"] += 1
            return None
        self._note(kind, answer)
        return answer

    async def chat(self) -> None:
        """One whole answer."""
        await self._post("chat", "/v1/chat/completions", question())

    async def explain(self) -> None:
        """One picture under three prunings."""
        body = {"model": "hero-tiny", "image": picture(), "question": "What is it?", "max_tokens": 8, "overlay": True}
        body["pruning"] = [{"method": name, "retention_ratio": 0.2} for name in ("full", "hero", "downsample")]
        await self._post("explain", "/v1/explain", body)

    async def nonsense(self) -> None:
        """What is refused."""
        body = random.choice(
            [question(tools=[{}]), question(model="nobody"), question(max_tokens=10**6), {"stop": [0] * 1000}]
        )
        await self._post("nonsense", "/v1/chat/completions", body)

    async def stream(self) -> None:
        """An answer in pieces, read to its end."""
        last = ""
        try:
            async with self._http.stream("POST", "/v1/chat/completions", json=question(stream=True)) as answer:
                if answer.status_code != 200:
                    await answer.aread()
                    self._note("stream", answer)
                    return
                async for line in answer.aiter_lines():
                    if line.startswith('data: {"error"'):
                        code = json.loads(line[6:])["error"]["code"]
                        self._seen[f"stream event 503 {code}"] += 1
                    last = line or last
        except httpx.HTTPError as error:
            self._seen[f"stream unanswered {type(error).__name__}"] += 1
            return
        self._seen["stream 200" if last == "data: [DONE]" else "stream unanswered"] += 1

    async def leave(self) -> None:
        """A stream whose reader goes after its first line, or an explanation whose caller goes before it is there."""
        try:
            if random.random() < 0.5:
                body = question(stream=True, max_tokens=256)
                async with self._http.stream("POST", "/v1/chat/completions", json=body) as answer:
                    async for _ in answer.aiter_lines():
                        break
            else:
                body = {"model": "hero-tiny", "image": picture(), "question": "?", "pruning": [{"method": "hero"}] * 8}
                await asyncio.wait_for(self._http.post("/v1/explain", json=body), random.uniform(0.05, 0.5))
        except (httpx.HTTPError, TimeoutError):
            pass
        self._seen["left"] += 1

    async def sweep(self) -> None:
        """A small sweep, watched to its end."""
        made = await self._post("sweep", "/v1/sweeps", {"config": SWEEP | {"seed": random.randrange(10**6)}})
        if made is None or made.status_code != 202:
            return
        where, waited, state = f"/v1/sweeps/{made.json()['id']}", 0.0, "submitted"
        while state in ("submitted", "running", "pending") and waited < SWEEP_PATIENCE_S:
            await asyncio.sleep(2)
            waited += 2
            try:
                state = (await self._http.get(where)).json().get("status", "unknown")
            except (httpx.HTTPError, ValueError):
                continue
        self._seen[f"sweep {state}" + ("" if state == "complete" else " failed")] += 1


async def visit(address: str, page: str, seen: Counter[str]) -> None:
    """Open one page of the dashboard as a browser's script does, and wait until it has been drawn."""
    from streamlit.proto.BackMsg_pb2 import BackMsg
    from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
    from websockets.asyncio.client import connect
    from websockets.exceptions import WebSocketException

    asked = BackMsg()
    asked.rerun_script.query_string = ""
    asked.rerun_script.page_name = page
    try:
        async with asyncio.timeout(120), connect(address, max_size=None, subprotocols=None) as socket:
            await socket.send(asked.SerializeToString())
            exceptions = 0
            async for data in socket:
                message = ForwardMsg()
                message.ParseFromString(bytes(data))
                if message.WhichOneof("type") == "delta":
                    exceptions += message.delta.new_element.WhichOneof("type") == "exception"
                if message.WhichOneof("type") == "script_finished":
                    break
    except (OSError, TimeoutError, WebSocketException) as error:
        seen[f"page unanswered {type(error).__name__}"] += 1
        return
    seen["page with an exception failed" if exceptions else "page"] += 1
