"""VisionTrim: dominant tokens by attention, and complements that the question draws from the rest (arXiv 2601.22674).

Per view, dominant tokens have the highest mean of two unit vectors: the CLS row of the feature block and the attention
that a token gets from the other patches there, head means. Of the rest, complements have the highest mean cosine with
the question's CLIP words, and take up all others in three rounds: a token's likeness to a complement is the product of
their cosines with every word, and a complement adds the mean of those it is nearest to. Follows hanxunyu/VisionTrim
@360ce81 (`clip_encoder.py`, `token_prune_visiontrim`).

A quarter are complements, as in the code's 48 + 16. In a single view they stand behind the dominant tokens.
Differs: the budget is split evenly over views under their real token count and padding takes no part; the code has no
way of putting several views together, so that with tiles tokens keep the prompt's order and newlines follow the sweep's
policy. Its local affinity is computed and then overwritten there, and left out here. Without CLIP's text tower (or on
InternVL2, whose tokens are no CLIP patches) all tokens are dominant and the selection says `visiontrim-v`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hero_ray.core.encoded import Budget, Encoded, Needs, Selection, VisionInfo, keep_all
from hero_ray.core.errors import SelectionError
from hero_ray.core.lazy import Tensor, torch
from hero_ray.core.looks import on_host, places
from hero_ray.methods.base import Method
from hero_ray.methods.kit.allocation import equal, floor
from hero_ray.methods.kit.merging import bag_sums, blank, by_group, copied, group_sums, nearest_of
from hero_ray.methods.kit.scores import caps, captured, cls_attention, finite, keep_top, tally


@dataclass(frozen=True)
class VisionTrim(Method):
    """Dominant tokens and text-guided complements."""

    complement_share: float = 0.25
    rounds: int = 3

    name = "visiontrim"
    paper = "VisionTrim, arXiv 2601.22674"
    text_aware = True

    def check(self) -> None:
        self.require(0.0 <= self.complement_share < 1.0, "complement_share", "a share in [0, 1)")
        self.require(0 <= self.rounds <= 100, "rounds", "0 to 100 rounds of merging")

    def needs(self, vision: VisionInfo) -> Needs:
        layer = frozenset({vision.feature_layer})
        return Needs(cls_attention=layer, received=layer, projector_input=True, clip_words=True)

    def select(self, encoded: Encoded, budget: Budget) -> Selection:
        layout, layer = encoded.layout, encoded.vision.feature_layer
        if budget.is_full:
            return keep_all(layout)
        if encoded.projector_input is None:
            raise SelectionError("visiontrim merges tokens before the projector, but its input was not captured")
        source = finite(encoded.projector_input, self.name, "the projector's input")
        valid = layout.valid.to(source.device)
        from_cls = cls_attention(encoded, (layer,), self.name).masked_fill(~valid, 0.0)
        from_patches = captured(encoded.received, layer, self.name, "attention received in layer")[:, 1]
        scores = 0.5 * torch.nn.functional.normalize(from_cls, dim=1) + 0.5 * torch.nn.functional.normalize(
            from_patches.masked_fill(~valid, 0.0), dim=1
        )
        counts = equal(budget.total, caps(layout.valid))
        seen, note = self._seen(encoded, source)
        extra = [0 if seen is None else floor(self.complement_share * count) for count in counts]
        leads = [count - more for count, more in zip(counts, extra, strict=True)]
        # What leads is told to the host once; from there on it knows every count.
        (leading,) = on_host([keep_top(scores, leads, valid)])
        edited, complements = blank(encoded.projector_input), torch.zeros_like(valid)
        copied(encoded.projector_input, edited, leading)
        if seen is not None and any(extra):
            chosen, taken = complemented(source, seen, layout.valid & ~leading, extra, self.rounds)
            complements.view(-1).index_fill_(0, chosen, True)
            edited.flatten(0, 1).index_copy_(0, chosen, taken.to(edited.dtype))
        (complements,) = on_host([complements])
        order = None
        if not layout.num_tiles:
            order = torch.cat([leading[0].nonzero()[:, 0], complements[0].nonzero()[:, 0]])
        return Selection(
            leading | complements,
            order=order,
            edited=edited,
            space="projector_input",
            scores=scores,
            view_budgets=tuple(counts),
            note=note,
        )

    def _seen(self, encoded: Encoded, source: Tensor) -> tuple[Seen | None, str]:
        """All tokens in CLIP's shared space, typed and placed as `source`, or None with what that means."""
        question = encoded.question
        if question is None or question.clip_words is None or question.clip_patches is None:
            return None, "visiontrim-v: no CLIP words, no complements"
        patches = question.clip_patches.to(source)
        words = finite(question.clip_words, self.name, "the question's CLIP words").to(source)
        # A norm is finite only if every value is.
        norms = torch.linalg.vector_norm(patches, dim=-1)
        finite(norms, self.name, "norms of patches in CLIP's space")
        return Seen(patches, norms, patches @ torch.nn.functional.normalize(words, dim=-1).T), ""


