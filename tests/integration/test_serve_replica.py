"""A replica without Ray: what it goes on with when a caller leaves."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

pytest.importorskip("ray.serve")

from hero_ray.serve.replica import ModelReplica
from hero_ray.serve.settings import ServeSettings


def test_a_model_is_loaded_to_its_end_whoever_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """`/readyz` waits five seconds; on a busy machine loading takes longer, and each look began it anew."""
    begun, go, ended = threading.Event(), threading.Event(), threading.Event()

    def load(_: str) -> Any:
        begun.set()
        assert go.wait(60)
        ended.set()
        return object()

    async def leave() -> None:
        replica = ModelReplica(ServeSettings())
        monkeypatch.setattr(replica._engine, "load", load)
        asked = asyncio.create_task(replica.ready("hero-tiny"))
        assert await asyncio.to_thread(begun.wait, 60)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        (loading,) = replica._working
        assert not loading.done()
        go.set()
        await loading
        assert ended.is_set()

    asyncio.run(leave())
