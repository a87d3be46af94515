"""Prompts of lmms-eval 0.7.3 word for word, and its verdicts (and VLMEvalKit's) on random answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hero_ray.benchmarks import get
from hero_ray.benchmarks.choices import match_option_vlmevalkit
from tests.golden.verdicts import ours, same

VECTORS = json.loads((Path(__file__).parent / "harness_vectors.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", VECTORS["prompts"])
def test_prompts_word_for_word(name: str, hub_rows: Path) -> None:
    benchmark = get(name, data=hub_rows / name)
    for family in ("llava-next", "llava-1.5", "internvl2"):
        assert [benchmark.prompt(sample, family) for sample in benchmark.samples()] == VECTORS["prompts"][name]


@pytest.mark.parametrize("rule", VECTORS["scores"])
def test_every_verdict(rule: str) -> None:
    found = [(text, verdict, ours(rule, text, references)) for text, references, verdict in VECTORS["scores"][rule]]
    assert [row for row in found if not same(*row[1:])] == []


FRUIT = {"A": "apple", "B": "dog", "C": "a red car", "D": "None"}
E8E78F05 = [
    # answer, options, the letter that VLMEvalKit's commit reads; the released 0.0.20 differs where it says so
    ("The answer is **B**. Option A is wrong, and C is a car that is not there.", FRUIT, "B"),  # 0.0.20: undecided
    ("The answer\tis\n B and not A or C, which one sees on the table there.", FRUIT, "B"),  # any blanks
    ("The answer isB and not A or C, which one sees on the table there.", FRUIT, None),  # but one at least
    ("The answer is (B). A is not visible, C is not either in the picture.", FRUIT, None),
    ("The answer is Because", FRUIT, "B"),  # 0.0.20: undecided
    ("It is not A, B or C, as they are cut off. The answer is E. Yes.", FRUIT | {"E": "a hat"}, None),
    ("Failed to obtain answer via API. A", FRUIT, None),
    ("Failed to obtain answer via API: dog", FRUIT, "B"),  # the letters do not count there, the options' texts do
    ("The answer is ***C***, not A or B, which are elsewhere.", FRUIT, "C"),
    ("The answer is B. No, the answer is C. A is out of sight here.", FRUIT, "B"),  # the first
    ("B", FRUIT, "B"),
    ("**B**", FRUIT, "B"),
    ("(B)", FRUIT, "B"),
    ("I'm sorry, but without the image provided I cannot say A", FRUIT, "Z"),
]


@pytest.mark.parametrize(("text", "options", "letter"), E8E78F05)
def test_vlmevalkit_is_the_pinned_commit(text: str, options: dict[str, str], letter: str | None) -> None:
    assert match_option_vlmevalkit(text, options) == letter


def test_mmstars_options_stand_in_its_question() -> None:
    from hero_ray.benchmarks.mmstar import options_in
    from hero_ray.core.types import Sample

    question = "Which title?\nOptions: A: A photo of one big brown dog, B: Options, C: red, blue, D: 12:30"
    assert options_in(question) == {
        "A": "A photo of one big brown dog", "B": "Options", "C": "red, blue", "D": "12:30"
    }  # fmt: skip
    sample = Sample("mmstar", "43", question, "A", "image", None, "math", {"l2": "x"})
    benchmark = get("mmstar", flavour="vlmevalkit")
    assert benchmark.score("A: A photo of one big brown dog", "A", sample)["accuracy"] == 1.0
    assert benchmark.score("It shows red, blue", "C", sample)["accuracy"] == 1.0
    assert options_in("No options here") == options_in("Options:") == {}
