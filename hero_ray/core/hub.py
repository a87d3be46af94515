"""The hub, asked once: which commit a repository stands at, files of that commit, and errors said in one true line.

A plan resolves every repository it reads and hands the commits to the workers (`pinned`, `pin`); a pinned repository
is read from the cache without a request, and what it lacks is fetched at that very commit. Without pins the newest
commit is asked for, and the cache's own where the hub cannot be reached.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

from hero_ray.core.errors import HubError, MissingExtraError

Kind = Literal["model", "dataset"]
Answer = TypeVar("Answer")

TIMEOUT_S = 15.0
WAITS_S = (1.0, 2.0, 4.0)
LONGEST_WAIT_S = 60.0
"""A hub that asks for more patience than this by Retry-After is not waited for."""
_BUSY = (408, 425, 429, 500, 502, 503, 504)

_pins: dict[str, str] = {}
_recorded: list[dict[str, str]] = []


def pin(commits: Mapping[str, str]) -> None:
    """From here on this process reads these repositories at these commits: {"model:ID" or "dataset:ID": commit}."""
    _pins.update(commits)


@contextmanager
def pinned(commits: Mapping[str, str] | None = None) -> Iterator[dict[str, str]]:
    """Inside, every repository is resolved once; yields the commits, growing as repositories are opened."""
    before = dict(_pins)
    known: dict[str, str] = dict(commits or {})
    _pins.update(known)
    _recorded.append(known)
    try:
        yield known
    finally:
        _recorded.remove(known)
        _pins.clear()
        _pins.update(before)


def snapshot(kind: Kind, name: str, first: Sequence[str], then: Callable[[Path], Sequence[str]]) -> Path:
    """The folder of a repository's files, all of one commit.

    Args:
        first: patterns fetched before anything else.
        then: told the folder with those; the patterns of the rest, or an error if the rest is not worth fetching.

    Raises:
        HubError: no such repository, no access to it, or it is neither at hand nor to be reached.
    """
    key = f"{kind}:{name}"
    commit = _pins.get(key)
    is_local = commit is None and not _reachable(kind, name)
    folder = _download(kind, name, first, commit, is_local)
    commit = folder.name if len(folder.name) == 40 else commit
    if commit is not None:
        for record in _recorded:
            record[key] = _pins[key] = commit
    rest = then(folder)
    return _download(kind, name, rest, commit, is_local) if rest else folder


def at(kind: Kind, name: str, revision: str, patterns: Sequence[str]) -> Path:
    """The folder of another revision, such as a pull request's; pinned from then on."""
    folder = _download(kind, name, patterns, revision, is_local=False)
    for record in _recorded:
        record[f"{kind}:{name}"] = _pins[f"{kind}:{name}"] = folder.name
    return folder


def _reachable(kind: Kind, name: str) -> bool:
    """Whether the hub answers for this repository; its refusals are raised."""
    api = _client().HfApi()
    try:
        patiently(lambda: api.repo_info(name, repo_type=kind, timeout=TIMEOUT_S))
    except Exception as error:
        if _said(error, "HFValidationError"):
            raise HubError(f"{name}: neither a folder nor an id of the hub", absent=True) from error
        if _status(error) is None:
            return False  # no connection, a time-out, offline by wish: what the cache holds will do
        if _said(error, "RepositoryNotFoundError") and not _said(error, "GatedRepoError"):
            raise HubError(why(error, kind, name), absent=True) from error
    return True  # whatever else it said, it will say again where files are fetched, if the cache has not got them


def _download(kind: Kind, name: str, patterns: Sequence[str], commit: str | None, is_local: bool) -> Path:
    options: dict[str, Any] = {} if commit is None else {"revision": commit}
    if kind == "dataset":
        options["repo_type"] = kind
    if is_local:
        options["local_files_only"] = True
    wanted = list(patterns)
    try:
        return Path(patiently(lambda: _client().snapshot_download(name, allow_patterns=wanted, **options)))
    except Exception as error:  # the client's error types changed with its versions
        raise HubError(why(error, kind, name)) from error


def _client() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingExtraError("huggingface_hub", "hub") from error
    return huggingface_hub


def patiently(call: Callable[[], Answer]) -> Answer:
    """Ask again, three times at most, where the hub is busy (408, 425, 429, 5xx); as long after as it says."""
    for wait in (*WAITS_S, None):
        try:
            return call()
        except Exception as error:
            asked = _retry_after(error)
            pause = wait if asked is None else asked
            if _status(error) not in _BUSY or wait is None or pause is None or pause > LONGEST_WAIT_S:
                raise
            time.sleep(pause)
    raise AssertionError("the last attempt returns or raises")


def why(error: Exception, kind: Kind, name: str) -> str:
    """What went wrong with a repository, in one line that says what to do."""
    where = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    page = f"{where}/{'datasets/' if kind == 'dataset' else ''}{name}"
    status = _status(error)
    local = "or give a local folder"
    if _chained(error, lambda one: getattr(one, "errno", None) == errno.ENOSPC):
        return f"{name}: no space is left on the disk of the hub's cache; free some, or set HF_HOME to another disk"
    if _said(error, "GatedRepoError"):
        return f"{name} is gated: ask for access at {page} and set HF_TOKEN to a token of that account"
    if _said(error, "RepositoryNotFoundError") or status in (401, 404):
        return f"{name} does not exist at {where}, or is private: check the id, or set HF_TOKEN to one that may read it"
    if status == 403:
        return f"{name} may not be read with this token: set HF_TOKEN to one that may, {local}"
    if status is not None:
        return f"{name}: the hub at {where} answered {status} to every attempt; try again later, {local}"
    if _said(error, "IncompleteSnapshotError") or _said(error, "LocalEntryNotFoundError", "OfflineModeIsEnabled"):
        offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
        cause = "HF_HUB_OFFLINE is set" if offline else f"the hub at {where} cannot be reached"
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


def _said(error: Exception, *names: str) -> bool:
    return bool(_chained(error, lambda one: any(base.__name__ in names for base in type(one).__mro__)))


def _status(error: Exception) -> int | None:
    found = _chained(error, lambda one: getattr(getattr(one, "response", None), "status_code", None))
    return None if found is None else int(found)


def _retry_after(error: Exception) -> float | None:
    said = _chained(error, lambda one: getattr(getattr(one, "response", None), "headers", {}).get("Retry-After"))
    try:
        return None if said is None else max(0.0, float(said))
    except ValueError:
        return None
