"""Profile records: one JSON-able dict per method and budget, with the columns of table `profiles`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from hero_ray.costs.ledger import TERA, AnswerCost, answer_cost
from hero_ray.profiling import requests, stock
from hero_ray.profiling.certificate import Certificate
from hero_ray.profiling.counter import relative_difference
from hero_ray.profiling.marks import percentile
from hero_ray.profiling.memory import PhaseMemory
from hero_ray.profiling.requests import Probe, ProfileItem
from hero_ray.profiling.roofline import Peaks, phase_rooflines
from hero_ray.profiling.survey import Survey
from hero_ray.profiling.timing import StageTimes


@dataclass(frozen=True)
class ProfileSettings:
    """How to measure: answers of exactly `new_tokens` tokens, `repeats` timed runs of every picture.

    Attributes:
        energy: also measure joules per request, where the device has a counter.
        peaks: the device's measured peaks; with them every record gets its rooflines.
        stock: time transformers' own `generate()` as one more, interleaved contender.
    """

    batch_size: int = 1
    new_tokens: int = 8
    warmup: int = 2
    repeats: int = 5
    energy: bool = False
    peaks: Peaks | None = None
    stock: bool = False


def record(
    adapter: Any,
    item: ProfileItem,
    surveys: Sequence[Survey],
    times: StageTimes,
    settings: ProfileSettings,
    certificate: Certificate,
    joules: float | None,
) -> dict[str, Any]:
    """The figures of one item: medians over its runs, means of its pictures' counts, the worst of its peaks."""
    memory = max((entry.memory for entry in surveys), key=lambda memory: memory.peak_bytes or 0)
    return {
        **_subject(adapter, item, settings),
        **({} if item.tokens is None else {"retention_ratio": _mean([entry.ratio for entry in surveys])}),
        "tokens": _mean([entry.visual_per_layer[0] for entry in surveys]),
        **_costs([entry.cost for entry in surveys]),
        "kv_bytes": _mean([entry.kv_bytes for entry in surveys]),
        "peak_memory_bytes": memory.peak_bytes,
        "encode_ms": times.at(0.5, "encode"),
        "select_ms": times.at(0.5, "select"),
        "prefill_ms": times.at(0.5, "prefill"),
        "ttft_ms_p50": times.at(0.5, *requests.STAGES[:3]),
        "ttft_ms_p95": times.at(0.95, *requests.STAGES[:3]),
        **_decode(times.at(0.5, "decode"), settings),
        "n": times.n,
        "certificate": certificate.as_dict(),
        "certificate_hash": certificate.hash,
        "details": {
            **_counts(surveys),
            **_whole(times.together(*requests.STAGES), settings),
            "stage_ms_p95": {stage: times.at(0.95, stage) for stage in requests.STAGES},
            "memory": _memory(memory),
            "joules": joules,
            **_roofline(adapter, surveys[0], times, settings),
        },
    }


def stock_record(
    adapter: Any, probes: Sequence[Probe], times: StageTimes, settings: ProfileSettings, ours: Certificate
) -> dict[str, Any]:
    """`generate()` shows no stages, so only whole times are told; it has its own certificate (engine and cache)."""
    certificate = replace(ours, engine=stock.ENGINE, cache=stock.CACHE)
    info = adapter.info
    layouts = [adapter.prepare(probe.image, probe.image_id).layout for probe in probes]
    texts = [adapter.prompt(probe.text, probe.question).num_text for probe in probes]
    visual = [layout.sequence.shape[0] for layout in layouts]
    costed = [
        answer_cost(info, [count] * info.language.num_layers, text, settings.new_tokens, layout.num_views)
        for count, text, layout in zip(visual, texts, layouts, strict=True)
    ]
    memory = PhaseMemory.start(info.device)
    stock.stock_generate(adapter, stock.stock_inputs(adapter, probes[0], settings.batch_size), settings.new_tokens)
    memory.phase("whole")
    decode = [whole - first for first, whole in zip(times.stages["first"], times.stages["whole"], strict=True)]
    return {
        **_subject(adapter, ProfileItem("stock", "stock"), settings),
        "tokens": _mean(visual),
        **_costs(costed),
        "kv_bytes": _mean([cost.kv_bytes for cost in costed]),
        "peak_memory_bytes": memory.peak_bytes,
        "encode_ms": None,
        "select_ms": None,
        "prefill_ms": None,
        "ttft_ms_p50": times.at(0.5, "first"),
        "ttft_ms_p95": times.at(0.95, "first"),
        **_decode(percentile(decode, 0.5), settings),
        "n": times.n,
        "certificate": certificate.as_dict(),
        "certificate_hash": certificate.hash,
        "details": {
            "n_text": _mean(texts),
            **_whole(times.stages["whole"], settings),
            "memory": _memory(memory),
        },
    }


