"""What every registered method is, in words: the source of `hero-ray list methods` and of docs/methods.md.

python -m hero_ray.methods.kit.catalogue > docs/methods.md
"""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from dataclasses import dataclass
from typing import Any, Literal

from hero_ray.core.encoded import VisionInfo
from hero_ray.methods import get, names
from hero_ray.methods.base import Method, field_types
from hero_ray.methods.kit.absent import ABSENT
from hero_ray.methods.kit.movement import figures

_CLIP = VisionInfo(num_layers=24, feature_layer=23)
_STAGES = {"image": "before the tower", "before-llm": "before the LLM", "in-llm": "inside the LLM"}


@dataclass(frozen=True)
class Parameter:
    """One hyper-parameter: its default as text and its type in words."""

    name: str
    default: str
    kind: str


@dataclass(frozen=True)
class Card:
    """One method as catalogues show it.

    Attributes:
        reads: what it looks at, for a 24-block CLIP tower.
        inside: whether it drops inside the LLM what it let in.
        budget: whether the number kept follows from the ratio.
        doc: the module docstring.
        own: whether it belongs to this package, not to an entry point.
    """

    name: str
    stage: str
    inside: bool
    text_aware: bool
    reads: str
    variants: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    paper: str
    budget: str
    positions: str
    doc: str
    own: bool
    straw_man: bool

    @property
    def summary(self) -> str:
        """First line of the docstring, without the reference."""
        return self.doc.split("\n", 1)[0]

    @property
    def defaults(self) -> str:
        """Parameters and defaults in one line."""
        return ", ".join(f"{parameter.name}={parameter.default}" for parameter in self.parameters) or "none"


def card(name: str) -> Card:
    """The card of one method.

    Raises:
        UnknownNameError: nothing is registered under `name`.
    """
    return card_of(get(name))


def card_of(cls: type[Method]) -> Card:
    """The card of a method class, registered or not; a class that cannot fill one raises whatever it raises."""
    method = cls()
    return Card(
        name=cls.name,
        stage=cls.stage,
        inside=method.stage == "in-llm",
        text_aware=cls.text_aware,
        reads=reads(method),
        variants=cls.variants,
        parameters=_parameters(cls),
        paper=cls.paper,
        budget=_budget(cls),
        positions=cls.positions if method.stage == "in-llm" else "",
        doc=inspect.cleandoc(inspect.getmodule(cls).__doc__ or ""),
        own=cls.__module__.startswith("hero_ray."),
        straw_man=cls.straw_man,
    )


def cards() -> list[Card]:
    """Every registered method: `full` and the straw men first, then by stage and name."""
    stages = list(_STAGES)

    def place(one: Card) -> tuple[bool, int, str]:
        return one.name != "full" and not one.straw_man, stages.index(one.stage), one.name

    return sorted(map(card, names()), key=place)


def reads(method: Method) -> str:
    """What a method looks at, in words."""
    needs = method.needs(_CLIP)
    parts = [_blocks(words, getattr(needs, field)) for field, words in _TOWER_WORDS.items() if getattr(needs, field)]
    if needs.cls_embedding:
        parts.append("CLS embedding " + ", ".join(sorted(needs.cls_embedding)))
    parts += [words for field, words in _FLAG_WORDS.items() if getattr(needs, field)]
    if method.reads:
        parts.append(method.reads)
    return "; ".join(parts) or "nothing"


_TOWER_WORDS = {
    "cls_attention": "CLS attention",
    "cls_logits": "CLS logits",
    "keys": "keys and CLS query",
    "received": "attention received from patches",
    "llm_attention": "the question's attention rows in the LLM,",
}
_FLAG_WORDS = {
    "projector_input": "projector input",
    "clip_score": "CLIP score of views",
    "clip_tokens": "CLIP score of tokens",
    "clip_words": "CLIP words of the question, patches in CLIP's space",
    "llm_embedding": "question embedding",
    "llm_words": "input embeddings of the question's tokens",
    "prompt_embedding": "prompt embedding",
}


def _blocks(words: str, layers: frozenset[int]) -> str:
    listed = ", ".join(map(str, sorted(layers)))
    return f"{words} block{'s' if len(layers) > 1 else ''} {listed}"


def _budget(cls: type[Method]) -> str:
    """What decides how much survives."""
    own = [variant for variant in cls.variants if not cls(variant=variant).fixed_budget]
    if len(own) == len(cls.variants):
        return "the method itself"
    return "the ratio" + "".join(f"; `{variant}`: the method itself" for variant in own)


