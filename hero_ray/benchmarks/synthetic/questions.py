"""Questions about a scene whose answers follow from it, one function per family."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from hero_ray.benchmarks.synthetic.backgrounds import SHADES, TEXTURES
from hero_ray.benchmarks.synthetic.glyphs import COLOUR_NAMES, PLURALS, SHAPES, TONES, WORDS
from hero_ray.benchmarks.synthetic.scenes import FIRST_SIGN, Facts, Thing


@dataclass(frozen=True)
class SyntheticQuestion:
    """One question with its only right answer.

    Attributes:
        category: The kind of question, finer than the benchmark ("colour", "digit", ...).
        referents: The `Scene.owner` values one has to look at; empty for questions about the whole picture.
    """

    category: str
    text: str
    answer: str
    referents: tuple[int, ...] = ()


def _alone(scene: Facts, key: Callable[[Thing], int]) -> list[tuple[int, Thing]]:
    """The things that no other thing equals under `key`: safe to refer to by it."""
    values = [key(thing) for thing in scene.things]
    return [(i, thing) for i, thing in enumerate(scene.things) if values.count(key(thing)) == 1]


def named_things(scene: Facts) -> Iterator[tuple[int, Thing, str]]:
    """Every unambiguous way to name a thing: by its shape, by its colour."""
    for i, thing in _alone(scene, lambda thing: thing.shape):
        yield i, thing, SHAPES[thing.shape]
    for i, thing in _alone(scene, lambda thing: thing.colour):
        yield i, thing, f"{COLOUR_NAMES[thing.colour]} object"


def _colour(scene: Facts, rng: np.random.Generator) -> list[SyntheticQuestion]:
    return [
        SyntheticQuestion("colour", f"What colour is the {SHAPES[t.shape]}?", COLOUR_NAMES[t.colour], (i,))
        for i, t in _alone(scene, lambda thing: thing.shape)
    ]


def _shape(scene: Facts, rng: np.random.Generator) -> list[SyntheticQuestion]:
    return [
        SyntheticQuestion("shape", f"What shape is the {COLOUR_NAMES[t.colour]} object?", SHAPES[t.shape], (i,))
        for i, t in _alone(scene, lambda thing: thing.colour)
    ]


def _digit(scene: Facts, rng: np.random.Generator) -> list[SyntheticQuestion]:
    return [
        SyntheticQuestion("digit", f"What number is on the {name}?", str(thing.digit), (i,))
        for i, thing, name in named_things(scene)
        if thing.digit is not None
    ]


def _word(scene: Facts, rng: np.random.Generator) -> list[SyntheticQuestion]:
    return [
        SyntheticQuestion("word", f"What word is on the {TONES[sign.tone]} sign?", WORDS[sign.word], (FIRST_SIGN + i,))
        for i, sign in enumerate(scene.signs)
    ]


def _existence(shape: int, colour: int, answer: str, referents: tuple[int, ...]) -> SyntheticQuestion:
    article = "an" if COLOUR_NAMES[colour][0] in "aeiou" else "a"
    text = f"Is there {article} {COLOUR_NAMES[colour]} {SHAPES[shape]} in the image?"
    return SyntheticQuestion("exist", text, answer, referents)


def _exist(scene: Facts, rng: np.random.Generator) -> list[SyntheticQuestion]:
    """As many absent pairs as present ones; a negative borrows a present shape or colour, each with p = 0.6."""
    present = {(t.shape, t.colour): i for i, t in enumerate(scene.things)}
    shapes, colours = [t.shape for t in scene.things], [t.colour for t in scene.things]
    questions = [_existence(s, c, "yes", (i,)) for (s, c), i in present.items()]
    asked = set(present)
    while len(asked) < 2 * len(present):
        # An index, not `rng.choice`: the same draw at a fifth of its cost.
        shape = shapes[rng.integers(len(shapes))] if rng.random() < 0.6 else int(rng.integers(len(SHAPES)))
        colour = colours[rng.integers(len(colours))] if rng.random() < 0.6 else int(rng.integers(len(COLOUR_NAMES)))
        if (shape, colour) not in asked:
            asked.add((shape, colour))
            questions.append(_existence(shape, colour, "no", ()))
    return questions


def _count(scene: Facts, rng: np.random.Generator) -> list[SyntheticQuestion]:
    """Every present shape and colour, and one absent one of each."""
    by_shape = [t.shape for t in scene.things]
    by_colour = [t.colour for t in scene.things]
    questions = []
    for present, names in ((by_shape, PLURALS), (by_colour, [f"{c} objects" for c in COLOUR_NAMES])):
        absent = [value for value in range(len(names)) if value not in present]
        chosen = [absent[rng.integers(len(absent))]] if absent else []
        for value in [*dict.fromkeys(present), *chosen]:
            owners = tuple(i for i, other in enumerate(present) if other == value)
            questions.append(
                SyntheticQuestion("count", f"How many {names[value]} are there?", str(len(owners)), owners)
            )
    return questions


def _position(scene: Facts, rng: np.random.Generator) -> list[SyntheticQuestion]:
    return [
        SyntheticQuestion("position", f"Where is the {name}?", scene.quadrant(thing.box), (i,))
        for i, thing, name in named_things(scene)
    ]


def _texture(scene: Facts, rng: np.random.Generator) -> list[SyntheticQuestion]:
    return [SyntheticQuestion("texture", "What pattern is the background?", TEXTURES[scene.texture])]


def _shade(scene: Facts, rng: np.random.Generator) -> list[SyntheticQuestion]:
    return [SyntheticQuestion("shade", "Is the background light or dark?", SHADES[scene.shade])]


Family = Callable[[Facts, np.random.Generator], list[SyntheticQuestion]]
FAMILIES: dict[str, Family] = {
    "colour": _colour,
    "shape": _shape,
    "digit": _digit,
    "word": _word,
    "exist": _exist,
    "count": _count,
    "position": _position,
    "texture": _texture,
    "shade": _shade,
}
BENCHMARKS: dict[str, tuple[str, ...]] = {
    "synth-attribute": ("colour", "shape"),
    "synth-digits": ("digit",),
    "synth-words": ("word",),
    "synth-exist": ("exist",),
    "synth-count": ("count",),
    "synth-position": ("position",),
    "synth-scene": ("texture", "shade"),
}


def all_questions(scene: Facts, category: str, rng: np.random.Generator) -> list[SyntheticQuestion]:
    """Every well-posed question of a category about a scene; `rng` picks the absent things asked about."""
    return FAMILIES[category](scene, rng)


def choose_questions(
    scene: Facts, categories: tuple[str, ...], number: int, rng: np.random.Generator
) -> list[SyntheticQuestion]:
    """At most `number` different questions, evenly over the categories; exist questions are half yes, half no."""
    pools = []
    for category in categories:
        questions = all_questions(scene, category, rng)
        if category == "exist":
            yes = [q for q in questions if q.answer == "yes"]
            no = [q for q in questions if q.answer == "no"]
            pools += [yes, no] if rng.random() < 0.5 else [no, yes]
        else:
            pools.append(questions)
    for pool in pools:
        order = rng.permutation(len(pool))
        pool[:] = [pool[i] for i in order]
    longest = max((len(pool) for pool in pools), default=0)
    turns = [pool[turn] for turn in range(longest) for pool in pools if turn < len(pool)]
    return turns[:number]
