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

from dataclasses import dataclass

from hero_ray.core.encoded import Budget, Encoded, Needs, Selection, VisionInfo, keep_all
from hero_ray.core.errors import SelectionError
from hero_ray.core.layout import Layout
from hero_ray.core.lazy import Tensor, torch
from hero_ray.core.looks import on_host
from hero_ray.methods.base import Method
from hero_ray.methods.kit.allocation import equal, floor
from hero_ray.methods.kit.merging import blank, copied
from hero_ray.methods.kit.scores import caps, captured, finite, keep_top, tally


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
        device = source.device
        # What leads is told to the host once; from there on all counts and places are known to it.
        (leading,) = on_host([keep_top(scores, [dominant for _, dominant, _ in shares], layout.valid)])
        edited, targets = blank(encoded.projector_input), torch.zeros_like(leading)
        copied(encoded.projector_input, edited, leading)
        for view, (_, _, contextual) in enumerate(shares):
            places = (layout.valid[view] & ~leading[view]).nonzero()[:, 0]
            rest, chosen = places.to(device), target_places(len(places), contextual)
            merged = contextual_tokens(source[view, rest], metric[view, rest], chosen.to(device))
            targets[view, places[chosen]] = True
            edited[view].index_copy_(0, places[chosen].to(device), merged.to(edited.dtype))
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


def target_places(tokens: int, count: int) -> Tensor:
    """Every (n // c)-th of n tokens: int64 [c], c = min(count, n)."""
    count = min(count, tokens)
    return torch.arange(0, tokens, max(1, tokens // max(1, count)))[:count]


def contextual_tokens(features: Tensor, metric: Tensor, targets: Tensor) -> Tensor:
    """Merged features [c, W] of the `targets` [c] among n tokens.

    Args:
        features: [n, W], metric: [n, C] keys that similarity is taken from.
    """
    count = len(targets)
    if not count:
        return features[:0]
    unit = torch.nn.functional.normalize(metric.float(), dim=-1)
    group = (unit @ unit[targets].T).argmax(1)
    group[targets] = count  # one row more takes the targets themselves, so that no token is copied to be summed
    sums = torch.zeros(count + 1, features.shape[1], dtype=features.dtype, device=features.device)
    sums.index_add_(0, group, features)
    sizes = tally(group, count + 1).clamp(min=1)
    return features[targets] + sums[:count] / sizes[:count, None]


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
