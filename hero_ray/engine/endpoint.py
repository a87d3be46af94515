"""Any OpenAI-compatible server as a model: asked over HTTP, one question at a time, streamed for its first token.

`endpoint:URL` names it, up to and including `/v1`. It is asked only if `HERO_RAY_ENDPOINTS` lists its origin or a
beginning of its address, so that a sweep file cannot make a machine talk to whatever it likes; the bearer token comes
from `HERO_RAY_ENDPOINT_TOKEN` and is never stored. Redirects are not followed: they would carry the token elsewhere.
"""

from __future__ import annotations

import base64
import io
import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

from PIL import Image

from hero_ray.core.again import Again
from hero_ray.core.errors import ConfigError, EndpointError
from hero_ray.core.plan import ENDPOINT
from hero_ray.core.secret import secret_of

T = TypeVar("T")

PREFIX = "endpoint:"
KEY = ENDPOINT
"""Under which a sample's scores keep what the server said of the request: usage and times in milliseconds."""
ALLOWED, TOKEN = "HERO_RAY_ENDPOINTS", "HERO_RAY_ENDPOINT_TOKEN"
FIRST_PAUSE_S, LONGEST_WAIT_S = 0.25, 60.0
OWN_FIELDS = ("model", "messages", "max_tokens", "temperature", "stream", "stream_options")
"""Of a request's body: what is said there is not for others to change."""


def is_endpoint(model: str) -> bool:
    """Whether a model's name is an address."""
    return model.startswith(PREFIX)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def fields_of(value: Any) -> dict[str, Any]:
    """Further fields of a request's body, from a mapping or its JSON.

    Raises:
        ValueError: neither, or a field that is not for others to say.
    """
    found = json.loads(value) if isinstance(value, str) else value
    if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found):
        raise ValueError('fields must be a JSON object, as in fields={"add_special_tokens": true}')
    if taken := sorted(set(found) & set(OWN_FIELDS)):
        raise ValueError(f"fields cannot say {taken[0]!r}: the question, its limit and greedy answers are set already")
    return dict(found)


_OPTIONS: dict[str, Callable[[Any], Any]] = {
    "served": str,
    "flag": str,
    "fields": fields_of,
    "rate": float,
    "clients": int,
    "timeout_s": float,
    "attempts": int,
}


@dataclass(frozen=True)
class Reply:
    """One answer.

    Attributes:
        prompt_tokens, completion_tokens: as the server counts them; None where it does not say.
        ttft_ms, total_ms: from the request to the first piece of text, and to the last.
    """

    text: str
    prompt_tokens: int | None
    completion_tokens: int | None
    ttft_ms: float
    total_ms: float
    attempts: int = 1


