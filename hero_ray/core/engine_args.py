"""How a vLLM engine runs: what `engine_args` may say. None of it is meant to change an answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from hero_ray.core.engines import OURS
from hero_ray.core.errors import ConfigError, ParameterError
from hero_ray.core.text import brief

OF_FREE = 0.9
"""Of the memory that the vision tower leaves free on a GPU, what vLLM is given."""


@dataclass(frozen=True)
class EngineArgs:
    """Settings of one engine; None leaves the choice to us or to vLLM.

    Attributes:
        max_model_len: longest prompt with its answer, in tokens; default: the model's context.
        max_num_seqs, max_num_batched_tokens: requests, and tokens, of one step at most.
        kv_cache_gib: GiB of key-value cache; default: 1 on a CPU, more where one full context needs it; on a GPU what
            the tower leaves.
        block_size: tokens of one block of the cache; prompts share whole blocks only. Default: 32 on a CPU.
        tensor_parallel_size, pipeline_parallel_size: devices that share each block, and that share the blocks out.
        cuda_graphs: capture decode steps on a GPU.
    """

    max_model_len: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    kv_cache_gib: float | None = None
    block_size: int | None = None
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    cuda_graphs: bool = True

    @classmethod
    def of(cls, given: Any) -> EngineArgs:
        """Checked settings.

        Raises:
            ParameterError: not a mapping, a setting nobody knows, or a value out of range.
        """
        if not isinstance(given, Mapping):
            raise ParameterError(f"engine_args is {brief(given)}; expected a mapping of {', '.join(_NAMES)}")
        if unknown := sorted(map(str, given.keys() - set(_NAMES))):
            raise ParameterError(f"engine_args has no {brief(unknown[0])}; it has {', '.join(_NAMES)}")
        for name, value in given.items():
            _check(name, value)
        return cls(**given)

    @classmethod
    def asked(cls, engine: str, given: Any) -> EngineArgs:
        """Settings for an engine that was asked for.

        Raises:
            ParameterError: as `of`, or any for our own blocks.
        """
        if engine == OURS and given is not None:
            raise ParameterError("engine_args are vLLM's; say engine=vllm or engine=auto too")
        return cls.of({} if given is None else given)

    def check_gpus(self, gpus: float) -> None:
        """Refuse a replica whose GPUs are not those its engine is shared out over.

        Args:
            gpus: of one replica; 0 on CPUs.

        Raises:
            ConfigError: naming both numbers.
        """
        if self.devices > 1 and gpus != self.devices:
            raise ConfigError(
                f"engine_args share each model over {self.devices} devices (tensor_parallel_size "
                f"{self.tensor_parallel_size} x pipeline_parallel_size {self.pipeline_parallel_size}), but "
                f"gpus_per_replica is {gpus:g}; expected gpus_per_replica: {self.devices}"
            )

    @property
    def devices(self) -> int:
        """Devices of one engine."""
        return self.tensor_parallel_size * self.pipeline_parallel_size


_NAMES = tuple(field.name for field in fields(EngineArgs))


def _check(name: str, value: Any) -> None:
    if name == "cuda_graphs":
        fine, expected = isinstance(value, bool), "true or false"
    elif name == "kv_cache_gib":
        fine = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")
        expected = "a number of GiB above 0"
    else:
        fine, expected = isinstance(value, int) and not isinstance(value, bool) and value >= 1, "a whole number from 1"
    if not fine:
        raise ParameterError(f"engine_args {name} = {brief(value)}; expected {expected}")
