"""Starting vLLM in this process, beside a vision tower that already stands: what it must be told, and kept from doing.

In-process, because a worker that hangs past its deadline ends with `os._exit`: an engine in a process of its own would
stay behind with its memory.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from hero_ray.core.engine_args import OF_FREE, EngineArgs
from hero_ray.core.errors import (
    CheckpointError,
    DeviceMemoryError,
    HeroRayError,
    MissingExtraError,
    ParameterError,
    ReplicaError,
)
from hero_ray.models.base import ModelInfo
from hero_ray.models.engines.vllm import VllmDecoder, decoder
from hero_ray.models.engines.weights import FOLDER, architecture, register
from hero_ray.models.heads import windows

if TYPE_CHECKING:
    from hero_ray.models.family import FamilyAdapter

log = logging.getLogger(__name__)

CPU_BLOCK = 32
"""Smallest block of vLLM's CPU attention. Its default of 128 shares nothing between prompts of a pruned picture."""

CPU_HEADS = (32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)
"""Widths of heads that vLLM's CPU attention has; with others it starts, and fails at the first prompt. Its compiled
operator was asked: 48 is there (`hero-tiny` has it), though vLLM's own list in Python leaves it out."""

ENVIRONMENT = {
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # else all cores, or in every actor the same one
    "VLLM_LOGGING_LEVEL": "ERROR",  # else a dozen warnings that name no trouble of the user's
    "VLLM_NO_USAGE_STATS": "1",  # else it reports to its makers
    "VLLM_CONFIGURE_LOGGING": "1",
}
"""What is set before vLLM is imported, unless the user has."""


def start_vllm(adapter: FamilyAdapter, folder: Path, settings: EngineArgs) -> VllmDecoder:
    """A decoder over a vLLM engine that holds the adapter's language model, read from `folder`.

    Raises:
        MissingExtraError: vLLM cannot be imported.
        CheckpointError: a language model that it has no attention for.
        ParameterError: several stages on a CPU.
        DeviceMemoryError: the device has no room for weights and cache beside the tower.
        ReplicaError: vLLM does not start.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    check_heads(adapter.info)
    check_stages(adapter.info.device, settings)
    text = adapter.model.config.text_config
    context = longest(adapter, settings)
    with tempfile.TemporaryDirectory(prefix="hero-ray-") as home, untouched():
        write_config(text, folder, Path(home))
        arguments = engine_arguments(adapter, settings, context) | {"model": home}
        # Modules keep errors of their imports for good, and with them all frames below: in a thread none of ours, which
        # hold the adapter.
        with ThreadPoolExecutor(1) as apart:
            llm, parameters, kinds = apart.submit(_imported).result()
        try:
            engine = llm(**arguments).llm_engine
        except HeroRayError:
            raise
        except Exception as error:
            raise _named(error) from error

    def sampling(growing: bool, **options: Any) -> Any:
        return parameters(output_kind=kinds.DELTA if growing else kinds.FINAL_ONLY, **options)

    return decoder(engine, sampling, adapter, context)


def _imported() -> tuple[Any, Any, Any]:
    """vLLM's `LLM`, `SamplingParams` and `RequestOutputKind`, our classes known to it.

    Raises:
        MissingExtraError: it cannot be imported.
    """
    try:
        from vllm import LLM, SamplingParams
        from vllm.sampling_params import RequestOutputKind
    except ImportError as error:
        log.warning("vLLM cannot be imported: %s", error)
        raise MissingExtraError("vllm", "vllm") from error
    register()
    return LLM, SamplingParams, RequestOutputKind


def check_heads(info: ModelInfo) -> None:
    """Refuse a language model that vLLM's CPU attention would fail on.

    Raises:
        CheckpointError: its heads have a width that is not there.
    """
    if info.device == "cpu" and info.language.head_dim not in CPU_HEADS:
        raise CheckpointError(
            f"the heads of {info.name}'s language model are {info.language.head_dim} wide; vLLM's CPU attention has "
            f"{', '.join(map(str, CPU_HEADS))}. Use engine=ours"
        )


def check_stages(device: str, settings: EngineArgs) -> None:
    """Refuse stages where vLLM's later ones would fail on the first prompt.

    vLLM makes the place of what a stage is handed in a trial pass, which a CPU without compilation leaves out (0.32.0).

    Raises:
        ParameterError: several stages on a CPU.
    """
    if device == "cpu" and settings.pipeline_parallel_size > 1:
        raise ParameterError(
            f"pipeline_parallel_size {settings.pipeline_parallel_size}: on a CPU vLLM's stages behind the first fail "
            "on their first prompt. Use tensor_parallel_size, or one process"
        )


def longest(adapter: FamilyAdapter, settings: EngineArgs) -> int:
    """The longest prompt with its answer that the engine takes and answers as our blocks do.

    A long-context Phi-3 turns its positions otherwise beyond a point. Our blocks look at each prompt's length, vLLM at
    the longest it could be asked: held to that point, the two agree, and longer prompts are refused.
    """
    bounds = (adapter.info.context, settings.max_model_len, adapter.runner.turning)
    return min(bound for bound in bounds if bound is not None)


def write_config(text: Any, folder: Path, home: Path) -> None:
    """The one file that vLLM reads: the language model's configuration, its class, and where its weights are."""
    said = text.to_dict() | {"architectures": [architecture(text.model_type)], FOLDER: str(folder.resolve())}
    if not any(windows(text, text.num_hidden_layers)):  # vLLM's Qwen goes by the width alone, not by its blocks' kinds
        said |= {"sliding_window": None, "layer_types": None}
    rope = dict(said.get("rope_parameters") or {})
    if rope.get("rope_type") == "dynamic":
        # It begins beyond the context, which no prompt passes; vLLM would scale every prompt.
        said["rope_parameters"] = {"rope_type": "default", "rope_theta": rope["rope_theta"]}
        said.pop("rope_scaling", None)
    (home / "config.json").write_text(json.dumps(said, default=str), encoding="utf-8")


