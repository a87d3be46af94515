"""One true line for every fault of the hub, from the client's own errors."""

from __future__ import annotations

import errno

import pytest
from huggingface_hub import errors

from hero_ray.core import hub_errors
from hero_ray.core.hub_errors import patiently, why


class Answered:
    """What the client hangs on its errors."""

    def __init__(self, status: int, **headers: str) -> None:
        self.status_code, self.headers, self.request, self.text = status, headers, None, ""


class Refused(Exception):
    def __init__(self, status: int, **headers: str) -> None:
        super().__init__(f"{status}")
        self.response = Answered(status, **headers)


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


ConnectError = type("ConnectError", (Exception,), {})
ReadTimeout = type("ReadTimeout", (type("TimeoutException", (Exception,), {}),), {})
Revision = type("RevisionNotFoundError", (Refused,), {})
Gone = type("RemoteEntryNotFoundError", (Refused,), {})
Unknown = type("RepositoryNotFoundError", (Refused,), {})
Gated = type("GatedRepoError", (Unknown,), {})
Local = errors.LocalEntryNotFoundError

LINES = [
    (OSError(errno.ENOSPC, "No space left"), "no space is left on the disk of the hub's cache"),
    (caused(RuntimeError("x"), OSError(errno.EDQUOT, "quota")), "no space is left"),
    (PermissionError(errno.EACCES, "denied"), "the hub's cache may not be written by this user; set HF_HOME"),
    (OSError(errno.EROFS, "read-only"), "may not be written"),
    (Gated(403), "org/name is gated: ask for access at http://hub/datasets/org/name"),
    (Unknown(401), "org/name does not exist at http://hub, or is private"),
    (Refused(403), "may not be read with this token"),
    (Revision(404), "has lost the commit that was read before"),
    (Gone(404), "lists a file that it has not got"),
    (caused(Local("x"), Refused(503)), "the hub at http://hub answered 503 to every attempt"),
    (caused(Local("x"), ConnectError("refused")), "the hub at http://hub cannot be reached"),
    (caused(Local("x"), ReadTimeout("late")), "the hub at http://hub does not answer"),
    (ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed"), "the certificate of http://hub is not trusted here"),
    (ValueError("<html>\n sign in"), "could not be fetched from http://hub (ValueError: <html> sign in)"),
]


@pytest.mark.parametrize(("error", "line"), LINES, ids=[line[:40] for _, line in LINES])
def test_each_fault_has_its_line(error: Exception, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://hub/")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    said = why(error, "dataset", "org/name")
    assert line in said
    assert "\n" not in said


def test_offline_by_wish_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE is set" in why(Local("x"), "model", "org/name")


def test_a_busy_hub_is_asked_again_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(hub_errors.time, "sleep", slept.append)
    answers = [Refused(503), Refused(429, **{"Retry-After": "7"}), Refused(502)]

    def ask() -> str:
        if answers:
            raise answers.pop(0)
        return "here"

    assert patiently(ask) == "here"
    assert slept == [1.0, 7.0, 4.0]
    for error in (Refused(404), Refused(503, **{"Retry-After": "3600"}), ConnectError("x")):
        answers[:] = [error]
        with pytest.raises(type(error)):
            patiently(ask)
    assert len(slept) == 3
