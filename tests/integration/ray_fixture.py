"""One local Ray for all tests of a session that need it; starting it costs five to ten seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    from hero_ray.pipeline.cluster import connected

    with connected(None):
        yield