def _parameters(cls: type[Method]) -> tuple[Parameter, ...]:
    types = field_types(cls)
    fields = [field for field in dataclasses.fields(cls) if field.name != "variant"]
    return tuple(Parameter(field.name, _shown(field.default), describe_type(types[field.name])) for field in fields)


def describe_type(expected: Any) -> str:
    """A parameter's type in words."""
    arguments = typing.get_args(expected)
    if typing.get_origin(expected) is Literal:
        return "one of " + ", ".join(str(argument) for argument in arguments)
    if isinstance(expected, types.UnionType) or typing.get_origin(expected) is typing.Union:
        return " or ".join(describe_type(argument) for argument in arguments)
    if typing.get_origin(expected) is tuple:
        return f"list of {describe_type(arguments[0])}"
    return "none" if expected is type(None) else str(getattr(expected, "__name__", expected))


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ",".join(map(_shown, value)) + "]"
    return "none" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def markdown() -> str:
    """docs/methods.md: one table, then a section per method of this package."""
    own = [one for one in cards() if one.own]
    anchors = _anchors([one.name for one in own])
    lines = [
        "# Methods",
        "",
        "Generated from the method files by `make docs`; a test compares. Blocks count from",
        "1, for a 24-block tower and a 32-block LLM, and scale with depth. `R` is the retention ratio, the share kept.",
        "Scores are fp32 whatever the model's dtype; released codes score in the model's own, which replaces up to 4 %",
        "of FasterVLM's tokens in fp16, and 21 % in bf16, where attention is flat.",
        "",
        "How far a mask moves when only rounding changes (`python -m perf.mask_movement`, on a CPU): the share of",
        "kept patches that are others then, R = 30 %, mean over 12 pictures, on hero-tiny / hero-tiny-internvl.",
        "`bf16`: a model in bf16 against fp32. `batch`: beside three other pictures against alone, the larger of both",
        "dtypes.",
        "",
        "20,000 random pictures, budgets and scores through every method and variant broke no promise and raised",
        "nothing (`python -m perf.method_cases`: fp32, bf16, fp16, ties, tiles of padding alone, one token).",
        "",
        "| method | stage | reads the question | reads | count follows | bf16, % | batch, % | paper |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| [{one.name}](#{anchors[one.name]}) | {_place(one)} | {'yes' if one.text_aware else 'no'} "
        f"| {one.reads} | {one.budget} | {_moves(one, 'bf16')} | {_moves(one, 'neighbours', 'bf16 neighbours')} "
        f"| {one.paper} |"
        for one in own
    ]
    for one in own:
        lines += ["", f"## {one.name}", "", one.doc, "", *_facts(one)]
    lines += ["", "## Not methods here", "", "| system | where | why |", "| --- | --- | --- |"]
    lines += [f"| {name} | {where} | {why} |" for name, where, why in ABSENT]
    return "\n".join(lines) + "\n"


def _moves(one: Card, *changes: str) -> str:
    """Per cent of a mask that moved, on either embedded model; a method without a mask has none."""
    models = figures().get(one.name, {})
    return " / ".join(f"{100 * max(models[name][what] for what in changes):.1f}" for name in sorted(models)) or "-"


def _place(one: Card) -> str:
    return "before and inside the LLM" if one.inside and one.stage == "before-llm" else _STAGES[one.stage]


def _facts(one: Card) -> list[str]:
    facts = [f"Variants: {', '.join(f'`{variant}`' for variant in one.variants)}."]
    if one.positions:
        facts.append(f"Position ids of survivors: {one.positions}.")
    lines = [" ".join(facts)]
    if one.parameters:
        lines += ["", "| parameter | default | type |", "| --- | --- | --- |"]
        lines += [f"| `{entry.name}` | `{entry.default}` | {entry.kind} |" for entry in one.parameters]
    return lines


def _anchors(headings: list[str]) -> dict[str, str]:
    """The site's anchors: signs dropped, repeated ones numbered."""
    seen: dict[str, int] = {}
    anchors = {}
    for heading in headings:
        plain = heading.replace("+", "")
        seen[plain] = seen.get(plain, -1) + 1
        anchors[heading] = f"{plain}_{seen[plain]}" if seen[plain] else plain
    return anchors


if __name__ == "__main__":
    print(markdown(), end="")
