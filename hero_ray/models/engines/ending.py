"""The end of a vLLM in a process that goes on, with other vLLMs in it or without."""

from __future__ import annotations

import gc
from typing import Any


def end_vllm(engine: Any) -> None:
    """End an engine: its workers go now, weights and cache when the last who holds it lets go.

    vLLM's own ending closes the process groups of the process, which all engines there share: the next step of another
    one would fail. They are left to the process.

    Args:
        engine: `vllm.LLMEngine`, in this process; it is asked no more.
    """
    client = engine.engine_core
    client._finalizer.detach()  # it would end the engine in vLLM's own way
    client.engine_core.model_executor.shutdown()
    client.engine_core.scheduler.shutdown()
    gc.unfreeze()  # else nothing of what stood when it started, its weights too, would ever be collected
