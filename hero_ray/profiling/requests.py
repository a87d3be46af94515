"""One whole request, taken through encode, select, prefill and decode with nothing shared and nothing cached."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from hero_ray.core.encoded import Budget, BudgetBase, Encoded, ImagePlan, Needs, NewlinePolicy, Selection, keep_all
from hero_ray.models.base import Adapter, Prepared, Prompt, Request
from hero_ray.models.batch import whole_prompts
from hero_ray.models.runner import DecodeState

STAGES = ("encode", "select", "prefill", "decode")


@dataclass(frozen=True)
class Probe:
    """A picture and a question to time with; `text` is the user text the prompt is built from."""

    image: Image.Image
    text: str
    question: str
    image_id: str = "probe"


@dataclass(frozen=True)
class ProfileItem:
    """One method at one budget, as callables: this room knows no method.

    Attributes:
        key: unique label (a cell's id, where there is one).
        method, variant, params: for the record.
        retention_ratio, tokens, base: the budget; `tokens` wins where given.
        needs: what the method reads.
        select: chooses tokens of one encoded image; None keeps all.
        pruner: makes the object that drops tokens inside the LLM from the budget and the batch's selections, one per
            row; a fresh one for every batch.
        plan: chooses a cheaper look at the picture.
        positions: position ids of survivors inside the LLM.
        newline_policy: newline tokens that follow the survivors.
    """

    key: str
    method: str
    retention_ratio: float = 1.0
    tokens: int | None = None
    base: BudgetBase = "real"
    variant: str = "exact"
    params: Mapping[str, Any] = field(default_factory=dict)
    needs: Needs = field(default_factory=Needs)
    select: Callable[[Encoded, Budget], Selection] | None = None
    pruner: Callable[[Budget, Sequence[Selection]], Any] | None = None
    plan: Callable[[tuple[ImagePlan, ...], Budget], ImagePlan | None] | None = None
    positions: Literal["compact", "keep"] = "compact"
    newline_policy: NewlinePolicy = "unpadded_rows"


@dataclass(frozen=True)
class Arrangement:
    """An item and a probe brought to the point where timing starts: pixels cut and on the device, prompt tokenised."""

    item: ProfileItem
    probe: Probe
    prepared: Prepared
    prompt: Prompt
    budget: Budget

    @property
    def needs(self) -> Needs:
        """R = 1 bypasses the method, so it captures nothing."""
        return Needs() if self.budget.is_full else self.item.needs

    @property
    def prunes_inside(self) -> bool:
        """Whether tokens are dropped between the LLM's blocks."""
        return self.item.pruner is not None and not self.budget.is_full


@dataclass(frozen=True)
class Outcome:
    """What a request leaves behind for the ledger: the prefilled state and the tokens that were generated."""

    state: DecodeState
    selection: Selection
    token_ids: Tensor


def arrange(adapter: Adapter, item: ProfileItem, probe: Probe) -> Arrangement:
    """Everything that is not timed: image decode and tiling, tokenising, the copy of the pixels to the device."""
    prepared = adapter.prepare(probe.image, probe.image_id)
    ratio = item.retention_ratio if item.tokens is None else None
    budget = Budget.of(prepared.layout, ratio=ratio, tokens=item.tokens, base=item.base)
    if item.plan is not None and not budget.is_full:
        look = item.plan(adapter.plans(probe.image.size), budget)
        prepared = adapter.prepare(probe.image, probe.image_id, look)
    prepared = replace(prepared, pixels=prepared.pixels.to(adapter.info.device))
    return Arrangement(item, probe, prepared, adapter.prompt(probe.text, probe.question), budget)


def encode(adapter: Adapter, arrangement: Arrangement, batch_size: int) -> list[Encoded]:
    """`batch_size` copies of the picture through the tower together; requests never share an encoding."""
    prepared = [arrangement.prepared] * batch_size
    together = getattr(adapter, "encode_many", None)
    if batch_size > 1 and together is not None:
        return list(together(prepared, arrangement.needs))
    return [adapter.encode(one, arrangement.needs) for one in prepared]


def select(adapter: Adapter, arrangement: Arrangement, encoded: Encoded) -> tuple[Selection, Tensor]:
    """Scores of the question, the method's choice and the splice: all that a method adds before the LLM."""
    item, probe = arrangement.item, arrangement.probe
    if arrangement.needs.question:
        clip: Any = getattr(adapter, "clip", None)
        if clip is not None:
            clip.forget()  # a sweep remembers texts; a request alone embeds its own
        encoded = adapter.ask(encoded, probe.question, arrangement.needs, arrangement.prompt)
    if item.select is None or arrangement.budget.is_full:
        selection = keep_all(encoded.layout)
    else:
        selection = item.select(encoded, arrangement.budget)
    return selection, adapter.assemble(encoded, selection, item.newline_policy)


def prefill(
    adapter: Any,
    arrangement: Arrangement,
    visuals: Sequence[Tensor],
    new_tokens: int,
    selections: Sequence[Selection] = (),
) -> DecodeState:
    """Whole prompts, one cache each; the state's logits give the first token.

    Args:
        selections: one per row, for a method that drops inside the LLM what it chose before it.
    """
    item = arrangement.item
    requests = [Request(arrangement.prompt, visual, new_tokens) for visual in visuals]
    batch = whole_prompts(requests, adapter.runner.embed)
    pruner = None
    if item.pruner is not None and arrangement.prunes_inside:
        pruner = item.pruner(arrangement.budget, selections)
    return adapter.runner.prefill(batch, pruner=pruner, positions=item.positions, room=new_tokens)


def deferred(arrangement: Arrangement, chosen: Sequence[tuple[Selection, Tensor]]) -> list[Selection]:
    """The selections that a prefill needs: those of a method that drops inside the LLM."""
    return [selection for selection, _ in chosen] if arrangement.prunes_inside else []


def decode_step(adapter: Any) -> Callable[[DecodeState, Tensor], Tensor]:
    """The adapter's captured decode step where it has one, else the runner's plain one."""
    captured = captured_step(adapter)
    return adapter.runner.decode if captured is None else captured


def captured_step(adapter: Any) -> Any:
    """What replays decode steps as CUDA graphs, or None (`hero_ray.models.graphs.GraphedDecode`)."""
    return getattr(getattr(adapter, "decoder", None), "step", None)


@torch.no_grad()
def run_request(
    adapter: Any,
    arrangement: Arrangement,
    batch_size: int,
    new_tokens: int,
    stamp: Callable[[str], None] = lambda stage: None,
) -> Outcome:
    """Run a batch of equal requests to exactly `new_tokens` tokens each.

    The end token is ignored and nothing is read back, so no step waits for the host.

    Args:
        stamp: called with `start` and at the end of each stage of `STAGES`.
    """
    stamp("start")
    encoded = encode(adapter, arrangement, batch_size)
    stamp("encode")
    chosen = [select(adapter, arrangement, one) for one in encoded]
    stamp("select")
    selection, visuals = chosen[0][0], [visual for _, visual in chosen]
    selections = deferred(arrangement, chosen)
    del encoded, chosen  # nobody who serves requests keeps dropped tokens through the prefill
    state = prefill(adapter, arrangement, visuals, new_tokens, selections)
    token = state.logits.argmax(-1)
    stamp("prefill")
    tokens, step = [token], decode_step(adapter)
    for _ in range(new_tokens - 1):
        token = step(state, token).argmax(-1)
        tokens.append(token)
    stamp("decode")
    return Outcome(state, selection, torch.stack(tokens, 1))
