"""Merging: what PruMerge and PruMerge+ share (outlier counts, neighbours, assembly), and averages of projected tokens.

Shape letters: V views, N tokens, C width of keys, W and D widths of features, n kept tokens.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from hero_ray.core.encoded import Encoded, Selection
from hero_ray.core.errors import SelectionError
from hero_ray.core.lazy import Tensor, torch
from hero_ray.core.looks import on_host
from hero_ray.methods.kit.scores import caps, captured, finite, tally, unchecked
from hero_ray.methods.kit.similarity import inverse_norm


@dataclass(frozen=True)
class View:
    """Real tokens of one view.

    Attributes:
        scores: [N] CLS attention over the full width.
        keys: [N, C].
        norms: [N], of the keys.
        features: [N, W] projector input.
    """

    scores: Tensor
    keys: Tensor
    norms: Tensor
    features: Tensor

    def only(self, tokens: Tensor) -> View:
        """The same of some tokens."""
        return View(self.scores[tokens], self.keys[tokens], self.norms[tokens], self.features[tokens])


def outliers(scores: Tensor) -> int:
    """How many scores lie above the upper fence Q3 + 1.5 IQR."""
    if len(scores) < 2:
        return 0
    scores = scores.double()
    low, _, high = statistics.quantiles(scores.tolist(), n=4, method="inclusive")
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
    likeness = (keys.index_select(0, order) @ keys.T).div_(view.norms.clamp(min=1e-12))
    likeness.scatter_(1, order[:, None], -torch.inf)
    near = likeness.topk(min(neighbours, len(scores) - 1), dim=1, sorted=False).indices
    kept, dropped = features.index_select(0, order), scores.index_fill(0, order, 0.0) @ features
    if near.numel():  # a view of one token has no neighbours
        # A few neighbours each: summing them alone takes a fraction of a product with every token.
        kept += torch.nn.functional.embedding_bag(near, features, mode="sum", per_sample_weights=scores[near])
    return kept, dropped


def merged_selection(
    encoded: Encoded, layer: int, name: str, choose: Callable[[int, Tensor], Tensor], neighbours: int, note: str
) -> Selection:
    """Run `choose(view, scores)` on the real tokens of every view and put the merged tokens view by view.

    `choose` gets its scores, and returns kept positions in output order, on the CPU; every view ends with its leftover
    token. No newlines.
    """
    layout, device = encoded.layout, encoded.features.device
    query = captured(encoded.cls_query, layer, name, "CLS query of layer").flatten(1)
    every_key = unchecked(encoded.keys, layer, name, "keys of layer")
    source = encoded.projector_input
    if source is None:
        raise SelectionError(f"{name} merges tokens before the projector, but the encoder did not capture its input")
    keep = torch.zeros(layout.valid.shape, dtype=torch.bool)
    attention = torch.zeros(layout.valid.shape, dtype=query.dtype, device=device)
    views: dict[int, View] = {}
    for index, count in enumerate(caps(layout.valid)):
        if not count:
            continue
        keys = every_key[index].to(query.dtype).transpose(0, 1).flatten(1)  # [1 + N, C]
        # Norms and leftover are made from every key and every feature, and are finite only if all of those are.
        norms = finite(torch.linalg.vector_norm(keys, dim=1), name, f"norms of keys of layer {layer!r}")
        attention[index] = torch.softmax(keys @ query[index] * keys.shape[1] ** -0.5, 0)[1:]
        views[index] = View(attention[index], keys[1:], norms[1:], source[index])
    edited = blank(source)
    extra: list[Tensor] = []
    order: dict[int, Tensor] = {}
    (scores,) = on_host([attention])  # how many survive follows from their values: read once for all views
    for index, view in views.items():
        real = layout.valid[index].nonzero()[:, 0]
        if len(real) < layout.tokens_per_view:
            view = view.only(real.to(device))
        chosen = choose(index, scores[index, real])
        tokens, leftover = merge(view, chosen.to(device), neighbours)
        kept = real[chosen]
        keep[index, kept] = True
        edited[index].index_copy_(0, kept.to(device), tokens.to(edited.dtype))
        order[index] = torch.cat([index * layout.tokens_per_view + kept, torch.tensor([-2 - len(extra)])])
        extra.append(finite(leftover, name, "the sum of projector inputs").to(edited.dtype))
    turn = sorted(order, key=lambda index: _turn(encoded, index))
    return Selection(
        keep,
        order=torch.cat([order[index] for index in turn]),
        edited=edited,
        extra=torch.stack(extra).to(source.dtype),
        space="projector_input",
        scores=attention,
        note=note,
    )


def with_merged(selection: Selection, encoded: Encoded, name: str) -> Selection:
    """The same tokens, each the average of itself and the dropped tokens of its view that are most like it.

    Likeness is the cosine of projected tokens; padding takes no part.

    Raises:
        NonFiniteScoreError: a projected token holds NaN or infinity.
    """
    features = encoded.features if encoded.features.dtype == torch.float64 else encoded.features.float()
    (keep,) = on_host([selection.keep])
    edited = blank(encoded.features)
    for view, kept in enumerate(keep):
        merged = averages(features[view], kept, encoded.layout.valid[view], name)
        edited[view].index_copy_(0, kept.nonzero()[:, 0].to(features.device), merged.to(edited.dtype))
    return replace(selection, keep=keep, edited=edited)


def averages(features: Tensor, keep: Tensor, valid: Tensor, name: str) -> Tensor:
    """Kept tokens averaged with the real tokens that are most like them: [N, D] and, on the CPU, bool [N] -> [n, D].

    Raises:
        NonFiniteScoreError: one of them holds NaN or infinity; `name` is the method's.
    """
    kept, rest = (mask.nonzero()[:, 0].to(features.device) for mask in (keep, valid & ~keep))
    leading = features.index_select(0, kept)
    if not len(kept) or not len(rest):
        return leading
    # The norm of a token that is merged does not change which one is nearest to it.
    # A token that is not finite shows in every one of its products.
    likeness = finite(
        features.index_select(0, rest) @ leading.mul_(inverse_norm(leading)[:, None]).T, name, "projected features"
    )
    groups = torch.cat([torch.arange(len(kept), device=kept.device), nearest_of(likeness)])
    sums, sizes = group_sums(features, torch.cat([kept, rest]), groups, len(kept))
    return sums.div_(sizes[:, None])


def nearest_of(likeness: Tensor) -> Tensor:
    """Position of the largest of every row [m, n], ties to the first: int64 [m]. On a CPU numpy's, which is faster."""
    if likeness.device.type != "cpu":
        return likeness.argmax(1)
    return torch.from_numpy(likeness.numpy().argmax(1))


