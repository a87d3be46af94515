"""Merging: what PruMerge and PruMerge+ share (outlier counts, neighbours, assembly), and averages of projected tokens.

Shape letters: V views, N tokens, C width of keys, W and D widths of features, n kept tokens.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hero_ray.core.encoded import Encoded, Selection
from hero_ray.core.errors import SelectionError
from hero_ray.core.lazy import Tensor, torch
from hero_ray.core.looks import on_host
from hero_ray.methods.kit.scores import caps, captured, finite, tally, unchecked
from hero_ray.methods.kit.similarity import inverse_norm


@dataclass(frozen=True)
class Views:
    """What merging reads.

    Attributes:
        scores: [V, N] CLS attention over the full width.
        keys: [V, N, C].
        norms: [V, N], of the keys.
        features: [V, N, W] projector input.
        valid: bool [V, N], on the CPU.
    """

    scores: Tensor
    keys: Tensor
    norms: Tensor
    features: Tensor
    valid: Tensor


def outliers(scores: Tensor) -> int:
    """How many scores lie above the upper fence Q3 + 1.5 IQR."""
    if len(scores) < 2:
        return 0
    scores = scores.double()
    low, _, high = statistics.quantiles(scores.tolist(), n=4, method="inclusive")
    return int((scores > high + 1.5 * (high - low)).sum())


def merge(views: Views, kept: Sequence[Tensor], neighbours: int) -> tuple[Tensor, Tensor]:
    """Kept tokens plus their weighted neighbours, and the weighted sum of what every view dropped.

    A kept token x_i becomes x_i + sum of a_j x_j over the tokens with the most similar keys, kept ones included;
    weights are not normalised and original features are used throughout.

    Args:
        kept: V times int64 [n], on the CPU: kept positions in output order.

    Returns:
        [sum of n, W] view by view and [V, W].
    """
    rows, scores = views.features.float().flatten(0, 1), views.scores.float()
    tokens, device = scores.shape[1], scores.device
    near: list[Tensor] = []
    sizes: list[int] = []
    for view, (order, real) in enumerate(zip(kept, caps(views.valid), strict=True)):
        count = min(neighbours, real - 1)  # a view of one token has no neighbours
        if count > 0 and len(order):
            near.append(_nearest(views, view, order.to(device), count).flatten() + view * tokens)
        sizes += [max(count, 0)] * len(order)
    places = torch.cat([order + view * tokens for view, order in enumerate(kept)]).to(device)
    merged = rows.index_select(0, places)
    if near:
        # A few neighbours each: summing them alone takes a fraction of a product with every token.
        bags, lengths, weights = torch.cat(near), torch.tensor(sizes, device=device), scores.flatten()
        merged += torch.nn.functional.embedding_bag(
            bags, rows, lengths.cumsum(0) - lengths, mode="sum", per_sample_weights=weights[bags]
        )
    left = scores.masked_fill(~views.valid.to(device), 0.0).flatten().index_fill_(0, places, 0.0).view_as(scores)
    return merged, (left[:, None] @ rows.view(*scores.shape, -1))[:, 0]


def _nearest(views: Views, view: int, order: Tensor, count: int) -> Tensor:
    """The `count` tokens of a view with the keys most like each kept one's, `order` [n]: int64 [n, count], unsorted."""
    keys = views.keys[view].float()
    # The norm of a kept token's own key does not change who is nearest to it.
    likeness = (keys.index_select(0, order) @ keys.T).div_(views.norms[view].clamp(min=1e-12))
    likeness.masked_fill_(~views.valid[view].to(order.device), -torch.inf)
    likeness.scatter_(1, order[:, None], -torch.inf)
    return likeness.topk(count, dim=1, sorted=False).indices


