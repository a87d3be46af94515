"""Prompts of lmms-eval 0.7.3 word for word, and its verdicts (and VLMEvalKit's) on random answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hero_ray.benchmarks import get
from hero_ray.benchmarks.choices import match_option, match_option_vlmevalkit
from hero_ray.benchmarks.realworldqa import option_texts
from tests import hub_layouts

VECTORS = json.loads((Path(__file__).parent / "harness_vectors.json").read_text(encoding="utf-8"))
ROADS = "Which way?\n\nA. Left\nB. Right\nC. Straight\nPlease answer directly."
CASES = [
    pytest.param(rule, text, references, verdict, id=f"{rule}-{number}")
    for rule, rows in VECTORS["scores"].items()
    for number, (text, references, verdict) in enumerate(rows)
]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hub_layouts.write(tmp_path_factory.mktemp("hub"))


@pytest.mark.parametrize("name", VECTORS["prompts"])
def test_prompts_word_for_word(name: str, hub: Path) -> None:
    benchmark = get(name, data=hub / name)
    for family in ("llava-next", "llava-1.5", "internvl2"):
        assert [benchmark.prompt(sample, family) for sample in benchmark.samples()] == VECTORS["prompts"][name]


@pytest.mark.parametrize(("rule", "text", "references", "verdict"), CASES)
def test_verdict(rule: str, text: str, references: Any, verdict: Any) -> None:
    name, _, flavour = rule.partition("@")
    if name == "mmbench_en_dev":
        match = match_option_vlmevalkit if flavour == "vlmevalkit" else match_option
        assert match(text, references) == verdict
        return
    if name == "realworldqa":
        references = {"answer": references, "options": option_texts(ROADS)}
    benchmark = get(name, flavour or None)
    assert benchmark.score(text, references)[benchmark.main_metric] == pytest.approx(verdict, abs=1e-12)
