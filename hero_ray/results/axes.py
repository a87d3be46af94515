"""The costs that accuracy is held against: one table. A new cost is one line here, and a column where it is stored."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hero_ray.core.errors import UnknownNameError

Units = tuple[tuple[float, str], ...]
_PLAIN: Units = ((1.0, ""),)
_FLOPS: Units = ((1.0, "FLOPs"), (1e6, "MFLOPs"), (1e9, "GFLOPs"), (1e12, "TFLOPs"))
_BYTES: Units = ((1.0, "bytes"), (2.0**10, "KiB"), (2.0**20, "MiB"), (2.0**30, "GiB"))


@dataclass(frozen=True)
class Axis:
    """One cost.

    Attributes:
        name: as options and links write it.
        short: on a button.
        title: what it is, the unit left out.
        source: field of a stored point; `profile.FIELD` where it was measured.
        units: (factor, name) from the base unit to the largest.
        printed: field of a point printed in a paper, and its factor to our base unit; None where papers give nothing.
        higher_is_cheaper: a rate.
    """

    name: str
    short: str
    title: str
    source: str
    units: Units = _PLAIN
    printed: tuple[str, float] | None = None
    higher_is_cheaper: bool = False

    @property
    def measured(self) -> bool:
        """Whether it was timed, so that only equal certificates may share the axis."""
        return self.source.startswith("profile.")

    @property
    def label(self) -> str:
        """Title with the base unit, as tables of plain numbers head it."""
        return self.headed(self.units[0][1])

    def headed(self, unit: str) -> str:
        return f"{self.title}, {unit}" if unit else self.title

    def unit(self, values: Iterable[float | None]) -> tuple[float, str]:
        """The unit that suits these values: the largest that leaves their maximum above 1."""
        largest = max((abs(value) for value in values if value is not None), default=0.0)
        return next((unit for unit in reversed(self.units) if largest >= unit[0]), self.units[0])

    def saved(self, cost: float | None, full: float | None) -> float | None:
        """Percent of the unpruned model's cost that is saved, or of its rate that is gained; None where not known."""
        if cost is None or not full:
            return None
        return 100 * (cost / full - 1 if self.higher_is_cheaper else 1 - cost / full)

    def cost(self, row: Any) -> float | None:
        """A stored point's cost in the base unit; None where it is not known."""
        held, _, field = self.source.rpartition(".")
        value = row.profile.get(field) if held else getattr(row, field)
        return None if value is None or not math.isfinite(value) else float(value)

    def printed_cost(self, point: Any) -> float | None:
        """The same for a point printed in a paper."""
        value = getattr(point, self.printed[0]) if self.printed else None
        return None if value is None or self.printed is None else float(value) * self.printed[1]


_MS: Units = ((1.0, "ms"),)
_TOKENS = ("tokens", 1.0)

AXES: Mapping[str, Axis] = {
    axis.name: axis
    for axis in (
        Axis("tokens", "Tokens", "visual tokens entering the LLM", "n_visual_llm", printed=_TOKENS),
        Axis("equivalent_tokens", "Equivalent tokens", "visual tokens alive, mean over layers", "equivalent_tokens",
             printed=_TOKENS),
        Axis("retention", "Ratio", "share of visual tokens kept", "retention_ratio", ((1.0, ""), (0.01, "%")),
             ("budget", 1.0)),
        Axis("flops", "FLOPs", "computation per answer", "flops", _FLOPS, ("tflops", 1e12)),
        Axis("encode_flops", "Encode FLOPs", "of it before the LLM", "encode_flops", _FLOPS),
        Axis("kv", "KV cache", "KV cache after prefill", "kv_bytes", _BYTES, ("kv_mib", 2.0**20)),
        Axis("ttft", "TTFT", "time to first token", "profile.ttft_ms_p50", _MS),
        Axis("ttft_p95", "TTFT p95", "time to first token, 95th percentile", "profile.ttft_ms_p95", _MS),
        Axis("tpot", "TPOT", "time per output token", "profile.tpot_ms_p50", _MS),
        Axis("prefill", "Prefill", "prefill", "profile.prefill_ms", _MS),
        Axis("decode", "Decode speed", "decode speed", "profile.decode_tokens_per_s", ((1.0, "tokens/s"),),
             higher_is_cheaper=True),
        Axis("memory", "Memory", "peak device memory", "profile.peak_memory_bytes", _BYTES),
    )
}  # fmt: skip


def axis(name: str) -> Axis:
    """A cost axis by name.

    Raises:
        UnknownNameError: no such axis.
    """
    if name not in AXES:
        raise UnknownNameError("cost axis", name, AXES)
    return AXES[name]
