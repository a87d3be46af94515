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

from dataclasses import dataclass

from hero_ray.core.encoded import Budget, Encoded, Needs, Selection, VisionInfo, keep_all
from hero_ray.core.errors import SelectionError
from hero_ray.core.lazy import Tensor, torch
from hero_ray.core.looks import on_host, places
from hero_ray.methods.base import Method
from hero_ray.methods.kit.allocation import equal, floor
from hero_ray.methods.kit.merging import blank, copied, group_sums
from hero_ray.methods.kit.scores import caps, captured, cls_attention, descending, finite, keep_top


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
        words, patches, note = self._words(encoded)
        extra = [0 if words is None else floor(self.complement_share * count) for count in counts]
        leads = [count - more for count, more in zip(counts, extra, strict=True)]
        # What leads is told to the host once; from there on it knows every count.
        (leading,) = on_host([keep_top(scores, leads, valid)])
        edited, complements = blank(encoded.projector_input), torch.zeros_like(valid)
        copied(encoded.projector_input, edited, leading)
        for view, count in enumerate(extra):
            if words is None or patches is None or not count:
                continue
            rest = (layout.valid[view] & ~leading[view]).nonzero()[:, 0].to(source.device)
            chosen, taken = complemented(source[view], patches[view], rest, words, count, self.rounds)
            complements[view, chosen] = True
            edited[view].index_copy_(0, chosen, taken.to(edited.dtype))
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

    def _words(self, encoded: Encoded) -> tuple[Tensor | None, Tensor | None, str]:
        """Unit words [Q, P] and patches [V, N, P] in CLIP's shared space, or None with what that means."""
        question = encoded.question
        if question is None or question.clip_words is None or question.clip_patches is None:
            return None, None, "visiontrim-v: no CLIP words, no complements"
        patches = finite(question.clip_patches, self.name, "patches in CLIP's space")
        words = finite(question.clip_words, self.name, "the question's CLIP words").to(patches.device)
        return torch.nn.functional.normalize(words, dim=-1), patches, ""


def complemented(
    source: Tensor, patches: Tensor, rest: Tensor, words: Tensor, count: int, rounds: int
) -> tuple[Tensor, Tensor]:
    """Complements among `rest` [n] of a view's tokens, in order, and what they become.

    Projection is linear, so that a merged token's place in CLIP's space is the sum of its parts' there.

    Args:
        source: [N, C]; patches: [N, P] the same tokens projected; words: [Q, P], of length 1.

    Returns:
        int64 [c] tokens and [c, C], c = min(count, n).
    """
    own = patches.index_select(0, rest)
    own.div_(torch.linalg.vector_norm(own, dim=-1, keepdim=True).clamp_(min=1e-12))
    to_words = own @ words.T  # [n, Q]
    best = descending(to_words.mean(1), count).sort().values
    left = torch.ones(len(rest), dtype=torch.bool, device=rest.device).index_fill_(0, best, False)
    chosen, others = rest[best], places(left, len(rest) - len(best))
    rest, rest_words = rest[others], to_words[others]
    taken, place = source.index_select(0, chosen), patches.index_select(0, chosen)
    for turn in range(rounds if len(rest) else 0):
        nearest = (rest_words @ (torch.nn.functional.normalize(place, dim=-1) @ words.T).T).argmax(1)
        more, sizes = group_sums(source, rest, nearest, len(chosen))
        taken = taken + more.div_(sizes.clamp_(min=1)[:, None])
        if turn + 1 < rounds:
            place = place + group_sums(patches, rest, nearest, len(chosen))[0].div_(sizes[:, None])
    return chosen, taken