def group_sums(features: Tensor, tokens: Tensor, groups: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Sum of the rows `tokens` [m] of features [N, D] in each of `count` groups [m], in that order, and their numbers.

    A bag of rows at a time, which takes a fraction of adding rows one by one to where they belong.

    Returns:
        [count, D], zero for a group without tokens, and int64 [count].
    """
    sizes = tally(groups, count)
    bags = tokens[groups.argsort(stable=True)]
    return torch.nn.functional.embedding_bag(bags, features, sizes.cumsum(0) - sizes, mode="sum"), sizes


def blank(like: Tensor) -> Tensor:
    """Zeros of that shape and type. On a CPU the memory is only touched where it is written to.

    Merged tokens fill a few rows of [V, N, W]; clearing 11.8 MB first took longer than merging did.
    """
    if like.device.type != "cpu":
        return torch.zeros_like(like)
    return torch.from_numpy(np.zeros(like.numel() * like.element_size(), np.uint8)).view(like.dtype).view(like.shape)


def copied(source: Tensor, target: Tensor, keep: Tensor) -> None:
    """Copy the tokens of `keep` (bool [V, N], on the CPU) from source to target, both [V, N, W]."""
    places = keep.flatten().nonzero()[:, 0].to(source.device)
    target.flatten(0, 1).index_copy_(0, places, source.flatten(0, 1).index_select(0, places))


def _turn(encoded: Encoded, view: int) -> int:
    """Place of a view: InternVL2 puts the thumbnail last, everyone else first."""
    thumbnail_last = int(encoded.layout.sequence[0]) >= encoded.layout.tokens_per_view
    return encoded.layout.num_views if thumbnail_last and view == 0 else view
