"""One whole request, taken through encode, select, prefill and decode with nothing shared and nothing cached."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from hero_ray.core.encoded import Budget, Encoded, Needs, Selection
from hero_ray.core.looks import Looks
from hero_ray.engine.cut import Picture, Pruning, settled
from hero_ray.models.base import Adapter, Prepared, Prompt, Request, Visual
from hero_ray.models.decoding import DecodeState

STAGES = ("encode", "select", "prefill", "decode")
Around = Callable[[str, Callable[[], Any]], Any]
"""Runs the work of one stage and gives its result back."""


@dataclass(frozen=True)
class Probe:
    """A picture and a question to time with; `text` is the user text the prompt is built from."""

    image: Image.Image
    text: str
    question: str
    image_id: str = "probe"


@dataclass(frozen=True)
class Arrangement:
    """A pruning and a probe brought to the point where timing starts: pixels cut and on the device, prompt tokenised.

    Attributes:
        needs: what the method reads of this picture; nothing at R = 1, which bypasses it.
    """

    pruning: Pruning
    probe: Probe
    prepared: Prepared
    prompt: Prompt
    budget: Budget
    needs: Needs


@dataclass(frozen=True)
class TimedOutcome:
    """What a request leaves behind for the ledger.

    Attributes:
        state: the prefilled batch. keep: bool [V, N], patch tokens selected. token_ids: [B, new tokens].
    """

    state: DecodeState
    keep: Tensor
    token_ids: Tensor


def arrange(adapter: Adapter, pruning: Pruning, probe: Probe) -> Arrangement:
    """Everything that is not timed: image decode and tiling, tokenising, the copy of the pixels to the device."""
    picture = Picture(adapter, probe.image, probe.image_id)
    budget = pruning.budget(picture.layout)
    prepared = picture.look(picture.plan(pruning, budget))
    prepared = replace(prepared, pixels=prepared.pixels.to(adapter.info.device))
    prompt = adapter.prompt(probe.text, probe.question)
    return Arrangement(pruning, probe, prepared, prompt, budget, pruning.needs(adapter.vision, budget))


def encode(adapter: Adapter, arrangement: Arrangement, batch_size: int) -> list[Encoded]:
    """`batch_size` copies of the picture through the tower together; requests never share an encoding."""
    return adapter.encode_many([arrangement.prepared] * batch_size, arrangement.needs)


def select(adapter: Adapter, arrangement: Arrangement, batch: Sequence[Encoded]) -> list[tuple[Selection, Visual]]:
    """Scores of the question, the method's choice and the splice, row by row: all that a method adds before the LLM.

    The steps of `hero_ray.engine.cut.cut`.
    """
    needs, pruning, made = arrangement.needs, arrangement.pruning, []
    for encoded in batch:
        looks = Looks()
        with looks.shared():
            if needs.question:
                if adapter.clip is not None:
                    adapter.clip.forget()  # a sweep remembers texts; a request alone embeds its own
                encoded = adapter.ask(encoded, arrangement.probe.question, needs, arrangement.prompt)
            selection = pruning.select(encoded, arrangement.budget)
        selection = settled(selection, looks)
        made.append((selection, adapter.assemble(encoded, selection, pruning.policy)))
    return made


def prefill(
    adapter: Adapter,
    arrangement: Arrangement,
    visuals: Sequence[Visual],
    new_tokens: int,
    selections: Sequence[Selection] = (),
) -> DecodeState:
    """Whole prompts, one cache each; the state's logits give the first token.

    Args:
        selections: one per row, for a method that drops inside the LLM what it chose before it.
    """
    pruning = arrangement.pruning
    requests = [Request(arrangement.prompt, visual, new_tokens) for visual in visuals]
    pruner = pruning.pruner(arrangement.budget, selections) if pruning.prunes_inside(arrangement.budget) else None
    state: DecodeState = adapter.decoder.prefill(requests, pruner, pruning.method.positions, share_prefix=False)
    return state


@torch.no_grad()
def run_request(
    adapter: Adapter,
    arrangement: Arrangement,
    batch_size: int,
    new_tokens: int,
    around: Around = lambda stage, work: work(),
) -> TimedOutcome:
    """Run a batch of equal requests to exactly `new_tokens` tokens each.

    The end token is ignored and nothing is read back, so no step waits for the host.

    Args:
        around: runs each stage of `STAGES`, to time it or to count what it does.
    """
    encoded = around("encode", partial(encode, adapter, arrangement, batch_size))
    chosen = around("select", partial(select, adapter, arrangement, encoded))
    keep, visuals = chosen[0][0].keep, [visual for _, visual in chosen]
    inside = arrangement.pruning.prunes_inside(arrangement.budget)
    selections = [one for one, _ in chosen] if inside else []
    del encoded, chosen  # nobody who serves requests keeps dropped tokens through the prefill

    def first() -> tuple[DecodeState, Tensor]:
        state = prefill(adapter, arrangement, visuals, new_tokens, selections)
        return state, state.logits.argmax(-1)

    def rest() -> list[Tensor]:
        tokens = [token]
        for _ in range(new_tokens - 1):
            tokens.append(adapter.decoder.decode(state, tokens[-1]).argmax(-1))
        return tokens

    state, token = around("prefill", first)
    return TimedOutcome(state, keep, torch.stack(around("decode", rest), 1))
