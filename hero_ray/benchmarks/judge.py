"""A judge model behind any OpenAI-compatible endpoint, asked over plain HTTP and cached by content.

Set `HERO_RAY_JUDGE_URL` (up to and including `/v1`), `HERO_RAY_JUDGE_MODEL` and, where the endpoint wants one,
`HERO_RAY_JUDGE_KEY`. Replies are kept word for word under `HERO_RAY_JUDGE_CACHE` (default `~/.cache/hero_ray/judge`):
a judged score can be traced and a second run costs nothing. No offline substitute gives comparable figures.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hero_ray.core.again import Again
from hero_ray.core.errors import JudgeError
from hero_ray.core.secret import secret_of

URL, MODEL, KEY, CACHE = "HERO_RAY_JUDGE_URL", "HERO_RAY_JUDGE_MODEL", "HERO_RAY_JUDGE_KEY", "HERO_RAY_JUDGE_CACHE"
TEMPERATURE_STEP, TEMPERATURE_LIMIT = 0.5, 2.0
MAX_OUT_OF_RANGE = 5
FIRST_PAUSE_S, PASSING = 2.0, frozenset({408, 409, 429})

Ask = Callable[[str, float], str]
"""(prompt, temperature) -> reply, "" for none."""


@dataclass(frozen=True)
class JudgeVerdict:
    """A judge's score in 0..1, the calls it took, and the replies word for word."""

    score: float
    calls: int
    replies: tuple[str, ...]


def grade(ask: Ask, prompt: str) -> JudgeVerdict:
    """Ask until the reply's first word is a number in 0..1, as MM-Vet's lmms-eval task does.

    An unreadable reply raises the temperature by 0.5 and spends one call whose reply is thrown away (upstream's habit,
    kept so that the same replies give the same score); at 2.0, or on an empty reply, the score is 0. A number outside
    0..1 is asked again unchanged; upstream does so for ever, we stop after five.
    """
    replies: list[str] = []
    temperature, outside = 0.0, 0

    def call() -> str:
        replies.append(ask(prompt, temperature))
        return replies[-1]

    while True:
        reply = call()
        if not reply:
            return JudgeVerdict(0.0, len(replies), tuple(replies))
        try:
            value = float(reply.split(" ")[0].strip())
        except ValueError:
            temperature += TEMPERATURE_STEP
            call()
            if temperature >= TEMPERATURE_LIMIT:
                return JudgeVerdict(0.0, len(replies), tuple(replies))
            continue
        if 0.0 <= value <= 1.0:
            return JudgeVerdict(value, len(replies), tuple(replies))
        outside += 1
        if outside >= MAX_OUT_OF_RANGE:
            raise JudgeError(f"the judge answered {reply!r}, outside 0..1, {outside} times; check {MODEL}")


@dataclass(frozen=True)
class Judge:
    """An endpoint and a model.

    Attributes:
        url: base, for example `https://host/v1`.
        model: pinned model id; scores of two judges are not comparable.
        key: bearer token, "" for none. Never stored.
        cache: folder of replies.
        timeout_s: per attempt; three attempts are made.
    """

    url: str
    model: str
    key: str = field(default="", repr=False)
    cache: Path | None = None
    max_tokens: int = 128
    timeout_s: float = 60.0
    attempts: int = 3

    @classmethod
    def from_environment(cls, benchmark: str) -> Judge:
        """The judge the environment names.

        Raises:
            JudgeError: none is named.
        """
        missing = [name for name in (URL, MODEL) if not os.environ.get(name)]
        if missing:
            raise JudgeError(
                f"{benchmark} is scored by a judge model and {' and '.join(missing)} is not set. Set {URL} to an "
                f"OpenAI-compatible endpoint (…/v1), {MODEL} to a pinned model id and {KEY} if it needs one, "
                f"or leave {benchmark} out: no offline rule gives a comparable figure."
            )
        cache = os.environ.get(CACHE) or str(Path.home() / ".cache" / "hero_ray" / "judge")
        return cls(os.environ[URL], os.environ[MODEL], secret_of(KEY), Path(cache))

    def grade(self, prompt: str) -> JudgeVerdict:
        """`grade` with this endpoint; a cached verdict needs no call."""
        kept = self._kept("grade", prompt)
        if kept:
            return JudgeVerdict(kept["score"], kept["calls"], tuple(kept["replies"]))
        verdict = grade(self._ask, prompt)
        self._keep("grade", prompt, score=verdict.score, calls=verdict.calls, replies=verdict.replies)
        return verdict

    def reply(self, prompt: str) -> str:
        """One reply at temperature 0, word for word; a cached one needs no call."""
        kept = self._kept("reply", prompt)
        if kept:
            return str(kept["replies"][0])
        text = self._ask(prompt, 0.0)
        self._keep("reply", prompt, replies=[text])
        return text

    def _path(self, kind: str, prompt: str) -> Path | None:
        digest = hashlib.sha256(json.dumps([kind, self.model, self.max_tokens, prompt]).encode()).hexdigest()
        return self.cache / digest[:2] / f"{digest}.json" if self.cache else None

    def _kept(self, kind: str, prompt: str) -> dict[str, Any] | None:
        path = self._path(kind, prompt)
        if path is None or not path.is_file():
            return None
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content

    def _keep(self, kind: str, prompt: str, **outcome: Any) -> None:
        path = self._path(kind, prompt)
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}.part")
        record = {"model": self.model, **outcome, "prompt": prompt}
        partial.write_text(json.dumps(record, ensure_ascii=False), encoding="utf-8")
        partial.replace(path)

    def _ask(self, prompt: str, temperature: float) -> str:
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": temperature,
            "max_tokens": self.max_tokens,
        }
        again = Again(self.attempts, FIRST_PAUSE_S, PASSING)
        try:
            return again.ask(lambda _: str(self._post(body)["choices"][0]["message"]["content"] or "").strip())
        except again.lost as failure:
            raise JudgeError(f"the judge {self.model!r} at {self.url} cannot be asked: {failure}") from failure

    def _post(self, body: dict[str, Any]) -> Any:
        if not self.url.startswith(("http://", "https://")):
            raise JudgeError(f"{URL}={self.url!r} is not an http(s) address")
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        request = urllib.request.Request(
            self.url.rstrip("/") + "/chat/completions", json.dumps(body).encode(), headers, method="POST"
        )
        with urllib.request.urlopen(request, timeout=self.timeout_s) as response:
            return json.load(response)
