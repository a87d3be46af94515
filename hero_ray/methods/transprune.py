"""TransPrune: tokens that blocks change most, and that the question looks at (arXiv 2507.20630).

A token's transition in a block is the sum over attention and MLP of |out| / |in| times the softmax over all tokens of
1 - cos(in, out), where `in` [D] is what the part is given after its norm and `out` [D] what it adds. After blocks 7, 9
and 12 of 32 the score is the transition summed over the blocks from the first cut on, plus the attention that the text
behind the picture pays a token in the *next* block, mean over heads and queries; each is divided by its sum over the
visual tokens. Survivors are renumbered. Follows liaolea/TransPrune @c9e8284 (`modeling_llama_transprune.py`).

R is the mean share over blocks. `exact` keeps powers of the paper's .875, .625 and .125 with one exponent solved for R,
and pulls the cuts forward where no exponent reaches R. `paper`: those shares themselves, a mean of 41.0 %, whatever R.
Differs: cuts move by depth fraction; those that coincide in a shallow model act once, the deepest share wins. The code
takes the softmax over a whole batch and holds only with one prompt in it; here it is each prompt's own. A cut keeps at
least one token, where the code's floor may be none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from hero_ray.core.encoded import Budget, Encoded, Selection
from hero_ray.core.lazy import Tensor, torch
from hero_ray.core.looks import on_host
from hero_ray.methods.base import LayerPruner, LayerState, Method, Survivors
from hero_ray.methods.kit import dropping
from hero_ray.methods.kit.scores import finite

_TINY = 1e-8
"""Added to a sum before dividing by it, as in the code."""


@dataclass(frozen=True)
class TransPrune(Method):
    """Cuts by token transition and the question's attention."""

    after_blocks: tuple[int, ...] = (7, 9, 12)
    shares: tuple[float, ...] = (0.875, 0.625, 0.125)

    name = "transprune"
    stage = "in-llm"
    text_aware = True
    reads = (
        "what attention and MLP of blocks 7 to 12 make of a token, the attention of all text behind the picture in the "
        "block after each cut"
    )
    paper = "TransPrune, arXiv 2507.20630"
    variants = ("exact", "paper")

    @property
    def fixed_budget(self) -> bool:
        return self.variant != "paper"

    def check(self) -> None:
        blocks, shares = self.after_blocks, self.shares
        self.require(dropping.are_cuts(blocks), "after_blocks", "rising blocks 1 to 31 of a 32-deep LLM")
        falling = all(0.0 < share < 1.0 for share in shares) and sorted(shares, reverse=True) == list(shares)
        self.require(falling and len(shares) == len(blocks), "shares", "one falling share in (0, 1) per block")

    def select(self, encoded: Encoded, budget: Budget) -> Selection:
        return dropping.let_all_in(encoded, budget, "cut in stages inside the LLM")

    def pruner(self, budget: Budget) -> LayerPruner:
        return _Transitions(self, budget.ratio)

    def stages(self, ratio: float, num_layers: int) -> Mapping[int, float]:
        """Share kept after each cut block, for a model of `num_layers` blocks."""
        cuts = [dropping.after_block(block, num_layers) for block in self.after_blocks]
        if self.variant == "paper":
            return dict(zip(cuts, self.shares, strict=True))
        powers = dict(zip(cuts, (math.log(share) / math.log(self.shares[0]) for share in self.shares), strict=True))

        def shares(places: list[int], factor: float) -> Mapping[int, float]:
            return {place: factor**power for place, power in zip(places, powers.values(), strict=True)}

        return shares(*dropping.fitted(ratio, list(powers), shares, num_layers))


class _Transitions(LayerPruner):
    """Sums transitions per visual token alive; `_sums[row]` follows their order in the prompt."""

    def __init__(self, method: TransPrune, ratio: float) -> None:
        self._method, self._ratio = method, ratio
        self._sums: list[Tensor] = []
        self._places: list[Tensor] = []  # per row, where its visual tokens stand until the next cut
        self._text = 0  # tokens of the longest text behind a picture
        self._stages: Mapping[int, float] = {}

    def watches(self, layer: int, num_layers: int) -> bool:
        self._stages = self._stages or self._method.stages(self._ratio, num_layers)
        return min(self._stages) <= layer <= max(self._stages)

    def after(self, state: LayerState) -> None:
        if not self.watches(state.layer, state.num_layers):
            return
        added = sum((transition(*state.moved(part), state.valid) for part in ("attention", "mlp")), torch.zeros(()))
        checked = finite(
            added.masked_fill(~state.visual, 0.0), self._method.name, f"transitions in block {state.layer}"
        )
        if not self._places:  # the first block watched, or the first behind a cut
            visual, text = on_host([state.visual, state.after_image.sum(1)])
            self._places, self._text = dropping.placed(visual, state.visual.device), int(text.max())
        rows = [row.index_select(0, seen) for row, seen in zip(checked, self._places, strict=True)]
        self._sums = [old + new for old, new in zip(self._sums, rows, strict=True)] if self._sums else rows

    def before(self, state: LayerState) -> Survivors | None:
        self.watches(state.layer, state.num_layers)
        share = self._stages.get(state.layer - 1)
        if share is None:
            return None
        scores = dropping.checked(state, text_attention(state, self._text), self._method.name)
        scores = scores / (scores.sum(1, keepdim=True) + _TINY)
        for row, (seen, moved) in enumerate(zip(self._places, self._sums, strict=True)):
            scores[row].index_add_(0, seen, (moved / (moved.sum() + _TINY)).to(scores.dtype))
        survivors = dropping.keep_visual(state, scores, dropping.share_of(share, state.num_visual))
        if state.layer <= max(self._stages):  # another cut follows
            lived = dropping.placed(on_host([survivors.keep & state.visual])[0], state.visual.device)
            self._sums = [
                moved.index_select(0, torch.searchsorted(seen, left))
                for moved, seen, left in zip(self._sums, self._places, lived, strict=True)
            ]
        self._places = []
        return survivors


def transition(given: Tensor, made: Tensor, valid: Tensor) -> Tensor:
    """|made| / |given| times the softmax, over a row's valid tokens, of 1 - cos(given, made): fp32 [B, S].

    0 for a token given as zero, of which there is no share.
    """
    given, made = (states.masked_fill(~valid[..., None], 0.0).float() for states in (given, made))
    turned = 1.0 - torch.nn.functional.cosine_similarity(given, made, dim=-1)
    shares = torch.softmax(turned.masked_fill(~valid, -torch.inf), -1)
    before, after = given.norm(dim=-1), made.norm(dim=-1)
    return torch.where(before > 0.0, after / before, torch.zeros_like(after)) * shares


def text_attention(state: LayerState, longest: int) -> Tensor:
    """Attention a key gets from the text behind the picture, mean over heads and over those queries: [B, S].

    Args:
        longest: text tokens behind the picture in the row that has most.
    """
    length, counts = state.valid.shape[1], state.after_image.sum(1)
    last = torch.arange(length - longest, length, device=state.valid.device)
    rows = state.attention_rows(last.expand(len(counts), -1)).mean(1)
    asking = state.after_image[:, last, None]
    return torch.where(asking, rows, torch.zeros_like(rows)).sum(1) / counts.clamp(min=1)[:, None]