@dataclass
class Endpoint:
    """A server and how it is asked.

    Attributes:
        url: its base, up to and including `/v1`.
        served: the model's name there; the first it lists if "".
        flag: what it was started with to prune, as the cell is to be told (`--pruning-rate 0.8`); "" for nothing.
        fields: what every request says besides, in this server's words (`{"add_special_tokens": true}`).
        rate: requests begun per second at most; 0 for no limit.
        clients: requests under way at once.
    """

    url: str
    served: str = ""
    flag: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    rate: float = 0.0
    clients: int = 1
    timeout_s: float = 300.0
    attempts: int = 5
    _next: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def of(cls, model: str, arguments: Mapping[str, Any]) -> Endpoint:
        """The endpoint a model's name and arguments mean.

        Raises:
            ConfigError: no http(s) address, one that is not allowed, or an argument that endpoints do not have.
        """
        url = model.removeprefix(PREFIX).rstrip("/")
        check_allowed(url)
        given = {key: value for key, value in arguments.items() if key not in ("dtype", "device")}
        if unknown := sorted(given.keys() - _OPTIONS.keys()):
            raise ConfigError(f"{model} has no model argument {unknown[0]!r}; it has {', '.join(_OPTIONS)}")
        try:
            typed = {key: _OPTIONS[key](value) for key, value in given.items()}
        except (TypeError, ValueError) as problem:
            raise ConfigError(f"model arguments of {model}: {problem}") from None
        made = cls(url, **typed)
        if made.rate < 0 or made.clients < 1 or made.timeout_s <= 0 or made.attempts < 1:
            raise ConfigError(f"{model}: rate must be 0 or more, clients and attempts 1 or more, timeout_s above 0")
        return made

    @property
    def naming(self) -> dict[str, Any]:
        """The arguments that change what it answers, and so name its cell."""
        said = {"flag": self.flag, "fields": dict(self.fields)}
        return {name: value for name, value in said.items() if value}

    def find_served(self) -> str:
        """The name of the model that is asked, from the server where none was given.

        Raises:
            EndpointError: it cannot be reached, or lists no model.
        """
        if not self.served:
            listed = json.load(self._again(lambda _: self._open(self._request("/models"))))
            try:
                self.served = str(listed["data"][0]["id"])
            except (KeyError, IndexError, TypeError):
                raise EndpointError(
                    f"{self.url}/models lists no model; name one with --model-args served=NAME"
                ) from None
        return self.served

    def ask(self, image: Image.Image, text: str, max_tokens: int, more: Mapping[str, Any] | None = None) -> Reply:
        """One greedy answer.

        Args:
            more: further fields of the body, such as our own service's `pruning`.

        Raises:
            EndpointError: refused, or no answer in all attempts.
        """
        return self.answer(self.prepared(picture_url(image), text, max_tokens, more))

    def prepared(self, picture: str, text: str, max_tokens: int, more: Mapping[str, Any] | None = None) -> bytes:
        """The body of one question, to be sent as often as one likes.

        Args:
            picture: a data URL, see `picture_url`.
            more: further fields; None takes one out.
        """
        content = [{"type": "image_url", "image_url": {"url": picture}}, {"type": "text", "text": text}]
        body: dict[str, Any] = {"model": self.find_served(), "messages": [{"role": "user", "content": content}]}
        body |= {"max_tokens": max_tokens, "temperature": 0, "stream": True, "stream_options": {"include_usage": True}}
        body |= {**self.fields, **(more or {})}
        return json.dumps({key: value for key, value in body.items() if value is not None}).encode()

    def answer(self, body: bytes) -> Reply:
        """What the server answers to a prepared body.

        Raises:
            EndpointError: refused, or no answer in all attempts.
        """
        return self._again(lambda attempt: self._streamed(self._request("/chat/completions", body), attempt))

    def _streamed(self, request: urllib.request.Request, attempt: int) -> Reply:
        self._take_turn()
        begun = time.perf_counter()
        pieces: list[str] = []
        first, usage = 0.0, dict[str, Any]()
        with self._open(request) as response:
            for event in _events(response):
                usage = event.get("usage") or usage
                for choice in event.get("choices") or ():
                    if piece := (choice.get("delta") or choice.get("message") or {}).get("content"):
                        first = first or time.perf_counter()
                        pieces.append(piece)
        over = time.perf_counter()
        return Reply(
            "".join(pieces).strip(),
            usage.get("prompt_tokens"),
            usage.get("completion_tokens"),
            1000 * ((first or over) - begun),
            1000 * (over - begun),
            attempt,
        )

    def _take_turn(self) -> None:
        """Wait until the rate allows another request; threads of this process share it."""
        if self.rate > 0:
            with self._lock:
                now = time.monotonic()
                self._next = max(self._next, now) + 1 / self.rate
                wait = self._next - 1 / self.rate - now
            time.sleep(max(0.0, wait))

    def _again(self, call: Callable[[int], T]) -> T:
        again = Again(self.attempts, FIRST_PAUSE_S, longest_s=LONGEST_WAIT_S)
        try:
            return again.ask(call)
        except urllib.error.HTTPError as error:
            raise EndpointError(f"{self.url} answered {error.code}: {_said(error)}") from None
        except again.lost as error:
            raise EndpointError(f"{self.url} gave no answer in {self.attempts} attempts: {error}") from None

    def _request(self, path: str, body: bytes | None = None) -> urllib.request.Request:
        headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        if token := secret_of(TOKEN):
            headers["Authorization"] = f"Bearer {token}"
        return urllib.request.Request(self.url + path, body, headers)

    def _open(self, request: urllib.request.Request) -> Any:
        opener = urllib.request.build_opener(_NoRedirects, urllib.request.ProxyHandler({}))
        return opener.open(request, timeout=self.timeout_s)


def check_allowed(url: str) -> None:
    """Refuse an address that `HERO_RAY_ENDPOINTS` does not list.

    Raises:
        ConfigError: not http(s), with a password or query in it, or not listed.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{PREFIX}{url} is no address; write {PREFIX}http://HOST:PORT/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigError(f"an endpoint's address holds no password and no ?; the token is read from {TOKEN}")
    allowed = [one.strip().rstrip("/") for one in os.environ.get(ALLOWED, "").split(",") if one.strip()]
    if not any(url == one or url.startswith(one + "/") for one in allowed):
        origin = f"{parts.scheme}://{parts.netloc}"
        raise ConfigError(f"{origin} is not among the endpoints that may be asked; allow it with {ALLOWED}={origin}")


def picture_url(image: Image.Image) -> str:
    """A picture as a data URL, without loss."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _events(response: Any) -> Iterator[Mapping[str, Any]]:
    """Chunks of a stream of server-sent events; a server that does not stream gives its whole answer as one."""
    if "text/event-stream" not in (response.headers.get("Content-Type") or ""):
        yield json.load(response)
        return
    ended = False
    for raw in response:
        line = raw.decode("utf-8").strip()
        if line == "data: [DONE]":
            ended = True
        elif line.startswith("data:"):
            event = json.loads(line.removeprefix("data:"))
            if event.get("error"):
                raise ValueError(str(event["error"].get("message", event["error"]))[:300])
            yield event
    if not ended:
        raise ValueError("the stream ended before the answer did")


def _said(error: urllib.error.HTTPError) -> str:
    """The server's own words, as far as they are OpenAI's shape."""
    text = error.read(4096).decode("utf-8", "replace")
    try:
        return str(json.loads(text)["error"]["message"])[:300]
    except (ValueError, KeyError, TypeError):
        return (text or str(error.reason))[:300]
