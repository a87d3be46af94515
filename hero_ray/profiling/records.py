"""Profile records: one JSON-able dict per method and budget, with the columns of table `profiles`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from hero_ray.costs.ledger import TERA, AnswerCost, answer_cost
from hero_ray.engine.cut import Pruning
from hero_ray.methods import create
from hero_ray.models.base import Adapter
from hero_ray.profiling import stock
from hero_ray.profiling.certificate import Certificate
from hero_ray.profiling.counter import relative_difference
from hero_ray.profiling.marks import percentile
from hero_ray.profiling.memory import PhaseMemory
from hero_ray.profiling.requests import STAGES, Probe
from hero_ray.profiling.roofline import Peaks, phase_rooflines
from hero_ray.profiling.survey import Survey
from hero_ray.profiling.timing import StageTimes


def record(
    adapter: Adapter,
    key: str,
    pruning: Pruning,
    surveys: Sequence[Survey],
    times: StageTimes,
    certificate: Certificate,
    joules: float | None,
    peaks: Peaks | None,
) -> dict[str, Any]:
    """The figures of one item: medians over its runs, means of its pictures' counts, the worst of its peaks."""
    memory = max((entry.memory for entry in surveys), key=lambda memory: memory.peak_bytes or 0)
    ratio = _mean([entry.ratio for entry in surveys]) if pruning.ratio is None else pruning.ratio
    return {
        **_subject(adapter, key, pruning, ratio, certificate),
        "tokens": _mean([entry.visual_per_layer[0] for entry in surveys]),
        **_costs([entry.cost for entry in surveys]),
        "kv_bytes": _mean([entry.kv_bytes for entry in surveys]),
        "peak_memory_bytes": memory.peak_bytes,
        "encode_ms": times.at(0.5, "encode"),
        "select_ms": times.at(0.5, "select"),
        "prefill_ms": times.at(0.5, "prefill"),
        "ttft_ms_p50": times.at(0.5, *STAGES[:3]),
        "ttft_ms_p95": times.at(0.95, *STAGES[:3]),
        **_decode(times.at(0.5, "decode"), certificate),
        "details": {
            **_counts(surveys),
            **_whole(times.together(*STAGES), certificate),
            "stage_ms_p95": {stage: times.at(0.95, stage) for stage in STAGES},
            "runs_ms": {stage: [round(span, 4) for span in times.stages[stage]] for stage in STAGES},
            "memory": _memory(memory),
            "joules": joules,
            **({} if peaks is None else _roofline(adapter, surveys[0], times, certificate, peaks)),
        },
    }


def stock_record(adapter: Adapter, probes: Sequence[Probe], times: StageTimes, ours: Certificate) -> dict[str, Any]:
    """`generate()` shows no stages, so only whole times are told; it has its own certificate (engine and cache)."""
    certificate = replace(ours, engine=stock.ENGINE, cache=stock.CACHE)
    info, new_tokens = adapter.info, ours.new_tokens
    layouts = [adapter.prepare(probe.image, probe.image_id).layout for probe in probes]
    texts = [adapter.prompt(probe.text, probe.question).num_text for probe in probes]
    visual = [layout.sequence.shape[0] for layout in layouts]
    costed = [
        answer_cost(info, [count] * info.language.num_layers, text, new_tokens, layout.num_views, 0.0, layout.side)
        for count, text, layout in zip(visual, texts, layouts, strict=True)
    ]
    memory = PhaseMemory.start(info.device)
    stock.stock_generate(adapter, stock.stock_inputs(adapter, probes[0], ours.batch_size), new_tokens)
    memory.phase("whole")
    decode = [whole - first for first, whole in zip(times.stages["first"], times.stages["whole"], strict=True)]
    return {
        **_subject(adapter, "stock", Pruning(create("full")), 1.0, certificate),
        "method": "stock",
        "tokens": _mean(visual),
        **_costs(costed),
        "kv_bytes": _mean([cost.kv_bytes for cost in costed]),
        "peak_memory_bytes": memory.peak_bytes,
        **dict.fromkeys(("encode_ms", "select_ms", "prefill_ms")),
        "ttft_ms_p50": times.at(0.5, "first"),
        "ttft_ms_p95": times.at(0.95, "first"),
        **_decode(percentile(decode, 0.5), certificate),
        "details": {
            "n_text": _mean(texts),
            **_whole(times.stages["whole"], certificate),
            "memory": _memory(memory),
        },
    }


def _subject(adapter: Adapter, key: str, pruning: Pruning, ratio: float, certificate: Certificate) -> dict[str, Any]:
    return {
        "key": key,
        "model": adapter.info.name,
        "method": pruning.method.name,
        "variant": pruning.method.variant,
        "params": pruning.method.parameters(),
        "retention_ratio": ratio,
        "budget": {"tokens": pruning.tokens, "base": pruning.base, "newline_policy": pruning.policy},
        "batch_size": certificate.batch_size,
        "new_tokens": certificate.new_tokens,
        "n": certificate.n,
        "certificate": certificate.as_dict(),
        "certificate_hash": certificate.hash,
    }


def _costs(costed: Sequence[AnswerCost]) -> dict[str, float]:
    return {
        "tflops_paper": _mean([cost.paper for cost in costed]) / TERA,
        "tflops_model": _mean([cost.prefill for cost in costed]) / TERA,
        "tflops_encoder": _mean([cost.encoder for cost in costed]) / TERA,
        "tflops_scoring": _mean([cost.scoring for cost in costed]) / TERA,
    }


def _decode(decode_ms: float, certificate: Certificate) -> dict[str, float]:
    steps = certificate.new_tokens - 1
    per_second = certificate.batch_size * steps / decode_ms * 1e3
    return {"tpot_ms_p50": decode_ms / steps, "decode_tokens_per_s": per_second}


def _whole(spans: list[float], certificate: Certificate) -> dict[str, float]:
    median = percentile(spans, 0.5)
    return {
        "end_to_end_ms_p50": median,
        "end_to_end_ms_p95": percentile(spans, 0.95),
        "tokens_per_s": certificate.batch_size * certificate.new_tokens / median * 1e3,
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
    return {"base_bytes": memory.base_bytes, "peak_bytes": memory.peaks, "reserved_bytes": memory.reserved_bytes}


def _roofline(
    adapter: Adapter, first: Survey, times: StageTimes, certificate: Certificate, peaks: Peaks
) -> dict[str, Any]:
    lines = phase_rooflines(
        adapter.info.language,
        adapter.info.dtype,
        first.per_layer,
        certificate.batch_size,
        certificate.new_tokens,
        times.at(0.5, "prefill"),
        times.at(0.5, "decode") / (certificate.new_tokens - 1),
        peaks,
    )
    return {"roofline": [{**asdict(line), "bound": line.bound} for line in lines], "peaks": asdict(peaks)}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
