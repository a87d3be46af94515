"""How much of a repository is still to be fetched, and how far a download is."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hero_ray.core.hub_errors import Kind
from hero_ray.core.text import in_bytes

EVERY_S = 10.0
"""Between two lines about a download."""


@dataclass(frozen=True)
class Download:
    """Files of a repository that the cache lacks.

    Attributes:
        files: how many; `of` with those that are there.
        size: their bytes.
        paths: their names in the repository.
        blobs: where the cache will keep each.
    """

    kind: Kind
    name: str
    files: int
    of: int
    size: int
    paths: tuple[str, ...] = ()
    blobs: tuple[Path, ...] = ()

    @property
    def said(self) -> str:
        """In words, as `dataset org/name: 1.2 GiB in 3 of 8 files`."""
        some = f"{self.files} of {self.of} files" if self.files < self.of else f"{self.of} file{'s' * (self.of != 1)}"
        return f"{self.kind} {self.name}: {in_bytes(self.size)} in {some}"


def missing(client: Any, kind: Kind, name: str, revision: str, patterns: Sequence[str]) -> Download:
    """What of these patterns is not in the cache, by the hub's listing of the revision.

    A file counts as cached where its content is, from whichever commit it came. Errors are the client's.
    """
    cache = Path(client.constants.HF_HUB_CACHE) / f"{kind}s--{name.replace('/', '--')}"
    here, blobs = cache / "snapshots" / revision, cache / "blobs"

    def chosen(paths: Iterable[str]) -> list[str]:
        return list(client.utils.filter_repo_objects(paths, allow_patterns=list(patterns)))

    noted = chosen(_noted(client, kind, name, revision))
    if noted and all((here / path).exists() for path in noted):
        return Download(kind, name, 0, len(noted), 0)  # nobody need be asked
    listed = client.HfApi().list_repo_tree(name, recursive=True, revision=revision, repo_type=kind)
    tree = {entry.path: entry for entry in listed if hasattr(entry, "blob_id")}
    wanted = chosen(tree)
    lacking = [path for path in wanted if not (here / path).exists() and not (blobs / _content(tree[path])).exists()]
    sizes = {blobs / _content(tree[path]): int(tree[path].size or 0) for path in lacking}
    return Download(kind, name, len(lacking), len(wanted), sum(sizes.values()), tuple(lacking), tuple(sizes))


def _noted(client: Any, kind: Kind, name: str, revision: str) -> list[str]:
    """Names that the client keeps of a commit it has fetched from; it drops there what the large files' content is."""
    try:
        return [entry.path for entry in client.get_cached_repo_tree(name, repo_type=kind, revision=revision)]
    except Exception:  # an older client keeps none, and this one has none of this commit
        return []


def _content(entry: Any) -> str:
    """What the cache names a file's content by."""
    return str(entry.lfs.sha256 if getattr(entry, "lfs", None) else entry.blob_id)


@contextmanager
def reported(download: Download, say: Callable[[str], None]) -> Iterator[None]:
    """Says what is fetched, every ten seconds how far it is (unless the client draws bars), and that it is done."""
    say(f"fetching {download.said}")
    started, over = time.perf_counter(), threading.Event()

    def watch() -> None:
        while not over.wait(EVERY_S):
            have = min(download.size, sum(map(_bytes_of, download.blobs)))
            share = have / download.size if download.size else 1.0
            say(f"fetched {in_bytes(have)} of {in_bytes(download.size)} of {download.name} ({share:.0%})")

    watcher = threading.Thread(target=watch, daemon=True)
    if not sys.stderr.isatty():
        watcher.start()
    try:
        yield
        say(f"fetched {download.name} in {time.perf_counter() - started:.0f} s")
    finally:
        over.set()
        if watcher.is_alive():
            watcher.join()


def _bytes_of(blob: Path) -> int:
    """Of a file that is there, or the largest of its parts so far."""
    found = [blob, *blob.parent.glob(f"{blob.name}.*incomplete")]
    return max((path.stat().st_size for path in found if path.exists()), default=0)
