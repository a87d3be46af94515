"""The parts that PruMerge and PruMerge+ share: outlier counts, neighbour merging, assembly. One view at a time.

Shape letters: N tokens, C width of keys, W width of features, n kept tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hero_ray.encoded import Encoded, Selection
from hero_ray.errors import SelectionError
from hero_ray.methods.scores import caps, captured, finite


@dataclass(frozen=True)
class View:
    """Real tokens of one view.

    Attributes:
        scores: [N] CLS attention over the full width.
        keys: [N, C].
        features: [N, W] projector input.
    """

    scores: Tensor
    keys: Tensor
    features: Tensor


def outliers(scores: Tensor) -> int:
    """How many scores lie above the upper fence Q3 + 1.5 IQR."""
    low, high = torch.quantile(scores.double(), torch.tensor([0.25, 0.75], dtype=torch.float64, device=scores.device))
    return int((scores > high + 1.5 * (high - low)).sum())


def merge(view: View, order: Tensor, neighbours: int) -> tuple[Tensor, Tensor]:
    """Kept tokens plus their weighted neighbours, and the weighted sum of what was dropped.

    A kept token x_i becomes x_i + sum of a_j x_j over the tokens with the most similar keys, kept ones included;
    weights are not normalised and original features are used throughout.

    Args:
        order: int64 [n], kept positions in output order.

    Returns:
        [n, W] and [W].
    """
    features, scores = view.features.float(), view.scores.float()
    keys = view.keys.float()
    # The norm of a kept token's own key does not change who is nearest to it.
    likeness = (keys[order] @ keys.T) / keys.norm(dim=1).clamp(min=1e-12)
    likeness.scatter_(1, order[:, None], -torch.inf)
    near = likeness.topk(min(neighbours, len(scores) - 1), dim=1, sorted=False).indices
    kept, dropped = features[order], scores.index_fill(0, order, 0.0) @ features
    if not near.numel():  # a view of one token has no neighbours
        return kept, dropped
    # A few neighbours each: summing them alone takes a fraction of a product with every token.
    return kept + torch.nn.functional.embedding_bag(
        near, features, mode="sum", per_sample_weights=scores[near]
    ), dropped


def merged_selection(
    encoded: Encoded, layer: int, name: str, choose: Callable[[int, Tensor], Tensor], neighbours: int, note: str
) -> Selection:
    """Run `choose(view, scores)` on the real tokens of every view and put the merged tokens view by view.

    `choose` returns kept positions in output order; every view ends with its leftover token. No newlines.
    """
    layout, device = encoded.layout, encoded.features.device
    keys = captured(encoded.keys, layer, name, "keys of layer").transpose(1, 2).flatten(2)  # [V, 1 + N, C]
    query = captured(encoded.cls_query, layer, name, "CLS query of layer").flatten(1)
    attention = torch.softmax(torch.einsum("vc,vnc->vn", query, keys) * keys.shape[-1] ** -0.5, -1)[:, 1:]
    if encoded.projector_input is None:
        raise SelectionError(f"{name} merges tokens before the projector, but the encoder did not capture its input")
    source = finite(encoded.projector_input, name, "the projector's input")
    keep = torch.zeros(layout.valid.shape, dtype=torch.bool, device=device)
    edited = blank(encoded.projector_input)
    extra: list[Tensor] = []
    order: dict[int, Tensor] = {}
    for index, count in enumerate(caps(layout.valid)):
        if not count:
            continue
        real = layout.valid[index].to(device).nonzero()[:, 0]
        view = View(attention[index], keys[index, 1:], source[index])
        if count < layout.tokens_per_view:
            view = View(view.scores[real], view.keys[real], view.features[real])
        chosen = choose(index, view.scores)
        tokens, leftover = merge(view, chosen, neighbours)
        keep[index, real[chosen]] = True
        edited[index, real[chosen]] = tokens.to(edited.dtype)
        entry = torch.full((1,), -2 - len(extra), device=device)
        order[index] = torch.cat([index * layout.tokens_per_view + real[chosen], entry])
        extra.append(leftover.to(edited.dtype))
    turn = sorted(order, key=lambda index: _turn(encoded, index))
    return Selection(
        keep,
        order=torch.cat([order[index] for index in turn]),
        edited=edited,
        extra=torch.stack(extra).to(encoded.projector_input.dtype),
        space="projector_input",
        scores=attention,
        note=note,
    )


def blank(like: Tensor) -> Tensor:
    """Zeros of that shape and type. On a CPU the memory is only touched where it is written to.

    Merged tokens fill a few rows of [V, N, W]; clearing 11.8 MB first took longer than merging did.
    """
    if like.device.type != "cpu":
        return torch.zeros_like(like)
    return torch.from_numpy(np.zeros(like.numel() * like.element_size(), np.uint8)).view(like.dtype).view(like.shape)


def descending(scores: Tensor, count: int) -> Tensor:
    """The `count` best positions, best first, ties to the lower index."""
    return scores.argsort(descending=True, stable=True)[:count]


def _turn(encoded: Encoded, view: int) -> int:
    """Place of a view: InternVL2 puts the thumbnail last, everyone else first."""
    thumbnail_last = int(encoded.layout.sequence[0]) >= encoded.layout.tokens_per_view
    return encoded.layout.num_views if thumbnail_last and view == 0 else view
