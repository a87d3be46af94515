"""What a request shows without a clock: tokens, cache bytes, counted FLOPs, memory peaks and host waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from hero_ray.profiling import costs, requests
from hero_ray.profiling.counter import count_flops
from hero_ray.profiling.ledger import AnswerCost, answer_cost
from hero_ray.profiling.memory import PhaseMemory
from hero_ray.profiling.requests import Arrangement
from hero_ray.profiling.syncs import HostSync, host_syncs


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


@torch.no_grad()
def survey(adapter: Any, arrangement: Arrangement, batch_size: int, new_tokens: int) -> Survey:
    """Run a request once, untimed, to count its tokens, bytes, FLOPs, peaks and host synchronisations."""
    memory = PhaseMemory.start(adapter.info.device)
    encoded = requests.encode(adapter, arrangement, batch_size)
    memory.phase("encode")
    chosen: list[Any] = []
    watched = host_syncs(lambda: chosen.append(requests.select(adapter, arrangement, encoded[0])))
    chosen += [requests.select(adapter, arrangement, one) for one in encoded[1:]]
    memory.phase("select")
    states: list[Any] = []
    visuals = [visual for _, visual in chosen]
    counted = count_flops(lambda: states.append(requests.prefill(adapter, arrangement, visuals, new_tokens)))
    (state,) = states
    visual_per_layer, kv = state.visual_per_layer()[0], state.kv_bytes()[0]
    memory.phase("prefill")
    token = state.logits.argmax(-1)
    for _ in range(new_tokens - 1):
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
        cost=answer_cost(adapter.info, visual_per_layer, n_text, new_tokens, views, scoring),
        counted=counted.total / batch_size,
        dense=costs.prefill_flops(adapter.info.language, [v + n_text for v in visual_per_layer], causal=False),
        syncs=tuple(watched),
        memory=memory,
    )