def _subject(adapter: Any, item: ProfileItem, settings: ProfileSettings) -> dict[str, Any]:
    return {
        "key": item.key,
        "model": adapter.info.name,
        "method": item.method,
        "variant": item.variant,
        "params": dict(item.params),
        "retention_ratio": item.retention_ratio,
        "budget": {"tokens": item.tokens, "base": item.base, "newline_policy": item.newline_policy},
        "batch_size": settings.batch_size,
        "new_tokens": settings.new_tokens,
    }


def _costs(costed: Sequence[AnswerCost]) -> dict[str, float]:
    return {
        "tflops_paper": _mean([cost.paper for cost in costed]) / TERA,
        "tflops_model": _mean([cost.prefill for cost in costed]) / TERA,
        "tflops_encoder": _mean([cost.encoder for cost in costed]) / TERA,
        "tflops_scoring": _mean([cost.scoring for cost in costed]) / TERA,
    }


def _decode(decode_ms: float, settings: ProfileSettings) -> dict[str, float | None]:
    steps = settings.new_tokens - 1
    if not steps:
        return {"tpot_ms_p50": None, "decode_tokens_per_s": None}
    return {
        "tpot_ms_p50": decode_ms / steps,
        "decode_tokens_per_s": settings.batch_size * steps / decode_ms * 1e3,
    }


def _whole(spans: list[float], settings: ProfileSettings) -> dict[str, float]:
    median = percentile(spans, 0.5)
    return {
        "end_to_end_ms_p50": median,
        "end_to_end_ms_p95": percentile(spans, 0.95),
        "tokens_per_s": settings.batch_size * settings.new_tokens / median * 1e3,
    }


def _counts(surveys: Sequence[Survey]) -> dict[str, Any]:
    first = surveys[0]
    return {
        "n_text": _mean([entry.n_text for entry in surveys]),
        "n_selected": _mean([entry.n_selected for entry in surveys]),
        "equivalent_tokens": _mean([count for entry in surveys for count in entry.visual_per_layer]),
        "visual_per_layer": [_mean(counts) for counts in zip(*(s.visual_per_layer for s in surveys), strict=True)],
        "kv_bytes_analytic": _mean([entry.cost.kv_bytes for entry in surveys]),
        "kv_bytes_paper": _mean([entry.cost.kv_bytes_paper for entry in surveys]),
        "tflops_decode": _mean([entry.cost.decode for entry in surveys]) / TERA,
        "tflops_counted": _mean([entry.counted for entry in surveys]) / TERA,
        "tflops_counted_before_llm": _mean([entry.counted_before for entry in surveys]) / TERA,
        "tflops_dense": _mean([entry.dense for entry in surveys]) / TERA,
        "counted_difference": max((relative_difference(entry.counted, entry.dense) for entry in surveys), key=abs),
        "attention_kernels": list(first.kernels),
        "host_syncs": [asdict(sync) for sync in first.syncs],
    }


def _memory(memory: PhaseMemory) -> dict[str, Any]:
    return {
        "base_bytes": memory.base_bytes,
        "peak_bytes": dict(memory.peaks),
        "reserved_bytes": memory.reserved_bytes,
    }


def _roofline(adapter: Any, first: Survey, times: StageTimes, settings: ProfileSettings) -> dict[str, Any]:
    steps = settings.new_tokens - 1
    if settings.peaks is None or not steps:
        return {}
    lines = phase_rooflines(
        adapter.info.language,
        adapter.info.dtype,
        first.per_layer,
        settings.batch_size,
        settings.new_tokens,
        times.at(0.5, "prefill"),
        times.at(0.5, "decode") / steps,
        settings.peaks,
    )
    return {
        "roofline": [{**asdict(line), "bound": line.bound} for line in lines],
        "peaks": asdict(settings.peaks),
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
