"""Density-peak clustering of dropped tokens (DPC-KNN), deterministic. n tokens, C width."""

from __future__ import annotations

from hero_ray.core.lazy import Tensor, torch
from hero_ray.methods.kit.scores import descending, tally


def density_peaks(tokens: Tensor, clusters: int) -> Tensor:
    """Group of every token: int64 [n] in 0..clusters-1.

    Centres are the tokens with the largest density times distance to any denser token; density comes from the mean
    squared distance to the `clusters` nearest (the token itself among them), distances are L2 / sqrt(C). Where official
    codes break density ties by a random jitter, the earlier token counts as denser here.
    """
    distance = torch.cdist(tokens[None].float(), tokens[None].float())[0] / tokens.shape[-1] ** 0.5
    nearest = distance.topk(min(clusters, len(tokens)), largest=False).values
    density = (-nearest.square().mean(-1)).exp()
    place = torch.arange(len(tokens), device=tokens.device)
    denser = (density[None] > density[:, None]) | ((density[None] == density[:, None]) & (place[None] < place[:, None]))
    gap = torch.where(denser, distance, distance.max()).amin(-1)
    centres = descending(gap * density, clusters)
    group = distance[centres].argmin(0)
    group[centres] = torch.arange(len(centres), device=tokens.device)
    return group


def averaged(tokens: Tensor, clusters: int) -> Tensor:
    """Mean token of every density-peak group: [clusters, C]."""
    group = density_peaks(tokens, clusters)
    sums = torch.zeros(clusters, tokens.shape[-1], dtype=torch.float32, device=tokens.device)
    sums.index_add_(0, group, tokens.float())
    sizes = tally(group, clusters).clamp(min=1)
    return (sums / sizes[:, None]).to(tokens.dtype)
