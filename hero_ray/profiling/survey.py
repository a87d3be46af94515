"""What a request shows without a clock: tokens, cache bytes, counted FLOPs, memory peaks and host waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from hero_ray.costs import costs
from hero_ray.costs.ledger import AnswerCost, answer_cost
from hero_ray.costs.scoring import method_scoring
from hero_ray.profiling import requests
from hero_ray.profiling.counter import count_flops
from hero_ray.profiling.memory import PhaseMemory
from hero_ray.profiling.requests import Arrangement
from hero_ray.profiling.syncs import HostSync, host_syncs


@dataclass(frozen=True)
class Survey:
    """Figures of one request that need no clock: taken from an instrumented run of its own.

    Attributes:
        ratio: share kept that the budget means on this picture.
        visual_per_layer: visual tokens alive in each block.
        kv_bytes: of the live cache, one request.
        counted: FLOPs of the prefill by operator count, one request.
        dense: the same by formula, with the full attention square that counters assume.
        counted_before: FLOPs counted before the LLM (encode and select), one request.
        kernels: attention operators that really ran in the prefill.
    """

    ratio: float
    n_text: int
    n_selected: int
    visual_per_layer: tuple[int, ...]
    kv_bytes: int
    cost: AnswerCost
    counted: float
    dense: float
    counted_before: float
    kernels: tuple[str, ...]
    syncs: tuple[HostSync, ...]
    memory: PhaseMemory

    @property
    def per_layer(self) -> list[int]:
        return [visual + self.n_text for visual in self.visual_per_layer]


@torch.no_grad()
def survey(adapter: Any, arrangement: Arrangement, batch_size: int, new_tokens: int) -> Survey:
    """Run a batch of equal requests once, untimed, and account for one of them."""
    memory = PhaseMemory.start(adapter.info.device)
    encoded: list[Any] = []
    before = count_flops(lambda: encoded.extend(requests.encode(adapter, arrangement, batch_size))).total / batch_size
    memory.phase("encode")
    chosen: list[Any] = []
    syncs = host_syncs(lambda: chosen.append(requests.select(adapter, arrangement, encoded[0])), adapter.info.device)
    before += count_flops(lambda: requests.select(adapter, arrangement, encoded[0])).total
    chosen += [requests.select(adapter, arrangement, one) for one in encoded[1:]]
    memory.phase("select")
    states: list[Any] = []
    n_selected, visuals = chosen[0][0].n_selected, [visual for _, visual in chosen]
    selections = requests.deferred(arrangement, chosen)
    del encoded[:], chosen[:]
    prefill = count_flops(
        lambda: states.append(requests.prefill(adapter, arrangement, visuals, new_tokens, selections))
    )
    (state,) = states
    visual_per_layer, kv = state.visual_per_layer()[0], state.kv_bytes()[0]
    memory.phase("prefill")
    token, step = state.logits.argmax(-1), requests.decode_step(adapter)
    for _ in range(new_tokens - 1):
        token = step(state, token).argmax(-1)
    memory.phase("decode")
    n_text = arrangement.prompt.num_text
    counted, views = prefill.total / batch_size, arrangement.prepared.layout.num_views
    dense = costs.prefill_flops(adapter.info.language, [v + n_text for v in visual_per_layer], causal=False)
    # What an in-LLM method computes to rank tokens is the only thing it runs beyond the blocks.
    inside = max(0.0, counted - dense) if arrangement.prunes_inside else 0.0
    layout, prompt = arrangement.prepared.layout, arrangement.prompt
    scoring = method_scoring(adapter, arrangement.needs, layout, prompt, arrangement.probe.question) + inside
    return Survey(
        ratio=arrangement.budget.ratio,
        n_text=n_text,
        n_selected=n_selected,
        visual_per_layer=tuple(visual_per_layer),
        kv_bytes=kv,
        cost=answer_cost(adapter.info, visual_per_layer, n_text, new_tokens, views, scoring),
        counted=counted,
        dense=dense,
        counted_before=before,
        kernels=tuple(sorted(name for name in prefill.by_operator if "attention" in name)),
        syncs=tuple(syncs),
        memory=memory,
    )
