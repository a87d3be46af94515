"""Stage A of a tower without CLS that sees whole pictures: dense patch labels, and what a picture holds.

What a picture holds is read from its patches in proportion to the attention they receive, in every block that sees all
of it. Nothing else would make such a block look at objects, as a loss on CLS does elsewhere. Quadrants are not asked
for: a tower whose positions only turn queries and keys cannot tell the place of a patch, its language model can.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from hero_ray.benchmarks.synthetic.documents import CANVASES
from hero_ray.benchmarks.synthetic.labels import HEADS
from hero_ray.benchmarks.synthetic.scenes import TILE
from tools.tiny.optimise import Optimiser, Progress
from tools.tiny.qwen import WHOLE, QwenTower, pictures_of
from tools.tiny.stage_language import TILE_CANVASES, draw_scenes
from tools.tiny.stage_tower import DenseHeads

ASKED = tuple(name for name in HEADS if name != "quadrant")
HELD = ("shape", "colour", "digit", "word", "tone")
HELD_WEIGHT = 1.5
PEAK, SEED = 2e-3, 1
TILES_PER_STEP = 24
# Whole pictures mostly, and single windows, which the language model's first stages show.
NATIVE_CANVASES = tuple((size, 0.8 * share) for size, share in CANVASES) + tuple(
    (size, 0.2 * share) for size, share in TILE_CANVASES
)


class Contents(nn.Module):
    """Which labels a picture holds, read where attention goes; thrown away after training."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in WHOLE)
        self.reads = nn.ModuleList(nn.Linear(width, sum(HEADS[name] - 1 for name in HELD)) for _ in WHOLE)

    def loss(self, whole: list[tuple[Tensor, Tensor]], labels: Tensor) -> tuple[Tensor, float]:
        """Cross entropy, averaged over labels and blocks, and the share of the held labels that are found.

        Args:
            whole: outputs `[pictures, patches, width]` with the attention received, `[pictures, patches]`.
            labels: `[pictures, heads, patches]`.
        """
        targets = held(labels)
        total, found = targets.new_zeros(()), 0.0
        for (states, received), norm, read in zip(whole, self.norms, self.reads, strict=True):
            logits = read((received[:, :, None] * norm(states)).sum(1))
            total = total + functional.binary_cross_entropy_with_logits(logits, targets, 1 + 2 * targets)
            found = (logits.detach() > 0)[targets > 0].float().mean().item()
        return total, found


def held(labels: Tensor) -> Tensor:
    """1 for every label that some patch shows, else 0: `[pictures, labels]`."""
    parts = []
    for name in HELD:
        shown = labels[:, list(HEADS).index(name)]
        parts.append(torch.stack([(shown == label).any(1) for label in range(1, HEADS[name])], 1))
    return torch.cat(parts, 1).float()


def train_native(tower: QwenTower, steps: int, seed: int, report: Callable[[str], None]) -> Progress:
    """Run the stage in place."""
    width = tower.module.config.hidden_size
    dense, contents = DenseHeads(width, ASKED), Contents(width)
    blocks = [p for name, p in tower.module.named_parameters() if not name.startswith("merger.")]
    optimiser = Optimiser([*blocks, *dense.parameters(), *contents.parameters()], PEAK, steps)
    progress = Progress("tower", steps)
    for step in range(1, steps + 1):
        rng = np.random.default_rng([0, seed, SEED, step])
        scenes = draw_scenes(rng, NATIVE_CANVASES, lambda width, height: TILES_PER_STEP * TILE**2 // (width * height))
        labels = tower.labels(scenes)
        states, whole = tower.states(pictures_of(scenes), weigh=True)
        loss_dense, figures = dense.loss(states, labels)
        loss_held, found = contents.loss(whole, labels)
        optimiser.step(loss_dense + HELD_WEIGHT * loss_held, step)
        figures |= {"dense": loss_dense.item(), "held": loss_held.item(), "found": found}
        progress.update(step, figures, report)
    return progress
