"""Stage A: the vision tower and the CLIP text tower learn together.

Two losses. Contrastive between CLS and captions, read after the last layer and, with less weight, after the middle one.
Dense patch labels, read from the layer the language model will see; they put each digit into exactly one patch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from hero_ray.benchmarks.synthetic.documents import CANVASES
from hero_ray.benchmarks.synthetic.labels import HEADS, IGNORED
from hero_ray.benchmarks.synthetic.scenes import TILE, Scene, compose
from tools.tiny.captions import describe
from tools.tiny.optimise import Optimiser, Progress
from tools.tiny.tokenizer import clip_tokenizer
from tools.tiny.views import View

VIEWS_PER_STEP = 50
MIDDLE_WEIGHT = 0.3
# Weight of each head, and of the label "none" inside it.
_WEIGHTS = {
    "shape": (1.0, 0.15),
    "colour": (1.0, 0.15),
    "digit": (1.0, 0.1),
    "word": (0.6, 0.1),
    "tone": (0.3, 0.1),
    "texture": (0.4, 1.0),
    "shade": (0.1, 1.0),
    "quadrant": (0.4, 1.0),
}


class DenseHeads(nn.Module):
    """Linear read-outs of what each patch shows; thrown away after training."""

    def __init__(self, width: int, names: Sequence[str] = tuple(HEADS)) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.heads = nn.ModuleDict({name: nn.Linear(width, HEADS[name]) for name in names})

    def loss(self, patches: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Weighted cross entropy of `patches` `[views, tokens, width]` on `labels` `[views, heads, tokens]`."""
        normed = self.norm(patches)
        total, figures = patches.new_zeros(()), {}
        for name, head in self.heads.items():
            logits, target = head(normed).flatten(0, 1), labels[:, list(HEADS).index(name)].flatten()
            weight, none_weight = _WEIGHTS[name]
            per_class = torch.ones(HEADS[name])
            per_class[0] = none_weight
            total = total + weight * functional.cross_entropy(logits, target, per_class, ignore_index=IGNORED)
            with torch.no_grad():
                meant = target > 0 if none_weight < 1 else target != IGNORED
                if meant.any():
                    figures[name] = (logits.argmax(1)[meant] == target[meant]).float().mean().item()
        return total, figures


def soft_targets(captions: Sequence[str]) -> Tensor:
    """Equal captions are positives of one another: rows `[n, n]` that sum to one."""
    ids: dict[str, int] = {}
    index = torch.tensor([ids.setdefault(caption, len(ids)) for caption in captions])
    same = (index[:, None] == index[None]).float()
    return same / same.sum(1, keepdim=True)


def contrastive(visual: Tensor, textual: Tensor, scale: Tensor, targets: Tensor) -> tuple[Tensor, float]:
    """Symmetric cross entropy of unit vectors and the share of views whose own caption scores highest."""
    logits = scale.clamp(max=4.6).exp() * visual @ textual.t()
    loss = (functional.cross_entropy(logits, targets) + functional.cross_entropy(logits.t(), targets)) / 2
    with torch.no_grad():
        hits = targets.gather(1, logits.argmax(1, keepdim=True)) > 0
    return loss, hits.float().mean().item()


def draw_views(
    rng: np.random.Generator,
    cut: Callable[[Scene], list[View]],
    canvases: Sequence[tuple[tuple[int, int], float]],
) -> tuple[list[View], list[str]]:
    """Views of fresh scenes with their captions, at least `VIEWS_PER_STEP` of them."""
    sizes, shares = zip(*canvases, strict=True)
    views: list[View] = []
    captions: list[str] = []
    while len(views) < VIEWS_PER_STEP:
        scene = compose(rng, *sizes[int(rng.choice(len(sizes), p=shares))])
        for view in cut(scene):
            views.append(view)
            captions.append(describe(scene, view, rng))
    return views, captions


@dataclass(frozen=True)
class TowerCurriculum:
    """Scene sizes of a tower stage with their shares, the learning rate, and what keeps its scenes apart."""

    name: str
    canvases: Sequence[tuple[tuple[int, int], float]]
    peak: float
    seed: int


_UNEVEN = [(size, share) for size, share in CANVASES if size[0] % TILE or size[1] % TILE]
_EVEN = [(size, share) for size, share in CANVASES if not (size[0] % TILE or size[1] % TILE)]
CURRICULA = {
    "tower": TowerCurriculum("tower", CANVASES, 2e-3, 1),
    # Stretching takes glyphs off the patch grid, where they are much harder to learn: three in four scenes have it.
    "sharpen": TowerCurriculum(
        "sharpen",
        [(size, 0.75 * share / sum(s for _, s in _UNEVEN)) for size, share in _UNEVEN]
        + [(size, 0.25 * share / sum(s for _, s in _EVEN)) for size, share in _EVEN],
        1.6e-3,
        6,
    ),
}


def train_tower(
    tower: "TowerPair", curriculum: TowerCurriculum, steps: int, seed: int, report: Callable[[str], None]
) -> Progress:
    """Run a stage of the towers in place."""
    heads = DenseHeads(tower.width)
    optimiser = Optimiser([*tower.module.parameters(), *heads.parameters()], curriculum.peak, steps)
    tokenizer = clip_tokenizer()
    progress = Progress(curriculum.name, steps)
    for step in range(1, steps + 1):
        views, captions = draw_views(
            np.random.default_rng([0, seed, curriculum.seed, step]), tower.cut, curriculum.canvases
        )
        labels = torch.from_numpy(np.stack([view.labels for view in views]))
        texts = tokenizer(captions, padding=True, truncation=True, return_tensors="pt")
        textual = tower.embed_text(texts["input_ids"], texts["attention_mask"])
        last, middle, patches = tower.embed_views(tower.pixel_values(views))
        targets = soft_targets(captions)
        loss_last, hits = contrastive(last, textual, tower.logit_scale, targets)
        loss_middle, hits_middle = contrastive(middle, textual, tower.logit_scale, targets)
        loss_dense, figures = heads.loss(patches, labels)
        optimiser.step(loss_last + MIDDLE_WEIGHT * loss_middle + loss_dense, step)
        figures |= {
            "clip": loss_last.item(),
            "top1": hits,
            "top1_middle": hits_middle,
            "dense": loss_dense.item(),
        }
        progress.update(step, figures, report)
    return progress


class TowerPair:
    """What stage A needs from a pair of vision and text towers."""

    module: nn.Module
    width: int
    logit_scale: nn.Parameter

    def cut(self, scene: Scene) -> list[View]:
        """The views a scene goes through the tower as."""
        raise NotImplementedError

    def pixel_values(self, views: Sequence[View]) -> Tensor:
        """Normalised pixels `[views, 3, 64, 64]`."""
        raise NotImplementedError

    def embed_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Unit vectors `[texts, 64]`."""
        raise NotImplementedError

    def embed_views(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """CLS after the last and the middle layer as unit vectors, and patch features `[views, tokens, width]`."""
        raise NotImplementedError
