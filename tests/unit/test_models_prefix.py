"""A shared prefix read in place: the same answers as with a copy for every row, and no copy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from hero_ray import models
from hero_ray.core.errors import ParameterError
from hero_ray.models import miniature, prefix
from hero_ray.models.base import Prompt, Request
from hero_ray.models.build import build, randomise
from hero_ray.models.decoding import DecodeState
from hero_ray.models.generation import Decoder, GenerationOptions
from hero_ray.models.runner import Runner
from hero_ray.pipeline.facts import model_fact

WIDTH = 64
HEADS = {"each its own keys": 8, "in groups": 2}
LENGTHS = (4, 9, 6, 1)


def language(kind: str) -> Any:
    torch.set_num_threads(1)
    if kind == "normed heads":  # runs through its own modules
        config = Qwen3Config(
            vocab_size=256,
            hidden_size=WIDTH,
            intermediate_size=128,
            num_hidden_layers=3,
            num_attention_heads=8,
            num_key_value_heads=2,
            head_dim=8,
        )
        model = build(Qwen3ForCausalLM, config, torch.device("cpu"), torch.float32, "sdpa")
    else:
        config = miniature.text_config(kv_heads=HEADS[kind])
        model = build(LlamaForCausalLM, config, torch.device("cpu"), torch.float32, "sdpa")
    randomise(model, seed=4)
    for weight in model.model.parameters():
        weight.mul_(1.7)
    return model


@pytest.fixture(scope="module", params=[*HEADS, "normed heads"])
def decoder(request: pytest.FixtureRequest) -> Decoder:
    model = language(request.param)
    return Decoder(Runner(model.model, model.lm_head), frozenset({2}), context=512)


def asked(pictures: tuple[int, ...], order: str = "by picture", dtype: torch.dtype = torch.float32) -> list[Request]:
    """Four questions of unlike length about every picture, of so many tokens."""
    generator = torch.Generator().manual_seed(0)
    visuals = [torch.randn(count, WIDTH, generator=generator).to(dtype) for count in pictures]
    prompts = [Prompt((1, 5, 6), tuple(range(10, 10 + length)), (0, length)) for length in LENGTHS]
    if order == "in turns":
        return [Request(prompt, visual, 7) for prompt in prompts for visual in visuals]
    return [Request(prompt, visual, 7) for visual in visuals for prompt in prompts]


def apart(one: DecodeState, other: DecodeState) -> float:
    """The largest difference of logits, as a share of the largest logit: weights are such that rounding grows."""
    return ((one.logits - other.logits).abs().max() / other.logits.abs().max()).item()


CASES = [((40,), "by picture"), ((40, 12, 25), "by picture"), ((40, 12, 25), "in turns"), ((30, 30), "in turns")]


@pytest.mark.parametrize(("pictures", "order"), CASES)
def test_logits_are_those_of_whole_prompts(decoder: Decoder, pictures: tuple[int, ...], order: str) -> None:
    requests = asked(pictures, order)
    whole = decoder.prefill(requests, share_prefix=False)
    read = replace(decoder, in_place=True).prefill(requests)
    assert apart(read, whole) < 1e-5
    assert read.kv_bytes() == whole.kv_bytes(), "what an answer reads is the same wherever it lies"
    assert read.visual_per_layer() == whole.visual_per_layer()
    for _ in range(6):
        tokens = whole.logits.argmax(-1)
        decoder.runner.decode(read, tokens)
        decoder.runner.decode(whole, tokens)
        assert apart(read, whole) < 1e-5


@pytest.mark.parametrize(("pictures", "order"), CASES)
@pytest.mark.parametrize("batch_size", [3, 64])
def test_answers_are_those_of_copies(decoder: Decoder, pictures: tuple[int, ...], order: str, batch_size: int) -> None:
    requests, options = asked(pictures, order), GenerationOptions(batch_size=batch_size, ignore_eos=True)
    copied = decoder.answer(requests, options=options)
    assert replace(decoder, in_place=True).answer(requests, options=options) == copied
    assert len({token for answer in copied for token in answer.token_ids}) > 5


def test_one_more_question_alone_and_after_another_batch(decoder: Decoder) -> None:
    read, requests = replace(decoder, in_place=True), asked((40,))
    state = read.prefill(requests)
    first = state.logits.clone()
    read.answer(requests)
    assert torch.equal(read.prefill(requests).logits, first)
    assert torch.equal(read.prefill(requests[:1]).logits, decoder.prefill(requests[:1]).logits), "nothing is shared"


def test_no_row_gets_a_copy(decoder: Decoder) -> None:
    requests = asked((40, 12))
    read, copied = (replace(decoder, in_place=place).prefill(requests) for place in (True, False))
    own, longest = max(LENGTHS), 3 + 40
    assert (read.cache.length(0), copied.cache.length(0)) == (own, own + longest)
    assert read.cache.prefix is not None
    (keys, values), (other, _) = read.cache.prefix._pieces[0]
    assert (keys.shape[2], other.shape[2]) == (3 + 40, 3 + 12), "padding is left out"
    assert keys._base is not None
    assert (
        keys.untyped_storage().data_ptr() == other.untyped_storage().data_ptr() != values.untyped_storage().data_ptr()
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_sixteen_bits_it_is_as_near_as_copies_are(dtype: torch.dtype) -> None:
    model = language("in groups")
    decoder = Decoder(Runner(model.model, model.lm_head), frozenset({2}), 512)
    exact = decoder.prefill(asked((40, 12))).logits
    model.to(dtype)
    off = {}
    for place in (True, False):
        found = replace(decoder, in_place=place).prefill(asked((40, 12), dtype=dtype))
        assert found.logits.dtype == dtype
        off[place] = (found.logits.float() - exact).abs().mean().item()
    assert off[True] < 1.2 * off[False]


# -- the kernels -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("large", [1.0, 30.0])
def test_both_ways_to_a_sum_are_exact(masked: bool, large: float) -> None:
    generator = torch.Generator().manual_seed(1)
    query, keys, values = (torch.randn(2, 3, count, 16, generator=generator) for count in (5, 11, 11))
    query *= large
    hidden = None
    if masked:
        hidden = torch.zeros(2, 1, 5, 11).masked_fill_(
            torch.rand(2, 1, 5, 11, generator=generator) < 0.4, float("-inf")
        )
    logits = query.double() @ keys.double().transpose(-1, -2) * 0.25 + (0.0 if hidden is None else hidden)
    expected, sums = logits.softmax(-1) @ values.double(), logits.logsumexp(-1)
    for way in (prefix.attention_and_sum, prefix._in_fp32):
        out, total = way(query, keys, values, hidden, 0.25)
        assert (out - expected).abs().max().item() < 1e-5
        assert (total - sums).abs().max().item() < 2e-6 * large


def test_the_kernel_of_a_gpu_gives_what_is_read_of_it() -> None:
    query, keys = (torch.empty(1, 4, count, 64, device="meta", dtype=torch.bfloat16) for count in (36, 2943))
    out, total = prefix._for_cuda(query, keys, keys, scale=0.125)[:2]
    assert (out.shape, out.dtype) == (query.shape, torch.bfloat16)
    assert (total.shape, total.dtype) == (query.shape[:3], torch.float32)


# -- asked for by name -------------------------------------------------------------------------------------------------


def test_a_loaded_model_reads_in_place() -> None:
    adapter = models.load("hero-tiny", device="meta", prefix="in-place")
    assert adapter.decoder.in_place
    assert not models.load("hero-tiny", device="meta").decoder.in_place


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"prefix": "shared"}, "prefix='shared' is unknown; use one of copied, in-place"),
        ({"prefix": "in-place", "attention": "eager"}, "attention=eager, which tells no sums; use prefix=copied"),
        ({"prefix": "in-place", "engine": "vllm"}, "engine=vllm keeps its cache by itself"),
    ],
)
def test_what_does_not_go_with_it_is_refused_by_name(arguments: dict[str, str], says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        models.load("hero-tiny", device="meta", **arguments)


def test_a_cell_names_it_where_it_is_not_the_default() -> None:
    plain, said, read = (model_fact("hero-tiny", each) for each in ({}, {"prefix": "copied"}, {"prefix": "in-place"}))
    assert said == plain
    assert read == replace(plain, options={"prefix": "in-place"})
    with pytest.raises(ParameterError, match="prefix='none' is unknown"):
        model_fact("hero-tiny", {"prefix": "none"})
