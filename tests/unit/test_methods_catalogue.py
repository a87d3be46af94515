"""`hero-ray list` and docs/methods.md come from the method files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from hero_ray.cli import main
from hero_ray.methods import names
from hero_ray.methods.base import LayerPruner, LayerState, Survivors
from hero_ray.methods.kit.absent import ABSENT
from hero_ray.methods.kit.catalogue import card, cards, markdown
from hero_ray.methods.kit.movement import Watched, figures, moved
from tests.llm_states import WrittenState

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


def test_every_method_with_a_mask_says_how_far_it_moves() -> None:
    own = {one.name for one in cards() if one.own and one.name != "full" and one.stage != "image"}
    assert set(figures()) == own
    for name, models in figures().items():
        assert set(models) == {"hero-tiny", "hero-tiny-internvl"}, name
        for shares in models.values():
            assert set(shares) == {"bf16", "neighbours", "bf16 neighbours"}
            assert all(0.0 <= share <= 1.0 for share in shares.values())
    # The straw men read nothing that rounds; VisPruner's rounds make it the one that moves most.
    assert not any(share for name in ("random", "spatial") for share in figures()[name]["hero-tiny"].values())
    assert max(figures(), key=lambda name: figures()[name]["hero-tiny"]["bf16"]) == "vispruner"


def test_tokens_that_live_are_watched_through_every_cut() -> None:
    class Halves(LayerPruner):
        def before(self, state: LayerState) -> Survivors | None:
            if state.layer not in (2, 4):
                return None
            keep = state.valid.clone()
            keep[0, state.visual[0].nonzero()[::2, 0]] = False
            recycled = torch.zeros(1, 1, 4) if state.layer == 2 else None
            return Survivors(keep, recycled, None if recycled is None else torch.ones(1, 1, dtype=torch.bool))

    watched = Watched(Halves(), [torch.tensor([7, 3, -1, 5, 9, 2])])
    assert watched.before(WrittenState(1, 8, [(1, 6, 1)])) is None
    watched.before(WrittenState(2, 8, [(1, 6, 1)]))  # 3, 5, 2 and one merged token
    assert watched.patches(0) == {3, 5, 2}
    watched.before(WrittenState(4, 8, [(1, 4, 1)]))
    assert watched.patches(0) == {5}
    assert moved({1, 2, 3, 4}, {3, 4, 5}) == 0.5
    assert moved(set(), {1}) == 0.0


def test_what_is_absent_is_no_method_and_says_why() -> None:
    assert [name for name, _, _ in ABSENT] == sorted((name for name, _, _ in ABSENT), key=str.lower)
    assert not {name.lower() for name, _, _ in ABSENT} & set(names())
    assert all(where and why for _, where, why in ABSENT)
    assert {"TokenPacker", "Honeybee", "DynamicViT", "EViT", "FlexAttention"} <= {name for name, _, _ in ABSENT}
