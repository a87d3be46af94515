"""A language model shared out over several cards: what divides, what each card holds, and what a plan says of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hero_ray.core.config import build
from hero_ray.core.engine_args import EngineArgs
from hero_ray.core.errors import ConfigError
from hero_ray.costs import cards
from hero_ray.costs.memory import cache_bytes, model_weights
from hero_ray.costs.sharing import _stages, card_shares, check_shares, positions_that_fit
from hero_ray.models.shapes import shape
from hero_ray.pipeline import facts
from hero_ray.pipeline.forecast import describe_plan

SEVEN_B, GROUPED = shape("llava-next-7b"), shape("internvl2-8b")


def args(tensor: int = 1, pipeline: int = 1, **more: Any) -> EngineArgs:
    return EngineArgs(tensor_parallel_size=tensor, pipeline_parallel_size=pipeline, **more)


def test_on_one_card_tower_and_language_model_are_the_whole_model_and_a_copy_of_both_tables() -> None:
    for each in (SEVEN_B, GROUPED):
        whole = card_shares(each.language, each.vision, args(), 2, "vllm")
        tables = 2 * each.language.hidden * each.language.vocab + each.language.hidden
        assert whole.tower + whole.first == model_weights(each.language, each.vision, 2) + 2 * tables
        assert whole.other == 0
        assert whole.position == cache_bytes(each.language, 1, 1, 2)
        both = card_shares(each.language, each.vision, args(), 2, "auto")
        assert both.tower == model_weights(each.language, each.vision, 2)


def test_a_tied_head_is_no_second_matrix_where_the_same_card_holds_both() -> None:
    tied = replace(SEVEN_B.language, tied=True)
    table = 2 * 4096 * 32064
    for pipeline, saved in ((1, table), (2, 0)):  # the last of two stages holds the embeddings' matrix as its head
        one, two = (card_shares(x, SEVEN_B.vision, args(1, pipeline), 2, "vllm") for x in (tied, SEVEN_B.language))
        assert two.first - one.first == saved
        assert two.other == one.other
        assert two.tower - one.tower == table


@pytest.mark.parametrize("each", [SEVEN_B, GROUPED], ids=lambda each: each.name)
@pytest.mark.parametrize("tensor", [2, 4, 8])
def test_cards_together_hold_the_language_model_once(each: Any, tensor: int) -> None:
    """But for the norms, of which every card has its own."""
    alone, shared = (card_shares(each.language, each.vision, args(n), 2, "vllm") for n in (1, tensor))
    norms = 2 * each.language.hidden * (2 * each.language.num_layers + 1)
    assert shared.first + (tensor - 1) * shared.other == alone.first + (tensor - 1) * norms
    assert shared.position * tensor == alone.position
    assert shared.tower == alone.tower


def test_heads_of_keys_and_values_are_repeated_where_cards_outnumber_them() -> None:
    eight, sixteen = (card_shares(GROUPED.language, GROUPED.vision, args(n), 2, "vllm") for n in (8, 16))
    assert sixteen.position == eight.position


def test_blocks_are_given_out_as_vllm_gives_them() -> None:
    assert [_stages(32, 3), _stages(10, 4), _stages(8, 4), _stages(11, 4)] == [
        [11, 11, 10], [2, 3, 3, 2], [2, 2, 2, 2], [3, 3, 3, 2]
    ]  # fmt: skip
    alone, staged = (card_shares(SEVEN_B.language, SEVEN_B.vision, args(1, n), 2, "vllm") for n in (1, 4))
    tables = 2 * 4096 * 32064
    assert staged.first == (alone.first - 2 * 4096 - 2 * tables) // 4 + tables
    assert staged.other == staged.first + 2 * 4096  # the last stage: a head instead of embeddings, and the last norm
    assert staged.position * 4 == alone.position


@pytest.mark.parametrize(
    ("tensor", "pipeline", "told"),
    [
        (3, 1, r"tensor_parallel_size 3 does not divide.*32 heads over 32 .*these do: 1, 2, 4, 8, 16, 32$"),
        (64, 1, "tensor_parallel_size 64 does not divide"),
        (1, 33, "pipeline_parallel_size 33 is more than the 32 blocks"),
    ],
)
def test_what_does_not_divide_is_refused_by_name(tensor: int, pipeline: int, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        check_shares("llava-next-7b", SEVEN_B.language, args(tensor, pipeline))
    check_shares("llava-next-7b", SEVEN_B.language, args(4, 3))  # stages need not be equal
    odd = replace(GROUPED.language, num_kv_heads=6, num_heads=36)
    with pytest.raises(ConfigError, match=r"36 heads over 6 of keys and values.*these do: 1, 2$"):
        check_shares("odd", odd, args(4))


def test_room_for_the_cache_is_what_the_fullest_card_has_left() -> None:
    shares = card_shares(SEVEN_B.language, SEVEN_B.vision, args(4), 2, "vllm")
    left = 0.9 * (20e9 - shares.tower) - shares.first - shares.work
    assert positions_that_fit(shares, args(4), 20e9, 0.9) == int(left / shares.position)
    asked = positions_that_fit(shares, args(4, kv_cache_gib=0.5), 20e9, 0.9)
    assert asked == 2**29 // shares.position
    assert positions_that_fit(shares, args(4), 4e9, 0.9) < 0


def planned(engine: str, gpus: float, card: str, **settings: Any) -> str:
    document = {"tasks": ["pope"], "methods": ["hero"], "models": ["llava-next-13b"], "gpus_per_replica": gpus}
    config = build(document | {"model_args": {"engine": engine, "engine_args": settings}})
    return describe_plan(facts.make_plan(config, at_hand=False), "", "no weights here", cards.card(card))


def test_a_plan_without_gpus_says_how_memory_is_split() -> None:
    told = planned("vllm", 4, "4090", tensor_parallel_size=4)
    assert "llava-next-13b on 4 cards (tensor 4 x pipeline 1): 1.236 GiB of tower, embeddings and head here" in told
    assert "6.062 GiB of language model in vLLM on the first, 6.062 GiB of it on each other" in told
    assert "at once; times over several cards are not forecast" in told
    assert "of this device" not in told
    alone = planned("vllm", 1, "h100")
    assert "llava-next-13b on one card: 1.236 GiB of tower" in alone
    assert "hours" in alone


def test_a_plan_that_does_not_fit_its_cards_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"llava-next-13b does not fit 1 x 4090.*Raise tensor_parallel_size"):
        planned("vllm", 1, "4090")
    with pytest.raises(ConfigError, match=r"does not fit 4 x 4090.*our own blocks.*or use engine=vllm"):
        planned("auto", 4, "4090", tensor_parallel_size=4)
    with pytest.raises(ConfigError, match="tensor_parallel_size 3 does not divide llava-next-13b"):
        planned("vllm", 3, "4090", tensor_parallel_size=3)
