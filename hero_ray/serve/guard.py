"""What every request passes: body size and time, bearer token, request id, metrics, and errors in one shape."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from hero_ray.serve.observe import REQUEST, Metrics, access_line, access_logger
from hero_ray.serve.problems import Problem
from hero_ray.serve.settings import RANK, TOKENS_VARIABLE, ServeSettings, Tokens, is_loopback

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MOST_ID_CHARACTERS = 64
UNREAD = {"connection": "close"}
"""Of an answer to a body that was not read to its end: the rest is not waited for."""
RATE = ("limit", "remaining", "reset")
OPEN_ROUTES = ("/healthz", "/readyz", "/docs")
NEEDED_ROLE = (("/v1/chat/completions", "infer"), ("/v1/explain", "infer"), ("/metrics", "read"))


def needed_role(method: str, path: str, known: bool = True) -> str | None:
    """The least role a request needs; None where anybody may look.

    Args:
        known: whether there is such a path; that there is none may be told to everyone with a token.
    """
    if path in OPEN_ROUTES:
        return None
    for prefix, role in NEEDED_ROLE:
        if path.startswith(prefix):
            return role
    return "read" if method in ("GET", "HEAD") or not known else "admin"


def _host(header: str) -> str:
    """The name in a Host header, without the port."""
    name = header.strip().lower()
    return name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]


class Guard:
    """ASGI middleware in front of the API."""

    def __init__(
        self, app: Any, settings: ServeSettings, tokens: Tokens, metrics: Metrics, known: Callable[[Scope], bool]
    ) -> None:
        self._app, self._limits, self._tokens, self._metrics = app, settings.limits, tokens, metrics
        self._hosts, self._known = {settings.host, *settings.hosts}, known
        self._log = access_logger()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Ray Serve's proxy names a request before us (or lets the caller do so), and its answers say the name.
        given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        request_id = given[:MOST_ID_CHARACTERS] or uuid.uuid4().hex[:16]
        REQUEST.set(request_id)
        started, status, method = time.perf_counter(), 500, scope["method"]
        scope.setdefault("state", {})
        if method == "HEAD":
            scope["method"] = "GET"  # the answer is that of GET, without its body

        async def sending(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                more = [] if given else [(b"x-request-id", request_id.encode())]
                message["headers"] = [*message.get("headers", []), *more, *_rate(scope["state"].get("places"))]
            elif method == "HEAD":
                message["body"] = b""
            await send(message)

        self._metrics.queue.inc()
        try:
            try:
                self._authorise(scope)
                body = await self._read(scope, receive)
                _check_kind(scope, body)
                self._check_values(body)
            except Problem as problem:
                await answer(problem, sending)
                return
            await self._app(scope, _replay(body, receive), sending)
        finally:
            self._metrics.queue.dec()
            if release := scope["state"].get("release"):
                release()
            route = getattr(scope.get("route"), "path", "unmatched")
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - started)
            self._log.info(access_line(request_id, method, route, status, started))

    def _authorise(self, scope: Scope) -> None:
        headers = dict(scope["headers"])
        if not self._tokens:
            self._check_host(headers.get(b"host", b"").decode("latin-1"))
            return
        role = needed_role(scope["method"], scope["path"], self._known(scope))
        if role is None:
            return
        kind, _, presented = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        if not kind:
            kind, presented = "bearer", headers.get(b"x-api-key", b"").decode("latin-1")
        found = self._tokens.role(presented) if kind.lower() == "bearer" else None
        if found is None:
            raise Problem(
                401,
                "a token is required (Authorization: Bearer ..., or x-api-key: ...)",
                "authentication_error",
                code="invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )
        if RANK[found] < RANK[role]:
            raise Problem(403, f"this token has the role {found}; {role} is needed", "permission_error")

    def _check_host(self, header: str) -> None:
        """Without tokens only this machine may ask; a web page whose name resolves to it is somebody else."""
        name = _host(header)
        if name and not is_loopback(name) and name not in self._hosts:
            raise Problem(
                403,
                f"this service has no tokens and answers to its own names only, not to {name[:100]!r}; set "
                f"{TOKENS_VARIABLE}, or list the name under `hosts` in its settings",
                "permission_error",
                code="unknown_host",
            )

    async def _read(self, scope: Scope, receive: Receive) -> bytes:
        headers = dict(scope["headers"])
        declared = headers.get(b"content-length", b"0")
        limit = self._limits.body_bytes
        if declared.isdigit() and int(declared) > limit:
            text = f"the body is {int(declared)} bytes; the limit is {limit}"
            raise Problem(413, text, code="body_too_large", headers=UNREAD)
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Problem(400, "the client went away while sending")
                    body += message.get("body", b"")
                    if len(body) > limit:
                        text = f"the body is over the limit of {limit} bytes"
                        raise Problem(413, text, code="body_too_large", headers=UNREAD)
                    if not message.get("more_body"):
                        return bytes(body)
        except TimeoutError:
            text = f"the body took over {self._limits.body_seconds:g} s to arrive"
            raise Problem(408, text, "timeout_error", code="body_too_slow", headers=UNREAD) from None

    def _check_values(self, body: bytes) -> None:
        """Millions of tiny values keep the JSON reader, and with it everyone else, waiting for seconds and take 20
        times their bytes. There are no more than the commas and brackets; a picture's base64 has neither."""
        values, limit = sum(map(body.count, (b",", b"[", b"{"))), self._limits.body_values
        if values > limit:
            raise Problem(413, f"the body has about {values} values; the limit is {limit}", code="too_many_values")


def _check_kind(scope: Scope, body: bytes) -> None:
    """Bodies are JSON: what a web page can send elsewhere without asking (a form, plain text) is none of ours."""
    kind = dict(scope["headers"]).get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
    if body and kind != "application/json":
        raise Problem(415, f"send application/json, not {kind[:60] or 'a body without a content type'}")


def _rate(places: tuple[int, int] | None) -> list[tuple[bytes, bytes]]:
    """OpenAI's headers about requests, for those that take a place: how many there are and how many are left."""
    if places is None:
        return []
    values = (*map(str, places), "0s" if places[1] else "1s")
    return [(f"x-ratelimit-{name}-requests".encode(), value.encode()) for name, value in zip(RATE, values, strict=True)]


def _replay(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def replay() -> MutableMapping[str, Any]:
        nonlocal sent
        if not sent:
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replay


async def answer(problem: Problem, send: Send) -> None:
    """Send a problem as a whole response."""
    body = json.dumps(problem.body()).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(name.encode(), value.encode()) for name, value in problem.headers.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