def merged_selection(
    encoded: Encoded, layer: int, name: str, choose: Callable[[int, Tensor], Tensor], neighbours: int, note: str
) -> Selection:
    """Run `choose(view, scores)` on the real tokens of every view and put the merged tokens view by view.

    `choose` gets its scores, and returns kept positions in output order, on the CPU; every view ends with its leftover
    token. No newlines.
    """
    layout = encoded.layout
    query = captured(encoded.cls_query, layer, name, "CLS query of layer").flatten(1)
    source = encoded.projector_input
    if source is None:
        raise SelectionError(f"{name} merges tokens before the projector, but the encoder did not capture its input")
    keys = unchecked(encoded.keys, layer, name, "keys of layer").to(query.dtype).transpose(1, 2).flatten(2)
    # Norms and leftover are made from every key and every feature, and are finite only if all of those are.
    norms = finite(torch.linalg.vector_norm(keys, dim=2), name, f"norms of keys of layer {layer!r}")
    # A product with one vector at a time: equal keys have equal logits then, which a batch of them need not.
    logits = torch.stack([own @ row for own, row in zip(keys, query, strict=True)])
    attention = torch.softmax(logits * keys.shape[2] ** -0.5, 1)[:, 1:]
    seen = [view for view, count in enumerate(caps(layout.valid)) if count]
    for view in set(range(layout.num_views)) - set(seen):
        attention[view] = 0.0  # padding alone
    (scores,) = on_host([attention])  # how many survive follows from their values: read once for all views
    kept = [torch.empty(0, dtype=torch.long)] * layout.num_views
    for view in seen:
        real = layout.valid[view].nonzero()[:, 0]
        kept[view] = real[choose(view, scores[view, real])]
    tokens, leftover = merge(Views(attention, keys[:, 1:], norms[:, 1:], source, layout.valid), kept, neighbours)
    leftover = leftover.index_select(0, torch.tensor(seen, device=source.device))
    keep, edited = torch.zeros(layout.valid.shape, dtype=torch.bool), blank(source)
    for view, places in enumerate(kept):
        keep[view, places] = True
    first = layout.tokens_per_view
    places = torch.cat([places + view * first for view, places in enumerate(kept)]).to(source.device)
    edited.flatten(0, 1).index_copy_(0, places, tokens.to(edited.dtype))
    order = {view: torch.cat([kept[view] + view * first, torch.tensor([-2 - row])]) for row, view in enumerate(seen)}
    return Selection(
        keep,
        order=torch.cat([order[view] for view in sorted(seen, key=lambda view: _turn(encoded, view))]),
        edited=edited,
        extra=finite(leftover, name, "the sum of projector inputs").to(source.dtype),
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


def group_sums(
    features: Tensor, tokens: Tensor, groups: Tensor, count: int, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Sum of the rows `tokens` [m] of features [N, D] in each of `count` groups [m], in that order, and their numbers.

    Rows count by their `weights` [m], if there are any.

    Returns:
        [count, D], zero for a group without tokens, and int64 [count].
    """
    order, sizes = by_group(groups, count), tally(groups, count)
    return bag_sums(features, tokens[order], sizes, None if weights is None else weights[order]), sizes


def bag_sums(features: Tensor, tokens: Tensor, sizes: Tensor, weights: Tensor | None = None) -> Tensor:
    """Sums of rows of features [N, D] that stand group by group: `tokens` [m], of which `sizes` [c] each: [c, D].

    A bag of rows at a time, which takes a fraction of adding rows one by one to where they belong.
    """
    return torch.nn.functional.embedding_bag(
        tokens, features, sizes.cumsum(0) - sizes, mode="sum", per_sample_weights=weights
    )


def by_group(groups: Tensor, count: int) -> Tensor:
    """Positions of `groups` [m], all below `count`, group by group, ascending in each: int64 [m].

    On a CPU numpy's, which sorts numbers of two bytes by their digits.
    """
    if groups.device.type != "cpu" or count > 2**15:
        return groups.argsort(stable=True)
    return torch.from_numpy(groups.numpy().astype(np.int16).argsort(kind="stable"))


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
