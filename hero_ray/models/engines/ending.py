"""The end of a vLLM in a process that goes on, with other vLLMs in it or without.

vLLM's own ending closes the process groups of its process, which all engines there share: the next step of another one
would fail. It is left to the last.
"""

from __future__ import annotations

import gc
from threading import Lock
from typing import Any
from weakref import WeakSet

_STANDING: WeakSet[Any] = WeakSet()
_ONE = Lock()


def began(engine: Any) -> None:
    """Note an engine that has started in this process."""
    _STANDING.add(engine)


def end_vllm(engine: Any) -> None:
    """End an engine: its workers go now, weights and cache when the last who holds it lets go.

    Args:
        engine: `vllm.LLMEngine`, in this process; it is asked no more.
    """
    client = engine.engine_core
    with _ONE:
        _STANDING.discard(engine)
        if _STANDING:
            client._finalizer.detach()  # it would end the engine in vLLM's own way
            client.engine_core.model_executor.shutdown()
            client.engine_core.scheduler.shutdown()
        else:
            client.shutdown()
        gc.unfreeze()  # else nothing of what stood when it started, its weights too, would ever be collected
