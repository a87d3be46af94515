"""The number of an answer's tokens is found again in what it cost, or not told."""

from __future__ import annotations

import pytest

from hero_ray.costs.costs import decode_flops, prefill_flops
from hero_ray.costs.counted import answer_tokens, completion_tokens
from hero_ray.models.shapes import shape

MODELS = ["hero-tiny", "hero-tiny-internvl", "llava-next-7b", "qwen2.5-vl-3b"]


@pytest.mark.parametrize("model", MODELS)
def test_every_length_is_found_again(model: str) -> None:
    language = shape(model).language
    blocks = language.num_layers
    for per_layer in ((90,) * blocks, (2900,) * blocks, tuple(600 - index for index in range(blocks))):
        prefill = prefill_flops(language, per_layer)
        for count in (*range(1, 40), 128, 1024, 4096):
            assert answer_tokens(language, per_layer, prefill + decode_flops(language, per_layer, count)) == count
        between = prefill + (decode_flops(language, per_layer, 5) + decode_flops(language, per_layer, 6)) / 2
        assert answer_tokens(language, per_layer, between) is None
        assert answer_tokens(language, per_layer, prefill / 2) is None


def test_rows_without_costs_or_of_models_that_are_not_here_say_nothing() -> None:
    language = shape("hero-tiny").language
    visual = [22] * language.num_layers
    per_layer = tuple(count + 30 for count in visual)
    spent = prefill_flops(language, per_layer) + decode_flops(language, per_layer, 7)
    row = {"flops": spent + 5e8, "encode_flops": 5e8, "n_visual_llm": 22, "n_text": 30}
    assert completion_tokens("hero-tiny", row) == 7
    assert completion_tokens("owner/not-here", row) is None
    assert completion_tokens("hero-tiny", row | {"visual_per_layer": visual}) == 7
    assert completion_tokens("hero-tiny", row | {"visual_per_layer": visual[1:]}) is None
    for name in row:
        assert completion_tokens("hero-tiny", row | {name: None}) is None
