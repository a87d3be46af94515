"""Stages B and C: projector and language model learn to answer, the vision tower stays as stage A left it.

Stage B shows single 64-token tiles, where the look-up from word to patch is found quickly; its second half asks more
about words and places, which come last. Stage C shows whole AnyRes sequences of mixed sizes and keeps what B found;
"polish" goes on with it at a lower rate.
Every visual token is always present: nothing is trained on pruned input.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from hero_ray.benchmarks.synthetic.documents import CANVASES
from hero_ray.benchmarks.synthetic.questions import FAMILIES, SyntheticQuestion, all_questions
from hero_ray.benchmarks.synthetic.scenes import TILE, Scene, compose
from tools.tiny.batches import IGNORED, Packed, Segment, pack
from tools.tiny.captions import attribute_lists
from tools.tiny.optimise import Optimiser, Progress
from tools.tiny.tokenizer import SUFFIX

Canvases = tuple[tuple[tuple[int, int], float], ...]
# Single tiles, some of them partly padding as the tiles of an odd-sized picture are.
TILE_CANVASES: Canvases = (((64, 64), 0.70), ((64, 48), 0.15), ((48, 64), 0.15))
SUFFIX_SHARE = 0.04
CROWD, CROWDED_SHARE = 3, 0.8


@dataclass(frozen=True)
class Curriculum:
    """What one stage of the language model shows and asks.

    Attributes:
        peak: Learning rate after the warm-up.
        canvases: Scene sizes (width, height) with their shares; one size per step.
        limits: At most so many questions of a category per scene.
        num_lists: Attribute lists per scene.
        scenes: Scenes per step on canvases of up to two tiles, and on larger ones.
        seed: Keeps the scenes of the stages apart.
    """

    name: str
    peak: float
    canvases: Canvases
    limits: Mapping[str, int]
    num_lists: int
    scenes: tuple[int, int]
    seed: int

    def num_scenes(self, width: int, height: int) -> int:
        return self.scenes[width * height > 2 * TILE**2]


_CATEGORIES = ("colour", "shape", "digit", "word", "exist", "count", "position", "texture", "shade")


def _limits(*numbers: int) -> dict[str, int]:
    return dict(zip(_CATEGORIES, numbers, strict=True))


# Reading is hard and asked often; words and places come last, so the second half of stage B asks more about them.
CURRICULA = {
    curriculum.name: curriculum
    for curriculum in (
        Curriculum("tiles", 2e-3, TILE_CANVASES, _limits(1, 1, 4, 2, 2, 2, 2, 1, 1), 4, (32, 32), 2),
        Curriculum("reading", 1.6e-3, TILE_CANVASES, _limits(1, 1, 2, 2, 2, 2, 5, 1, 1), 5, (32, 32), 5),
        Curriculum("anyres", 1.6e-3, CANVASES, _limits(3, 3, 8, 2, 5, 6, 6, 1, 1), 3, (12, 8), 3),
        Curriculum("polish", 1.2e-3, CANVASES, _limits(3, 3, 8, 2, 6, 6, 6, 1, 1), 3, (12, 8), 7),
    )
}

# A visual token that covers four patches shows a digit beside three patches without one, and places have to be worked
# out from rows and columns: both are asked more often, of fewer scenes, and shapes last.
_FEW: dict[str, Any] = {"scenes": (8, 5), "num_lists": 5}
NATIVE_CURRICULA = {
    "tiles": replace(CURRICULA["tiles"], scenes=(12, 12)),
    "anyres": replace(CURRICULA["anyres"], limits=_limits(1, 1, 12, 2, 4, 2, 8, 1, 1), **_FEW),
    "polish": replace(CURRICULA["polish"], limits=_limits(2, 6, 5, 2, 6, 4, 8, 1, 1), **_FEW),
}


class Answerer:
    """What stages B and C need from a vision-language model of transformers' usual build."""

    module: Any
    prefix_ids: tuple[int, ...]
    tower_prefix: str
    """What the vision tower's weights are called in the checkpoint stage A left."""

    def adopt_tower(self, state: dict[str, Tensor]) -> None:
        """Take over the vision tower from the weights stage A left."""
        start = self.tower_prefix
        vision = {name.removeprefix(start): t for name, t in state.items() if name.startswith(start)}
        self.module.model.vision_tower.load_state_dict(vision)

    def initialise(self, scenes: Sequence[Scene], features: Tensor) -> None:
        """Fresh projector and language model, fitted to the tower features of a sample of scenes."""
        raise NotImplementedError

    def features(self, scenes: Sequence[Scene]) -> Tensor:
        """Frozen tower features of all views of equally large scenes, `[scenes * views, tokens, width]`."""
        raise NotImplementedError

    def visual_tokens(self, scenes: Sequence[Scene], features: Tensor) -> Tensor:
        """What the language model sees of each scene, `[scenes, tokens, dim]`."""
        raise NotImplementedError

    def places(self, scenes: Sequence[Scene], positions: Tensor) -> Tensor:
        """Position ids of packed rows, from those that count every token, `[scenes, tokens]`."""
        return positions

    def embed(self, ids: Tensor) -> Tensor:
        return self.module.model.language_model.embed_tokens(ids)

    def logits(self, embeddings: Tensor, mask: Tensor, positions: Tensor, wanted: Tensor) -> Tensor:
        """Next-token logits at the `wanted` positions (bool, over the sequence without its prefix)."""
        states = self.module.model.language_model(
            inputs_embeds=embeddings, attention_mask=mask, position_ids=positions, use_cache=False
        ).last_hidden_state
        return self.module.lm_head(states[:, -wanted.shape[1] :][wanted])

    def trainable(self) -> list[nn.Parameter]:
        raise NotImplementedError

    def segment(self, question: str, answer: str) -> Segment:
        """A question with everything up to the answer, and the answer with its end."""
        raise NotImplementedError

    def fragment(self, start: str, rest: str) -> Segment:
        """Bare words right behind the picture, to be continued."""
        raise NotImplementedError


