"""Profile several methods of one model side by side: what `hero-ray profile` and a sweep's profile pass store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from hero_ray.profiling import costs, requests
from hero_ray.profiling.certificate import Certificate, certify
from hero_ray.profiling.counter import count_flops, relative_difference
from hero_ray.profiling.energy import joules_per_call
from hero_ray.profiling.ledger import TERA, AnswerCost, answer_cost
from hero_ray.profiling.marks import Marks
from hero_ray.profiling.memory import PhaseMemory
from hero_ray.profiling.requests import Arrangement, Probe, ProfileItem
from hero_ray.profiling.roofline import Peaks, phase_rooflines
from hero_ray.profiling.syncs import HostSync, host_syncs
from hero_ray.profiling.timing import StageTimes, TimedCall, take_turns


@dataclass(frozen=True)
class ProfileSettings:
    """How to measure: answers of exactly `new_tokens` tokens, `repeats` timed runs of every picture."""

    batch_size: int = 1
    new_tokens: int = 8
    warmup: int = 2
    repeats: int = 5
    energy: bool = False
    peaks: Peaks | None = None


@dataclass(frozen=True)
class Survey:
    """Figures of one request that need no clock: taken from an instrumented run of its own.

    Attributes:
        visual_per_layer: visual tokens alive in each block.
        kv_bytes: of the live cache, one request.
        counted: FLOPs of the prefill by operator count, one request.
        dense: the same by formula, with the full attention square that counters assume.
    """

    n_text: int
    n_selected: int
    visual_per_layer: tuple[int, ...]
    kv_bytes: int
    cost: AnswerCost
    counted: float
    dense: float
    syncs: tuple[HostSync, ...]
    memory: PhaseMemory

    @property
    def per_layer(self) -> list[int]:
        return [visual + self.n_text for visual in self.visual_per_layer]


def profile_cells(
    adapter: Any,
    items: Sequence[ProfileItem],
    probes: Sequence[Probe],
    settings: ProfileSettings | None = None,
    progress: Callable[[str], None] = lambda message: None,
) -> list[dict[str, Any]]:
    """Time whole requests of every item on every probe, interleaved, and account for their tokens.

    Args:
        adapter: a loaded model with a public `runner`.
        items: methods and budgets; nothing is shared between them.
        probes: one or a few pictures with a question each.

    Returns:
        One JSON-able record per item with the columns of table `profiles`, the certificate and `details`.
    """
    settings = settings or ProfileSettings()
    arranged = [[requests.arrange(adapter, item, probe) for probe in probes] for item in items]
    surveys = []
    for item, row in zip(items, arranged, strict=True):
        progress(f"survey {item.key}")
        surveys.append([survey(adapter, arrangement, settings) for arrangement in row])
    calls = [[_timed(adapter, arrangement, settings) for arrangement in row] for row in arranged]
    progress(f"timing {len(items)} items")
    times = take_turns(calls, adapter.info.device, warmup=settings.warmup, repeats=settings.repeats)
    certificate = certify(
        adapter.info,
        batch_size=settings.batch_size,
        new_tokens=settings.new_tokens,
        warmup=settings.warmup,
        n=settings.repeats * len(probes),
    )
    records = []
    for item, row, surveyed, timed in zip(items, arranged, surveys, times, strict=True):
        joules = _energy(adapter, row[0], settings) if settings.energy else None
        records.append(_record(adapter, item, surveyed, timed, settings, certificate, joules))
    return records


def _timed(adapter: Any, arrangement: Arrangement, settings: ProfileSettings) -> TimedCall:
    def call(marks: Marks) -> None:
        requests.run_request(adapter, arrangement, settings.batch_size, settings.new_tokens, marks.stamp)

    return call


def _energy(adapter: Any, arrangement: Arrangement, settings: ProfileSettings) -> float | None:
    size, tokens = settings.batch_size, settings.new_tokens
    return joules_per_call(lambda: requests.run_request(adapter, arrangement, size, tokens), adapter.info.device)


@torch.no_grad()
def survey(adapter: Any, arrangement: Arrangement, settings: ProfileSettings) -> Survey:
    """Run a request once, untimed, to count its tokens, bytes, FLOPs, peaks and host synchronisations."""
    memory = PhaseMemory.start(adapter.info.device)
    encoded = requests.encode(adapter, arrangement, settings.batch_size)
    memory.phase("encode")
    chosen: list[Any] = []
    watched = host_syncs(lambda: chosen.append(requests.select(adapter, arrangement, encoded[0])))
    chosen += [requests.select(adapter, arrangement, one) for one in encoded[1:]]
    memory.phase("select")
    states: list[Any] = []
    visuals = [visual for _, visual in chosen]
    counted = count_flops(lambda: states.append(requests.prefill(adapter, arrangement, visuals, settings.new_tokens)))
    (state,) = states
    visual_per_layer, kv = state.visual_per_layer()[0], state.kv_bytes()[0]
    memory.phase("prefill")
    token = state.logits.argmax(-1)
    for _ in range(settings.new_tokens - 1):
        token = adapter.runner.decode(state, token).argmax(-1)
    memory.phase("decode")
    views, n_text = arrangement.prepared.layout.num_views, arrangement.prompt.num_text
    stock_length = arrangement.prepared.layout.sequence.shape[0]
    scoring = costs.scoring_flops(
        adapter.info,
        arrangement.needs,
        views,
        prompt_tokens=n_text + stock_length,
        query_tokens=arrangement.prompt.instruction[1] - arrangement.prompt.instruction[0],
        text_tower=getattr(adapter, "text_tower", None),
    )
    return Survey(
        n_text=n_text,
        n_selected=chosen[0][0].n_selected,
        visual_per_layer=tuple(visual_per_layer),
        kv_bytes=kv,
        cost=answer_cost(adapter.info, visual_per_layer, n_text, settings.new_tokens, views, scoring),
        counted=counted.total / settings.batch_size,
        dense=costs.prefill_flops(adapter.info.language, [v + n_text for v in visual_per_layer], causal=False),
        syncs=tuple(watched),
        memory=memory,
    )


def _record(
    adapter: Any,
    item: ProfileItem,
    surveys: Sequence[Survey],
    times: StageTimes,
    settings: ProfileSettings,
    certificate: Certificate,
    joules: float | None,
) -> dict[str, Any]:
    steps = settings.new_tokens - 1
    decode_ms = times.at(0.5, "decode")
    peaks = [entry.memory.peak_bytes for entry in surveys if entry.memory.peak_bytes is not None]
    return {
        "key": item.key,
        "model": adapter.info.name,
        "method": item.method,
        "variant": item.variant,
        "params": dict(item.params),
        "retention_ratio": item.retention_ratio,
        "batch_size": settings.batch_size,
        "new_tokens": settings.new_tokens,
        "tokens": _mean([entry.visual_per_layer[0] for entry in surveys]),
        "tflops_paper": _mean([entry.cost.paper for entry in surveys]) / TERA,
        "tflops_model": _mean([entry.cost.prefill for entry in surveys]) / TERA,
        "tflops_encoder": _mean([entry.cost.encoder for entry in surveys]) / TERA,
        "tflops_scoring": _mean([entry.cost.scoring for entry in surveys]) / TERA,
        "kv_bytes": _mean([entry.kv_bytes for entry in surveys]),
        "peak_memory_bytes": max(peaks, default=None),
        "encode_ms": times.at(0.5, "encode"),
        "select_ms": times.at(0.5, "select"),
        "prefill_ms": times.at(0.5, "prefill"),
        "ttft_ms_p50": times.at(0.5, *requests.STAGES[:3]),
        "ttft_ms_p95": times.at(0.95, *requests.STAGES[:3]),
        "tpot_ms_p50": decode_ms / steps if steps else None,
        "decode_tokens_per_s": settings.batch_size * steps / decode_ms * 1e3 if steps else None,
        "n": times.n,
        "certificate": certificate.as_dict(),
        "certificate_hash": certificate.hash,
        "details": _details(adapter, surveys, times, settings, joules),
    }


def _details(
    adapter: Any, surveys: Sequence[Survey], times: StageTimes, settings: ProfileSettings, joules: float | None
) -> dict[str, Any]:
    first = surveys[0]
    end_to_end = times.at(0.5, *requests.STAGES)
    steps = settings.new_tokens - 1
    details: dict[str, Any] = {
        "n_text": first.n_text,
        "n_selected": first.n_selected,
        "equivalent_tokens": _mean([v for entry in surveys for v in entry.visual_per_layer]),
        "visual_per_layer": list(first.visual_per_layer),
        "kv_bytes_analytic": _mean([entry.cost.kv_bytes for entry in surveys]),
        "kv_bytes_paper": _mean([entry.cost.kv_bytes_paper for entry in surveys]),
        "tflops_decode": _mean([entry.cost.decode for entry in surveys]) / TERA,
        "tflops_counted": first.counted / TERA,
        "tflops_dense": first.dense / TERA,
        "counted_difference": relative_difference(first.counted, first.dense),
        "end_to_end_ms_p50": end_to_end,
        "end_to_end_ms_p95": times.at(0.95, *requests.STAGES),
        "tokens_per_s": settings.batch_size * settings.new_tokens / end_to_end * 1e3,
        "stage_ms_p95": {stage: times.at(0.95, stage) for stage in requests.STAGES},
        "host_syncs": [asdict(sync) for sync in first.syncs],
        "memory": {
            "base_bytes": first.memory.base_bytes,
            "peak_bytes": first.memory.peaks,
            "reserved_bytes": first.memory.reserved_bytes,
        },
        "joules": joules,
    }
    if settings.peaks is not None and steps:
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
        details["roofline"] = [{**asdict(line), "bound": line.bound} for line in lines]
        details["peaks"] = asdict(settings.peaks)
    return details


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
