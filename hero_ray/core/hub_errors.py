"""What the hub's client says, in our words: which errors are worth another try, and one true line for the rest."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from typing import Any, Literal, TypeVar

Kind = Literal["model", "dataset"]
Answer = TypeVar("Answer")

WAITS_S = (1.0, 2.0, 4.0)
LONGEST_WAIT_S = 60.0
"""A hub that asks for more patience than this by Retry-After is not waited for."""
_BUSY = (408, 425, 429, 500, 502, 503, 504)
_OFFLINE = ("LocalEntryNotFoundError", "OfflineModeIsEnabled", "IncompleteSnapshotError")


def patiently(call: Callable[[], Answer]) -> Answer:
    """Ask again, three times at most, where the hub is busy (408, 425, 429, 5xx); as long after as it says."""
    for wait in (*WAITS_S, None):
        try:
            return call()
        except Exception as error:
            asked = _retry_after(error)
            pause = wait if asked is None else asked
            if status_of(error) not in _BUSY or wait is None or pause is None or pause > LONGEST_WAIT_S:
                raise
            time.sleep(pause)
    raise AssertionError("the last attempt returns or raises")


def why(error: Exception, kind: Kind, name: str) -> str:
    """What went wrong with a repository, in one line that says what to do."""
    where = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    page = f"{where}/{'datasets/' if kind == 'dataset' else ''}{name}"
    status = status_of(error)
    local = "or give a local folder"
    if _errno(error, errno.ENOSPC, errno.EDQUOT):
        return f"{name}: no space is left on the disk of the hub's cache; free some, or set HF_HOME to another disk"
    if _errno(error, errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{name}: the hub's cache may not be written by this user; set HF_HOME to a folder that may"
    if said(error, "GatedRepoError"):
        return f"{name} is gated: ask for access at {page} and set HF_TOKEN to a token of that account"
    if said(error, "RevisionNotFoundError"):
        return f"{name} has lost the commit that was read before (its history was rewritten); plan anew, {local}"
    if said(error, "RemoteEntryNotFoundError"):
        return f"{name}: the hub at {where} lists a file that it has not got; try again later, {local}"
    if said(error, "RepositoryNotFoundError") or status in (401, 404):
        return f"{name} does not exist at {where}, or is private: check the id, or set HF_TOKEN to one that may read it"
    if status == 403:
        return f"{name} may not be read with this token: set HF_TOKEN to one that may, {local}"
    if status is not None:
        return f"{name}: the hub at {where} answered {status} to every attempt; try again later, {local}"
    if _chained(error, lambda one: "CERTIFICATE_VERIFY_FAILED" in str(one)):
        return f"{name}: the certificate of {where} is not trusted here; set SSL_CERT_FILE to your authority's, {local}"
    if said(error, *_OFFLINE, "ConnectError", "TimeoutException"):
        offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
        late = said(error, "TimeoutException")
        reached = f"the hub at {where} {'does not answer' if late else 'cannot be reached'}"
        cause = "HF_HUB_OFFLINE is set" if offline else reached
        return f"{name}: {cause}, and the cache does not hold all of it; check the connection and HF_ENDPOINT, {local}"
    first = " ".join(str(error).split())[:200]
    return f"{name} could not be fetched from {where} ({type(error).__name__}: {first}); check the connection, {local}"


def _chained(error: BaseException | None, test: Callable[[BaseException], Any]) -> Any:
    """The first true answer of `test` along an error and its causes."""
    while error is not None:
        if found := test(error):
            return found
        error = error.__cause__ or error.__context__
    return None


def _errno(error: Exception, *numbers: int) -> bool:
    return bool(_chained(error, lambda one: getattr(one, "errno", None) in numbers))


def said(error: Exception, *names: str) -> bool:
    """Whether an error or a cause of it is of a class so named: the client moves and renames them."""
    return bool(_chained(error, lambda one: any(base.__name__ in names for base in type(one).__mro__)))


def status_of(error: Exception) -> int | None:
    """The HTTP status that the hub answered with, None where it did not answer."""
    found = _chained(error, lambda one: getattr(getattr(one, "response", None), "status_code", None))
    return None if found is None else int(found)


def _retry_after(error: Exception) -> float | None:
    said = _chained(error, lambda one: getattr(getattr(one, "response", None), "headers", {}).get("Retry-After"))
    try:
        return None if said is None else max(0.0, float(said))
    except ValueError:
        return None
