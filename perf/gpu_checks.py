"""What `perf.gpu_tables` checks beside the printed tables: memory against its forecast, and answers in batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hero_ray.costs.costs import ELEMENT_BYTES
from hero_ray.costs.memory import MemoryForecast, batch_memory
from hero_ray.models.invariance import certify
from hero_ray.models.registry import tower_of
from hero_ray.profiling.job import make_probes

GB = 1e9
SAMPLES, NEW_TOKENS = 8, 8


def forecast_of(adapter: Any, views: int, record: Mapping[str, Any]) -> MemoryForecast:
    """Memory of the requests behind one profile record, each computed whole, from sizes alone."""
    info = adapter.info
    return batch_memory(
        info.language,
        info.vision,
        views=views,
        visual=round(record["tokens"]),
        prefix=0,
        suffix=round(record["details"]["n_text"]),
        room=record["new_tokens"],
        rows=record["batch_size"],
        element=ELEMENT_BYTES[info.dtype],
        tower=tower_of(info.family),
    )


def memory_table(adapter: Any, image: tuple[int, int], records: Sequence[Mapping[str, Any]]) -> str:
    """Forecast and measured peaks in GB, and the second over the first; `n/a` where nothing was measured.

    Args:
        image: (width, height) of the picture behind the records; stock's are left out, it holds other buffers.
    """
    (probe,) = make_probes([image], "")
    views = len(adapter.prepare(probe.image).pixels)
    lines = [
        "|Row|Requests|Forecast GB|of it weights|Measured GB|Measured / forecast|",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for record in records:
        if record["method"] == "stock":
            continue
        forecast, peak = forecast_of(adapter, views, record), record["peak_memory_bytes"]
        measured = ("n/a", "n/a") if peak is None else (f"{peak / GB:.3f}", f"{peak / forecast.peak:.3f}")
        expected = f"{forecast.peak / GB:.3f}|{forecast.weights / GB:.3f}"
        lines.append(f"|{record['key']}|{record['batch_size']}|{expected}|{'|'.join(measured)}|")
    return "\n".join(lines)


def invariance_line(adapter: Any) -> str:
    """How often answers change with what they are batched with, in one line."""
    found = certify(adapter, SAMPLES, NEW_TOKENS)
    changed = ", ".join(f"{getattr(found, name):.0%} {name}" for name in ("batched", "neighbours", "shared"))
    return (
        f"{found.model} in {found.dtype} on {found.device}: of {found.samples} answers of {found.new_tokens} tokens "
        f"changed {changed}; first-token logits moved by {found.logit_diff:.2g} at a spread of {found.logit_std:.2g}"
    )
