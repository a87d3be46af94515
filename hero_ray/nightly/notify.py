"""Tell a webhook. A message that cannot be delivered is logged and never changes the outcome of a night."""

from __future__ import annotations

import json
import logging
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from hero_ray.core.again import Again
from hero_ray.core.secret import secret_of

log = logging.getLogger(__name__)

ATTEMPTS = 4
TIMEOUT_S = 5.0
PAUSE_S = 1.0
PASSING = frozenset({429})


def webhook_url() -> str | None:
    """`HERO_RAY_WEBHOOK`; None switches messages off."""
    return secret_of("HERO_RAY_WEBHOOK") or None


def send(body: Mapping[str, Any], url: str | None = None, pause_s: float = PAUSE_S) -> bool:
    """Post JSON, at most `ATTEMPTS` times and about half a minute in all; returns whether it arrived.

    The URL is a secret and is never logged. Answers of 4xx are not tried again: they would be the same.
    """
    url = url or webhook_url()
    if not url:
        return False
    data = json.dumps(body).encode()
    again = Again(ATTEMPTS, pause_s, PASSING, lost=(OSError, ValueError))

    def post(_: int) -> None:
        request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=TIMEOUT_S):
            pass

    try:
        again.ask(post)
        return True
    except urllib.error.HTTPError as error:
        problem = f"HTTP {error.code}"
    except again.lost as error:
        problem = type(error).__name__
    log.warning("the webhook could not be told (%s); the night's outcome is unaffected", problem)
    return False


def trouble(text: str, url: str | None = None, pause_s: float = PAUSE_S) -> bool:
    """Report that something around the night broke: the store, the cluster, the run itself."""
    body = {"text": f"hero_ray nightly: {text}"}
    body["blocks"] = [{"type": "section", "text": {"type": "mrkdwn", "text": body["text"]}}]  # type: ignore[assignment]
    return send(body, url, pause_s)