def sample_questions(scene: Scene, limits: Mapping[str, int], rng: np.random.Generator) -> list[SyntheticQuestion]:
    """Up to `limits[category]` different questions of every category."""
    chosen = []
    for category in FAMILIES:
        pool = all_questions(scene, category, rng)
        if category == "exist":
            half = [q for q in pool if q.answer == "yes"], [q for q in pool if q.answer == "no"]
            number = -(-limits[category] // 2)
            chosen += [side[i] for side in half for i in rng.permutation(len(side))[:number]]
        else:
            chosen += [pool[i] for i in rng.permutation(len(pool))[: limits[category]]]
    return chosen


def draw_scenes(
    rng: np.random.Generator,
    canvases: Sequence[tuple[tuple[int, int], float]],
    number: Callable[[int, int], int],
) -> list[Scene]:
    """Scenes of one random size, none of them without an object and single tiles mostly crowded.

    With one or two objects a list of what is there nearly answers every question, and attention stays uniform: on
    tiles as they come, digits were stuck at the share of lucky guesses (0.63) for 900 steps.
    """
    sizes, shares = zip(*canvases, strict=True)
    width, height = sizes[int(rng.choice(len(sizes), p=shares))]
    scenes: list[Scene] = []
    while len(scenes) < number(width, height):
        scene = compose(rng, width, height)
        crowded = len(scene.things) >= CROWD or rng.random() > CROWDED_SHARE or width * height > TILE**2
        if scene.things and crowded:
            scenes.append(scene)
    return scenes


def forward(
    model: Answerer,
    scenes: Sequence[Scene],
    features: Tensor,
    rows: Sequence[Sequence[tuple[str, str]]],
    fragments: Sequence[Sequence[tuple[str, str]]] | None = None,
) -> tuple[Packed, Tensor, Tensor]:
    """Run rows of (question, answer) in one sequence each.

    Args:
        fragments: More rows of (start, rest), packed behind the questions.

    Returns:
        The packed rows, the wanted positions and the logits there.
    """
    visual = model.visual_tokens(scenes, features)
    start = model.embed(torch.tensor([model.prefix_ids])).expand(len(scenes), -1, -1)
    segments = [
        [model.segment(*pair) for pair in row] + [model.fragment(*pair) for pair in more]
        for row, more in zip(rows, fragments or [()] * len(rows), strict=True)
    ]
    packed = pack(segments, start.shape[1] + visual.shape[1])
    embeddings = torch.cat([start, visual, model.embed(packed.ids)], 1)
    wanted = packed.labels != IGNORED
    return packed, wanted, model.logits(embeddings, packed.mask, model.places(scenes, packed.positions), wanted)


def correct_by_question(packed: Packed, wanted: Tensor, logits: Tensor) -> list[list[bool]]:
    """Whether every answer token is the most likely one: the same as an exact match of greedy decoding."""
    wrong = torch.zeros_like(wanted)
    wrong[wanted] = logits.argmax(-1) != packed.labels[wanted]
    marks = []
    for row, segments in zip(wrong, packed.segments, strict=True):
        bad = set(segments[row].tolist())
        marks.append([number not in bad for number in range(int(segments.max()) + 1)])
    return marks


def train_language(
    model: Answerer,
    curriculum: Curriculum,
    steps: int,
    seed: int,
    report: Callable[[str], None],
    checkpoint: Callable[[int], None] = lambda step: None,
) -> Progress:
    """Run a stage in place; `checkpoint` is called after every step."""
    optimiser = Optimiser(model.trainable(), curriculum.peak, steps, warm_up=80)
    progress = Progress(curriculum.name, steps)
    for step in range(1, steps + 1):
        rng = np.random.default_rng([0, seed, curriculum.seed, step])
        scenes = draw_scenes(rng, curriculum.canvases, curriculum.num_scenes)
        rows = [sample_questions(scene, curriculum.limits, rng) for scene in scenes]
        with torch.no_grad():
            features = model.features(scenes)
        asked = [[(_word(q.text, rng), q.answer) for q in row] for row in rows]
        lists = [attribute_lists(scene) for scene in scenes]
        fragments = [[row[i] for i in rng.permutation(len(row))[: curriculum.num_lists]] for row in lists]
        packed, wanted, logits = forward(model, scenes, features, asked, fragments)
        loss = functional.cross_entropy(logits, packed.labels[wanted])
        optimiser.step(loss, step)
        with torch.no_grad():
            figures = {"loss": loss.item(), **_accuracy(rows, correct_by_question(packed, wanted, logits))}
        progress.update(step, figures, report)
        checkpoint(step)
    return progress


def _word(question: str, rng: np.random.Generator) -> str:
    """Now and then with the suffix that many prompts carry, so that it does no harm."""
    return f"{question} {SUFFIX}" if rng.random() < SUFFIX_SHARE else question


def _accuracy(rows: Sequence[Sequence[SyntheticQuestion]], marks: Sequence[Sequence[bool]]) -> dict[str, float]:
    by_category: dict[str, list[bool]] = {}
    for row, row_marks in zip(rows, marks, strict=True):
        for question, mark in zip(row, row_marks, strict=False):
            by_category.setdefault(question.category, []).append(mark)
        by_category.setdefault("list", []).extend(row_marks[len(row) :])
    return {category: sum(values) / len(values) for category, values in by_category.items() if values}


@lru_cache(maxsize=65536)
def cached_ids(encode: Callable[[str], Sequence[int]], text: str) -> tuple[int, ...]:
    """Token ids of a text; the generator repeats itself, so most are looked up."""
    return tuple(encode(text))
