"""Numbers on their way between a database and arrays, many in one value: rows take several times as long."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def array(numbers: Iterable[int]) -> str:
    """Numbers as PostgreSQL reads them behind `CAST(%s AS int[])`."""
    return f"{{{','.join(map(str, numbers))}}}"


def integers(packed: bytes | memoryview | str | None) -> NDArray[np.int64]:
    """What `string_agg(int8send(...))` of PostgreSQL packed, in big-endian order, or `group_concat` of SQLite listed;
    None is none."""
    if isinstance(packed, str):
        return np.fromstring(packed, dtype=np.int64, sep=",")
    return np.frombuffer(bytes(packed or b""), dtype=">i8").astype(np.int64)


def floats(packed: bytes | memoryview | None) -> NDArray[np.float64]:
    """What `string_agg(float8send(...))` packed; None is none."""
    return np.frombuffer(bytes(packed or b""), dtype=">f8").astype(float)
