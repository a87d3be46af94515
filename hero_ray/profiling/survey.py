"""What a request shows without a clock: tokens, cache bytes, counted FLOPs, memory peaks and host waits."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from hero_ray.costs import costs
from hero_ray.costs.ledger import AnswerCost, answer_cost
from hero_ray.costs.scoring import method_scoring
from hero_ray.models.base import Adapter
from hero_ray.models.finite import check_logits
from hero_ray.profiling.counter import CountedFlops, count_flops
from hero_ray.profiling.memory import PhaseMemory
from hero_ray.profiling.requests import Arrangement, run_request
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


Encodes = dict[Hashable, CountedFlops]
"""FLOPs of encoding a picture, cut in the same way, for methods that read the same: counting takes five encodings."""


def survey(
    adapter: Adapter, arrangement: Arrangement, batch_size: int, new_tokens: int, encodes: Encodes | None = None
) -> Survey:
    """Run a batch of equal requests once, untimed, and account for one of them.

    Args:
        encodes: what surveys of the same adapter and batch size have counted; this one puts its own in.
    """
    encodes = {} if encodes is None else encodes
    prepared = arrangement.prepared
    encoding = (prepared.image_id, prepared.layout.grid, tuple(prepared.pixels.shape), arrangement.needs)
    memory = PhaseMemory.start(adapter.info.device)
    counted: dict[str, CountedFlops] = {}
    syncs: list[HostSync] = []

    def watched(stage: str, work: Callable[[], Any]) -> Any:
        done: list[Any] = []

        def count() -> None:
            counted[stage] = count_flops(lambda: done.append(work()))

        # A captured step is not to be captured under a counter.
        if stage == "decode" or (stage == "encode" and encoding in encodes):
            done.append(work())
        elif stage == "select":
            syncs.extend(host_syncs(count, device))
        else:
            count()
        memory.phase(stage)
        return done[0]

    device = adapter.info.device
    outcome = run_request(adapter, arrangement, batch_size, new_tokens, watched)
    if "encode" in counted:
        encodes[encoding] = counted["encode"]
    logits = outcome.state.logits  # of the last step: what overflows in one is not finite in any later
    check_logits(logits.isfinite().all(-1).tolist(), [], logits.dtype)
    visual_per_layer = outcome.state.visual_per_layer()[0]
    prompt, layout = arrangement.prompt, prepared.layout
    prefill = counted["prefill"].total / batch_size
    dense = costs.prefill_flops(adapter.info.language, [v + prompt.num_text for v in visual_per_layer], causal=False)
    views, side = layout.num_views, layout.side
    scoring = method_scoring(adapter, arrangement.needs, layout, prompt, arrangement.probe.question)
    if arrangement.pruning.prunes_inside(arrangement.budget):
        # What an in-LLM method computes to rank tokens is the only thing it runs beyond the blocks.
        scoring += max(0.0, prefill - dense)
    return Survey(
        ratio=arrangement.budget.ratio,
        n_text=prompt.num_text,
        n_selected=int(outcome.keep.sum()),
        visual_per_layer=visual_per_layer,
        kv_bytes=outcome.state.kv_bytes()[0],
        cost=answer_cost(adapter.info, visual_per_layer, prompt.num_text, new_tokens, views, scoring, side),
        counted=prefill,
        dense=dense,
        counted_before=(encodes[encoding].total + counted["select"].total) / batch_size,
        kernels=tuple(sorted(name for name in counted["prefill"].by_operator if "attention" in name)),
        syncs=tuple(syncs[: len(syncs) // batch_size]),  # the rows are equal requests: those of the first
        memory=memory,
    )
