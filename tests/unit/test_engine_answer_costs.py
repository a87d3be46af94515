"""What answers cost in a sweep: the ledger's own figures, each part worked out once for equal sizes."""

from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch

from hero_ray.core.encoded import Needs
from hero_ray.core.layout import Layout
from hero_ray.core.types import Sample, TokenCount
from hero_ray.costs import costs
from hero_ray.costs.ledger import answer_cost
from hero_ray.costs.scoring import method_scoring
from hero_ray.engine import answer_costs
from hero_ray.engine.answer_costs import AnswerCosts
from hero_ray.models import load
from hero_ray.models.base import Prompt

LAYOUTS = [
    Layout((1, 1), (4, 4), torch.arange(length), torch.ones(views, 16, dtype=torch.bool))
    for views, length in ((2, 32), (5, 80))
]
NEEDS = [Needs(), Needs(cls_attention=frozenset({11})), Needs(llm_attention=frozenset({2}))]
PROMPTS = [Prompt((1, 5), tuple(range(10, 10 + n)), (0, n - 1)) for n in (4, 9)]


@pytest.fixture(scope="module")
def adapter():
    return load("hero-tiny", device="meta")


def asked():
    for layout in LAYOUTS:
        for needs in NEEDS:
            for prompt in PROMPTS:
                for visual, new in ((7, 1), (30, 4)):
                    cut = SimpleNamespace(encoded=SimpleNamespace(layout=layout), needs=needs)
                    tokens = TokenCount(visual, visual, visual, prompt.num_text, (visual, visual, visual // 2))
                    yield cut, prompt, Sample("b", "k", "What is it?", [], "i", None), tokens, new


def test_costs_are_the_ledgers_to_the_last_bit(adapter):
    found = AnswerCosts(adapter)
    for _ in range(2):  # worked out, and remembered
        for cut, prompt, sample, tokens, new in asked():
            layout = cut.encoded.layout
            scoring = method_scoring(adapter, cut.needs, layout, prompt, sample.question)
            whole = answer_cost(
                adapter.info, tokens.visual_per_layer, tokens.n_text, new, layout.num_views, scoring, layout.side
            )
            expected = whole.total_flops, whole.encoder + whole.scoring
            assert found.of(cut, prompt, sample, tokens, new) == expected


def test_each_part_is_worked_out_once_for_equal_sizes(adapter, monkeypatch):
    counted = {name: Mock(side_effect=getattr(costs, name)) for name in ("prefill_flops", "encoder_flops")}
    for name, counting in counted.items():
        monkeypatch.setattr(costs, name, counting)
    found = AnswerCosts(adapter)
    for _ in range(3):
        for one in asked():
            found.of(*one)
    assert counted["prefill_flops"].call_count == 4  # counts of tokens, lengths of text
    assert (
        counted["encoder_flops"].call_count == 8
    )  # views and what is read of them, and where that is the question, each prompt


def test_no_more_than_so_many_are_kept(adapter, monkeypatch):
    monkeypatch.setattr(answer_costs, "COSTS_KEPT", 3)
    found = AnswerCosts(adapter)
    for one in asked():
        found.of(*one)
        assert max(len(found._before), len(found._inside)) <= 3
