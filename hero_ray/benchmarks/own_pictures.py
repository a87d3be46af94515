"""Pictures of one's own data, looked at before anything is answered: hashed and decoded on threads, in order."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from hero_ray.benchmarks import images
from hero_ray.benchmarks.picture_cells import file_of
from hero_ray.benchmarks.tables import ParquetTable, RowTable
from hero_ray.core.errors import ImageError

T = TypeVar("T")
LONGEST_NAME = 500
"""Longer texts are pictures, not names of files."""

SHOWN = 3
QUIET_S, EVERY_S = 3.0, 5.0
ENDS = 64 * 2**10


def with_pictures(rows_hash: str, table: RowTable, folder: Path) -> str:
    """A file's hash with that of the pictures its rows name by path, each once, by size and both ends of 64 KiB.

    An edited picture is encoded anew and differs there; reading 20,000 whole ones in every worker costs more than it
    tells. Of a Parquet file whose first picture is inside no other is looked at. Without any the hash stays.
    """
    digest, seen = hashlib.sha256(rows_hash.encode()), set[Path]()
    for _, row in table.rows(("image",)):
        path = file_of(row.get("image"), folder)
        if path is None and isinstance(table, ParquetTable) and not seen:
            return rows_hash
        if path is None or path in seen or not path.is_file():
            continue
        seen.add(path)
        with suppress(OSError), path.open("rb") as file:  # what cannot be read is said with its row
            size = os.fstat(file.fileno()).st_size
            digest.update(b"%d:" % size + file.read(ENDS))
            file.seek(max(0, size - ENDS))
            digest.update(file.read(ENDS))
    return digest.hexdigest()[:16] if seen else rows_hash


class Looker:
    """Reads every picture once; what cannot be used is kept with its row.

    Args:
        name: benchmark, for the progress lines.
        encoded: cell -> encoded bytes, raising ImageError.
        by_pixels: keys are of pixels instead of bytes.

    Attributes:
        broken: (row counted from 1, what is wrong), in order.
    """

    def __init__(
        self,
        name: str,
        encoded: Callable[[Any], bytes],
        by_pixels: bool = False,
        max_pixels: int = images.MAX_PIXELS,
        exif: images.ExifPolicy = "apply",
    ) -> None:
        self._name, self._encoded = name, encoded
        self._by_pixels, self._max_pixels, self._exif = by_pixels, max_pixels, exif
        self._known: dict[str, str] = {}
        self.broken: list[tuple[int, str]] = []

    def over(self, items: Iterable[T], cell: Callable[[T], Any]) -> Iterator[tuple[T, str | None]]:
        """Every item with the key of its picture, None for one that cannot be used; a few are read ahead."""
        threads = min(8, os.cpu_count() or 1)
        started = told = time.monotonic()
        waiting: deque[tuple[T, Future[tuple[str | None, str]]]] = deque()
        pool = ThreadPoolExecutor(threads, thread_name_prefix="pictures")
        seen = 0
        try:
            for item in items:
                waiting.append((item, pool.submit(self._look, cell(item))))
                if len(waiting) >= 4 * threads:
                    seen += 1
                    yield self._settled(seen, *waiting.popleft())
                    if (now := time.monotonic()) > max(started + QUIET_S, told + EVERY_S):
                        sys.stderr.write(f"{self._name}: {seen:,} pictures looked at\n")
                        told = now
            while waiting:
                seen += 1
                yield self._settled(seen, *waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)

    def report(self) -> str:
        """One line about what is broken, with the first few rows."""
        first = "; ".join(f"row {row}, column image: {why}" for row, why in self.broken[:SHOWN])
        more = f"; and {len(self.broken) - SHOWN} more" if len(self.broken) > SHOWN else ""
        return (
            f"{len(self.broken)} row{'s have' if len(self.broken) > 1 else ' has'} no usable picture ({first}{more}). "
            "Mend them, or give --keep-broken (keep_broken: true) to count them as failed samples"
        )

    def _settled(self, row: int, item: T, look: Future[tuple[str | None, str]]) -> tuple[T, str | None]:
        key, why = look.result()
        if why:
            self.broken.append((row, why))
        return item, key

    def _look(self, cell: Any) -> tuple[str | None, str]:
        try:
            data = self._encoded(cell)
            key = images.bytes_key(data)
            if key not in self._known:
                decoded = images.decode(data, self._max_pixels, self._exif)
                self._known[key] = images.pixels_key(decoded) if self._by_pixels else key
            return self._known[key], ""
        except ImageError as error:
            return None, str(error)
