"""The hub, asked once: which commit a repository stands at, and files of that commit.

A plan resolves every repository it reads and hands the commits to the workers (`pinned`, `pin`); a pinned repository
is read from the cache without a request, and what it lacks is fetched at that very commit. Without pins the newest
commit is asked for, and the cache's own where the hub cannot be reached.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from hero_ray.core.errors import HubError, MissingExtraError
from hero_ray.core.hub_errors import Kind, patiently, said, status_of, why
from hero_ray.core.hub_sizes import Download, missing, reported

TIMEOUT_S = 15.0

_pins: dict[str, str] = {}
_recorded: list[dict[str, str]] = []
_looking: list[list[Download]] = []
_silence: list[Exception] = []
_say: list[Callable[[str], None]] = []


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


@contextmanager
def looking() -> Iterator[list[Download]]:
    """Inside, nothing is fetched but the small files that come first: a configuration, a card. What more would be is
    listed in what this yields, and not to have it is a `HubError`."""
    wanted: list[Download] = []
    _looking.append(wanted)
    try:
        yield wanted
    finally:
        _looking.remove(wanted)
        _silence.clear()


@contextmanager
def reporting(say: Callable[[str], None]) -> Iterator[None]:
    """Inside, downloads tell their size and how far they are."""
    _say.append(say)
    try:
        yield
    finally:
        _say.remove(say)


def is_looking() -> bool:
    """Whether nothing large may be fetched now."""
    return bool(_looking)


def snapshot(kind: Kind, name: str, first: Sequence[str], then: Callable[[Path], Sequence[str]]) -> Path:
    """The folder of a repository's files, all of one commit.

    Args:
        first: patterns fetched before anything else.
        then: told the folder with those; the patterns of the rest, or an error if the rest is not worth fetching.

    Raises:
        HubError: no such repository, no access to it, or it is neither at hand nor to be reached.
    """
    key = f"{kind}:{name}"
    commit, silence = _pins.get(key), None
    if commit is None:
        newest, silence = _newest(kind, name)
        # By its hash it leaves no mark of the newest commit in a cache that may hold only an older one whole.
        commit = newest if _looking else None
    with _unheard(silence, kind, name):
        folder = _download(kind, name, first, commit, silence is not None)
    commit = folder.name if len(folder.name) == 40 else commit
    if commit is not None:
        for record in _recorded:
            record[key] = _pins[key] = commit
    rest = then(folder)
    with _unheard(silence, kind, name):
        return fetch(kind, name, commit, rest, silence is not None) if rest else folder


@contextmanager
def _unheard(silence: Exception | None, kind: Kind, name: str) -> Iterator[None]:
    """What the cache lacks of a repository whose hub did not answer is missing for that reason."""
    try:
        yield
    except HubError as error:
        raise (error if silence is None else HubError(why(silence, kind, name))) from error


def fetch(kind: Kind, name: str, commit: str | None, patterns: Sequence[str], is_local: bool = False) -> Path:
    """The folder of a repository, which then has the files of these patterns.

    Args:
        is_local: the hub cannot be reached: the cache's own.

    Raises:
        HubError: they are not to be had, or (`looking`) not at hand.
    """
    lacks = None
    if commit is not None and not is_local and (_looking or _say):
        lacks = _missing(kind, name, commit, patterns)
    if lacks is not None and lacks.files and _looking:
        _looking[-1].append(lacks)
        raise HubError(f"{lacks.said} not in the cache yet", unfetched=True)
    with reported(lacks, _say[-1]) if lacks is not None and lacks.files and _say else nullcontext():
        return _download(kind, name, patterns, commit, is_local or bool(_looking))


def at(kind: Kind, name: str, revision: str, patterns: Sequence[str]) -> Path:
    """The folder of another revision, such as a pull request's; pinned from then on."""
    folder = fetch(kind, name, revision, patterns)
    for record in _recorded:
        record[f"{kind}:{name}"] = _pins[f"{kind}:{name}"] = folder.name
    return folder


def _newest(kind: Kind, name: str) -> tuple[str | None, Exception | None]:
    """(newest commit or None, why the hub does not answer or None); its refusals are raised."""
    if _silence:
        return None, _silence[0]
    api = client().HfApi()
    try:
        found = patiently(lambda: api.repo_info(name, repo_type=kind, timeout=TIMEOUT_S))
    except Exception as error:
        if said(error, "HFValidationError"):
            raise HubError(f"{name}: neither a folder nor an id of the hub", absent=True) from error
        if status_of(error) is None:  # no connection, a time-out, offline by wish: what the cache holds will do
            if _looking:
                _silence.append(error)  # a plan over many repositories waits for a dead hub once
            return None, error
        if said(error, "RepositoryNotFoundError") and not said(error, "GatedRepoError"):
            raise HubError(why(error, kind, name), absent=True) from error
        return None, None  # whatever else it said, it will say again where files are fetched, if the cache lacks them
    return found.sha, None


def _missing(kind: Kind, name: str, revision: str, patterns: Sequence[str]) -> Download | None:
    """What the cache lacks; None where nobody can say: then the files are there, or fetching them says why not."""
    try:
        return patiently(lambda: missing(client(), kind, name, revision, patterns))
    except MissingExtraError:
        raise
    except Exception:  # the client's error types changed with its versions
        return None


def _download(kind: Kind, name: str, patterns: Sequence[str], commit: str | None, is_local: bool) -> Path:
    options: dict[str, Any] = {} if commit is None else {"revision": commit}
    if kind == "dataset":
        options["repo_type"] = kind
    if is_local:
        options["local_files_only"] = True
    wanted = list(patterns)
    try:
        return Path(patiently(lambda: client().snapshot_download(name, allow_patterns=wanted, **options)))
    except Exception as error:  # the client's error types changed with its versions
        raise HubError(why(error, kind, name)) from error


def client() -> Any:
    """The hub's own library, which waits for no silent hub longer than `TIMEOUT_S`: by itself it waits for ever.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingExtraError("huggingface_hub", "hub") from error
    hooks = getattr(huggingface_hub.get_session(), "event_hooks", None)
    if hooks is not None and _impatient not in hooks.setdefault("request", []):
        hooks["request"].append(_impatient)
    return huggingface_hub


def _impatient(request: Any) -> None:
    """Bounds the waits that the client leaves unbounded; each page of a listing says itself that it has no limit."""
    bounds = request.extensions.setdefault("timeout", {})
    for part in ("connect", "read"):
        if bounds.get(part) is None:
            bounds[part] = TIMEOUT_S
