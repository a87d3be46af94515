"""`hero-ray list` and docs/methods.md come from the method files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hero_ray.cli import main
from hero_ray.methods import names
from hero_ray.methods.kit.catalogue import card, cards, markdown

DOCS = Path(__file__).parents[2] / "docs" / "methods.md"


def test_docs_are_the_generated_ones() -> None:
    assert DOCS.read_text() == markdown(), "run: python -m hero_ray.methods.kit.catalogue > docs/methods.md"


def test_cards_say_what_a_method_reads() -> None:
    hero = card("hero")
    assert hero.reads == "CLS attention blocks 6, 7, 8, 9, 10, 22; CLS embedding last_pre_ln; CLIP score of views"
    assert hero.text_aware
    assert "alpha=0.5" in hero.defaults
    assert card("divprune").reads == "projected tokens"
    assert card("random").reads == "nothing"
    assert card("ptp").reads.startswith("CLS attention block 9; the question's attention rows in the LLM, block 2")
    assert card("fastv").reads == "the last prompt token's attention row in block 2"
    assert all(one.reads and one.paper and one.summary for one in cards())


def test_list_methods_prints_every_method(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["list", "methods", "--json"])
    assert stopped.value.code == 0
    listed = json.loads(capsys.readouterr().out)
    assert {entry["name"] for entry in listed} == set(names())
    with pytest.raises(SystemExit):
        main(["list"])
    shown = capsys.readouterr().out
    assert all(name in shown for name in names())
    assert "HERO, arXiv 2509.13067" in shown
    assert "defaults: alpha=0.5" in shown


@pytest.mark.parametrize(("what", "name"), [("models", "hero-tiny"), ("tasks", "textvqa_val")])
def test_list_shows_the_other_rooms(what: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["list", what])
    assert stopped.value.code == 0
    assert name in capsys.readouterr().out