@dataclass(frozen=True)
class Seen:
    """Tokens as CLIP's shared space sees them: [V, N, P], their norms [V, N], their products with Q unit words."""

    patches: Tensor
    norms: Tensor
    products: Tensor


def complemented(source: Tensor, seen: Seen, rest: Tensor, counts: Sequence[int], rounds: int) -> tuple[Tensor, Tensor]:
    """Complements among the `rest` of every view, and what they become; all views in one go.

    Projection is linear, so that a merged token's place in CLIP's space is the sum of its parts' there, and so are its
    products with the words.

    Args:
        source: [V, N, C]; seen: the same tokens projected.
        rest: bool [V, N], on the CPU; counts: complements of every view.

    Returns:
        int64 [c] tokens as places in [V * N], ascending, and [c, C].
    """
    rest = rest & (torch.tensor(counts) > 0)[:, None]
    known = [min(count, here) for count, here in zip(counts, caps(rest), strict=True)]
    to_words = seen.products / seen.norms.clamp(min=1e-12)[..., None]
    best = keep_top(to_words.mean(2), known, rest)
    chosen = places(best.flatten(), sum(known))
    others = places((rest.to(best.device) & ~best).flatten(), int(rest.sum()) - sum(known))
    own, patches, products, to_words = (part.flatten(0, 1) for part in (source, seen.patches, seen.products, to_words))
    tokens, to_words = rest.shape[1], to_words[others]
    # A row for every view, copied to each of its tokens: far fewer comparisons than tokens times complements.
    apart = torch.arange(len(rest), device=own.device)[:, None] != chosen // tokens
    elsewhere = torch.where(apart, -torch.inf, 0.0).to(own.dtype).index_select(0, others // tokens)
    taken, place, product = own.index_select(0, chosen), patches.index_select(0, chosen), products[chosen]
    joined: list[Tensor] = []
    shares: list[Tensor] = []
    for turn in range(rounds if len(others) else 0):
        unit = product / torch.linalg.vector_norm(place, dim=1).clamp(min=1e-12)[:, None]
        nearest = nearest_of(torch.addmm(elsewhere, to_words, unit.T))
        sizes = tally(nearest, len(chosen))
        share = sizes.clamp(min=1).to(own.dtype).reciprocal_()
        if turn + 1 < rounds:
            rows = others[by_group(nearest, len(chosen))]
            place += bag_sums(patches, rows, sizes).mul_(share[:, None])
            product += bag_sums(products, rows, sizes).mul_(share[:, None])
        joined.append(nearest)
        shares.append(share[nearest])
    if joined:
        # All rounds at once: a complement's tokens are in the cache when the next round adds them up again.
        again = others.repeat(len(joined))
        taken += group_sums(own, again, torch.cat(joined), len(chosen), torch.cat(shares))[0]
    return chosen, taken
