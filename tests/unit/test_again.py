"""What is asked again, how long after, and what comes of the last attempt."""

from __future__ import annotations

import email.message
import io
import urllib.error
from typing import Any

import pytest

from hero_ray.core import again
from hero_ray.core.again import Again


def refused(code: int, told: str | None = None) -> urllib.error.HTTPError:
    headers = email.message.Message()
    if told is not None:
        headers["Retry-After"] = told
    return urllib.error.HTTPError("http://x", code, "no", headers, io.BytesIO(b"why"))


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr(again.time, "sleep", found.append)
    return found


def asked(policy: Again, *script: Any) -> Any:
    left = list(script)

    def call(attempt: int) -> Any:
        assert attempt == len(script) - len(left) + 1
        step = left.pop(0)
        if isinstance(step, Exception):
            raise step
        return step

    return policy.ask(call)


def test_pauses_double_and_the_answer_comes(slept: list[float]) -> None:
    assert asked(Again(4, 0.25), refused(429), refused(503), OSError("gone"), "yes") == "yes"
    assert slept == [0.25, 0.5, 1.0]


@pytest.mark.parametrize(("told", "longest", "waited"), [("7", 60, 7), ("3600", 60, 60), ("7", 0, 1), ("soon", 60, 1)])
def test_retry_after_is_obeyed_as_far_as_it_may_be(
    told: str, longest: float, waited: float, slept: list[float]
) -> None:
    assert asked(Again(2, 1.0, longest_s=longest), refused(429, told), "yes") == "yes"
    assert slept == [waited]


def test_a_refusal_is_final_and_so_is_the_last_attempt(slept: list[float]) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404") as found:
        asked(Again(3, 1.0), refused(404), "never")
    assert found.value.read() == b"why"
    assert slept == []
    with pytest.raises(urllib.error.HTTPError, match="408"):
        asked(Again(3, 1.0, frozenset({429})), refused(408), "never")
    with pytest.raises(OSError, match="second"):
        asked(Again(2, 1.0), OSError("first"), OSError("second"))
    with pytest.raises(ZeroDivisionError):
        asked(Again(2, 1.0), ZeroDivisionError(), "never")
