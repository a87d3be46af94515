"""VisionZip: dominant tokens by CLS attention, the rest merged into contextual ones (arXiv 2412.04467).

Per view the CLS token itself and the patches with the highest head-summed CLS attention in the feature block survive.
Of the rest every (n // c)-th becomes a target; each other token joins the target with the most similar key (head mean),
and the target adds the mean of its group. Follows dvlab-research/VisionZip @3151f6d (`clip_encoder.py`, `utils.py`).
Order: thumbnail (CLS, dominant, contextual), the tiles' dominant tokens in mosaic order, all CLS, all contextual; no
newlines.

`contextual_share` is that of the printed settings (54 + 10, 108 + 20, 162 + 30); the code's bare default is 30 of 221.
Differs: the budget is split evenly over views and counts the CLS token, padding takes no part; a share too small for a
contextual token (fewer than 7 of a view) has none, where the code divides by zero. On InternVL2, where a
token stands for four patches, there is no CLS token to pass on, nor is there where the tower has none (SigLIP): tokens
are ranked by the mean attention they receive there, as in the code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hero_ray.core.encoded import Budget, Encoded, Needs, Selection, VisionInfo, keep_all
from hero_ray.core.errors import SelectionError
from hero_ray.core.layout import Layout
from hero_ray.core.lazy import Tensor, torch
from hero_ray.core.looks import on_host
from hero_ray.methods.base import Method
from hero_ray.methods.kit.allocation import equal, floor
from hero_ray.methods.kit.merging import blank, copied, group_sums, nearest_of
from hero_ray.methods.kit.scores import caps, captured, finite, keep_top


@dataclass(frozen=True)
class VisionZip(Method):
    """Dominant and contextual tokens."""

    contextual_share: float = 10 / 64

    name = "visionzip"
    paper = "VisionZip, arXiv 2412.04467"

    def check(self) -> None:
        self.require(0.0 <= self.contextual_share < 1.0, "contextual_share", "a share in [0, 1)")

    def needs(self, vision: VisionInfo) -> Needs:
        layer = frozenset({vision.feature_layer})
        cls_token = frozenset({"feature_layer"}) if _passes_cls(vision) else frozenset[str]()
        return Needs(cls_attention=layer, keys=layer, cls_embedding=cls_token, projector_input=True)

    def select(self, encoded: Encoded, budget: Budget) -> Selection:
        layout, layer = encoded.layout, encoded.vision.feature_layer
        if budget.is_full:
            return keep_all(layout)
        if encoded.projector_input is None:
            raise SelectionError("visionzip merges tokens before the projector, but its input was not captured")
        source = finite(encoded.projector_input, self.name, "the projector's input")
        scores = captured(encoded.cls_attention, layer, self.name, "CLS attention of layer").sum(1)
        metric = captured(encoded.keys, layer, self.name, "keys of layer")[:, :, 1:].mean(1)
        counts = equal(budget.total, caps(layout.valid))
        passes_cls = _passes_cls(encoded.vision)
        shares = [self.split(count, passes_cls) for count in counts]
        # What leads is told to the host once; from there on all counts and places are known to it.
        (leading,) = on_host([keep_top(scores, [dominant for _, dominant, _ in shares], layout.valid)])
        targets = target_places(layout.valid & ~leading, [contextual for _, _, contextual in shares])
        edited = blank(encoded.projector_input)
        copied(encoded.projector_input, edited, leading)
        merged = contextual_tokens(source, metric, targets, layout.valid & ~leading & ~targets)
        places = targets.flatten().nonzero()[:, 0].to(source.device)
        edited.flatten(0, 1).index_copy_(0, places, merged.to(edited.dtype))
        cls = None
        if passes_cls:
            cls = captured(encoded.cls_embedding, "feature_layer", self.name, "CLS embedding").to(edited.dtype)
        return Selection(
            leading | targets,
            order=_order(layout, leading, targets, [own for own, _, _ in shares]),
            edited=edited,
            extra=cls,
            space="projector_input",
            scores=scores,
            view_budgets=tuple(counts),
            note="one token of every view's budget is the CLS token" if passes_cls else "",
        )

    def split(self, count: int, passes_cls: bool) -> tuple[int, int, int]:
        """CLS, dominant and contextual tokens of a view that may keep `count`."""
        own = int(passes_cls and count > 0)
        contextual = min(floor(count * self.contextual_share), count - own)
        return own, count - own - contextual, contextual


def _passes_cls(vision: VisionInfo) -> bool:
    return vision.has_cls and vision.patches_per_token == 1


def target_places(rest: Tensor, counts: Sequence[int]) -> Tensor:
    """Every (n // c)-th of the n tokens left in a view, c of them: bool [V, N], on the CPU as `rest` is."""
    targets = torch.zeros_like(rest)
    for view, count in enumerate(counts):
        places = rest[view].nonzero()[:, 0]
        count = min(count, len(places))
        targets[view, places[:: max(1, len(places) // max(1, count))][:count]] = True
    return targets


def contextual_tokens(features: Tensor, metric: Tensor, targets: Tensor, others: Tensor) -> Tensor:
    """Merged features [c, W] of all targets, view by view: each with the mean of those of its view that are nearest.

    All views in one go: what a product with the few targets of other views costs is less than a call.

    Args:
        features: [V, N, W]; metric: [V, N, C] keys that similarity is taken from.
        targets: bool [V, N], c of them, and `others`, those that join them, both on the CPU.
    """
    tokens, features = features.shape[1], features.flatten(0, 1)
    others = others & targets.any(1, keepdim=True)
    aims, joining = (mask.flatten().nonzero()[:, 0].to(features.device) for mask in (targets, others))
    if not len(joining):
        return features[aims]
    unit = torch.nn.functional.normalize(metric.flatten(0, 1).float(), dim=-1)
    elsewhere = (joining // tokens)[:, None] != aims // tokens
    likeness = (unit[joining] @ unit[aims].T).masked_fill_(elsewhere, -torch.inf)
    sums, sizes = group_sums(features, joining, nearest_of(likeness), len(aims))
    return features[aims] + sums.div_(sizes.clamp(min=1)[:, None])


def _order(layout: Layout, leading: Tensor, targets: Tensor, with_cls: list[int]) -> Tensor:
    """The release's order: thumbnail block, the tiles' dominant tokens, their CLS tokens, their contextual tokens."""
    views = layout.num_views
    tokens = torch.arange(leading.numel()).view(leading.shape)
    cls = [torch.tensor([-2 - view] * own, dtype=torch.long) for view, own in enumerate(with_cls)]
    tiles = leading.clone()
    tiles[0] = False
    thumbnail = [cls[0], tokens[0][leading[0]], tokens[0][targets[0]]]
    rest = [
        layout.order(tiles, "none"),
        *cls[1:],
        *(tokens[view][targets[view]] for view in range(1, views)),
    ]
    thumbnail_last = int(layout.sequence[0]) >= layout.tokens_per_view
    return torch.cat([*rest, *thumbnail] if thumbnail_last else [*thumbnail, *rest]).long()
