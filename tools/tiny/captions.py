"""Texts for contrastive training: what a view shows, or a question about something in it."""

import numpy as np

from hero_ray.benchmarks.synthetic.backgrounds import SHADES, TEXTURES
from hero_ray.benchmarks.synthetic.glyphs import COLOUR_NAMES, PLURALS, SHAPES, TONES, WORDS
from hero_ray.benchmarks.synthetic.questions import named_things
from hero_ray.benchmarks.synthetic.scenes import FIRST_SIGN, Scene, Sign, Thing
from tools.tiny.views import View

QUESTION_SHARE = 0.25
_MENTION, _NUMBER = 0.85, 0.75


def describe(scene: Scene, view: View, rng: np.random.Generator) -> str:
    """A caption, or in a quarter of the tiles with objects a question about one of them.

    The text tower has to know the wording of questions because HERO scores tiles against the raw instruction.
    """
    things = [thing for i, thing in enumerate(scene.things) if i in view.owners]
    signs = [sign for i, sign in enumerate(scene.signs) if FIRST_SIGN + i in view.owners]
    if view.fine and (things or signs) and rng.random() < QUESTION_SHARE:
        return _question_about(things, signs, rng)
    parts = [_describe_thing(things[i], view.fine, rng) for i in rng.permutation(len(things))]
    if view.fine:
        parts += [f"the word {WORDS[sign.word]} on the {TONES[sign.tone]} sign" for sign in signs]
    if rng.random() < 0.5 or not parts:
        parts.append(f"on a {SHADES[scene.shade]} {TEXTURES[scene.texture]} background")
    return " and ".join(parts)


def attribute_lists(scene: Scene) -> list[tuple[str, str]]:
    """For every unambiguous name of a thing: the name, and the rest of what is true of it.

    "star" goes with "red 5 top left", "white" with the word on the white sign. A language model that continues the
    name has to find the thing and read it, in one hop and without a question around it. That is how attention by name
    is learnt before it can be asked for.
    """
    lists = []
    for _, thing, name in named_things(scene):
        by_colour = name.endswith("object")
        first = name.split()[0] if by_colour else name
        rest = [SHAPES[thing.shape] if by_colour else COLOUR_NAMES[thing.colour]]
        if thing.digit is not None:
            rest.append(str(thing.digit))
        lists.append((first, " ".join([*rest, scene.quadrant(thing.box)])))
    return lists + [(TONES[sign.tone], WORDS[sign.word]) for sign in scene.signs]


def _describe_thing(thing: Thing, fine: bool, rng: np.random.Generator) -> str:
    words = ["a"]
    if rng.random() < _MENTION:
        words.append(COLOUR_NAMES[thing.colour])
    words.append(SHAPES[thing.shape] if rng.random() < _MENTION else "object")
    if fine and thing.digit is not None and rng.random() < _NUMBER:
        words.append(f"with number {thing.digit}")
    return " ".join(words)


def _question_about(things: list[Thing], signs: list[Sign], rng: np.random.Generator) -> str:
    chosen = int(rng.integers(len(things) + len(signs)))
    if chosen >= len(things):
        return f"What word is on the {TONES[signs[chosen - len(things)].tone]} sign?"
    thing = things[chosen]
    shape, colour = SHAPES[thing.shape], COLOUR_NAMES[thing.colour]
    article = "an" if colour[0] in "aeiou" else "a"
    texts = [
        f"What colour is the {shape}?",
        f"What shape is the {colour} object?",
        f"Is there {article} {colour} {shape} in the image?",
        f"How many {PLURALS[thing.shape]} are there?",
        f"How many {colour} objects are there?",
        f"Where is the {shape}?",
        f"Where is the {colour} object?",
    ]
    if thing.digit is not None:
        texts += [f"What number is on the {shape}?", f"What number is on the {colour} object?"] * 2
    return texts[int(rng.integers(len(texts)))]