def engine_arguments(adapter: FamilyAdapter, settings: EngineArgs, context: int) -> dict[str, Any]:
    """Arguments of `vllm.LLM`, the folder of its configuration apart."""
    on_cpu = adapter.info.device == "cpu"
    said: dict[str, Any] = {
        "dtype": adapter.info.dtype,
        "max_model_len": context,
        "skip_tokenizer_init": True,
        "enable_prompt_embeds": True,
        "enable_prefix_caching": True,
        "generation_config": "vllm",  # else a folder's own sampling defaults come in
        "enforce_eager": on_cpu or not settings.cuda_graphs,
        "block_size": settings.block_size or (CPU_BLOCK if on_cpu else None),
        "tensor_parallel_size": settings.tensor_parallel_size,
        "pipeline_parallel_size": settings.pipeline_parallel_size,
        "max_num_seqs": settings.max_num_seqs,
        "max_num_batched_tokens": settings.max_num_batched_tokens,
        "disable_log_stats": True,
    }
    if on_cpu or settings.kv_cache_gib is not None:
        said["kv_cache_memory_bytes"] = cache_bytes(adapter, settings, context)
    else:
        free, total = torch.cuda.mem_get_info()
        said["gpu_memory_utilization"] = round(OF_FREE * free / total, 3)
    return {name: value for name, value in said.items() if value is not None}


def cache_bytes(adapter: FamilyAdapter, settings: EngineArgs, context: int) -> int:
    """Bytes of the key-value cache: what was asked for, else 1 GiB, or two full contexts where that is more."""
    if settings.kv_cache_gib is not None:
        return int(settings.kv_cache_gib * 2**30)
    shape = adapter.info.language
    per_token = 2 * shape.num_layers * shape.num_kv_heads * shape.head_dim * adapter.model.dtype.itemsize
    return max(2**30, 2 * context * per_token)


@contextmanager
def untouched() -> Iterator[None]:
    """Keep what vLLM changes for the whole process: it seeds torch, and makes `torch.set_num_threads` a no-op."""
    setter, threads = torch.set_num_threads, torch.get_num_threads()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            torch.set_num_threads = setter
            if torch.get_num_threads() != threads:
                torch.set_num_threads(threads)


def _named(error: Exception) -> HeroRayError:
    why = " ".join(str(error).split())[:400]
    if "memory" in why.lower():
        return DeviceMemoryError(
            f"vLLM found no room for the language model beside the vision tower: {why}; lower engine_args "
            "max_model_len or kv_cache_gib, or share the model out with tensor_parallel_size"
        )
    return ReplicaError(f"vLLM does not start: {type(error).__name__}: {why}")
