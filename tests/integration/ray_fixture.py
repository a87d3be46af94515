"""One local Ray for all tests of a session that need it; starting it costs five to ten seconds."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    from hero_ray.core.secret import NAMES
    from hero_ray.pipeline.cluster import connected

    with pytest.MonkeyPatch.context() as patch:
        for name in NAMES:
            patch.setenv(name, "read:a-secret-of-its-own")  # test_local_ray_guard looks for it in a worker
        started = connected(None)
        started.__enter__()
        assert all(name in os.environ for name in NAMES)
    with contextlib.ExitStack() as end:
        end.push(started)
        yield
