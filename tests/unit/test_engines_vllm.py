"""What stands around vLLM, with a stand-in that answers as the real engine was seen to: equal answers, every trap."""

from __future__ import annotations

import gc
import json
import weakref
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import Qwen2Config

from hero_ray import models
from hero_ray.core.encoded import Needs, keep_all
from hero_ray.core.engine_args import EngineArgs
from hero_ray.core.errors import (
    CheckpointError,
    MissingExtraError,
    NonFiniteScoreError,
    ParameterError,
    PromptError,
    ReplicaError,
)
from hero_ray.models.base import PlacedTokens, Prompt, Request
from hero_ray.models.engines import EitherEngine, start
from hero_ray.models.engines.start import check_heads, check_stages, write_config
from hero_ray.models.engines.vllm import VllmDecoder, decoder
from hero_ray.models.generation import GenerationOptions
from hero_ray.models.invariance import drawn_picture, probe_requests
from hero_ray.models.registry import EMBEDDED_WEIGHTS
from hero_ray.models.shapes import shape
from tests.stand_in_vllm import StandInEngine, sampling

CONTEXT = 512


@pytest.fixture(scope="module")
def adapter() -> Any:
    torch.set_num_threads(1)
    return models.load("hero-tiny-internvl")


@pytest.fixture(scope="module")
def requests(adapter: Any) -> list[Request]:
    return probe_requests(adapter, 4, 6)


@pytest.fixture
def engine(adapter: Any) -> StandInEngine:
    return StandInEngine(adapter, CONTEXT)


@pytest.fixture
def vllm(adapter: Any, engine: StandInEngine) -> VllmDecoder:
    return decoder(engine, sampling, adapter, CONTEXT)


def test_answers_are_those_of_our_blocks_in_every_field(adapter, vllm, requests) -> None:
    ours = adapter.decoder.answer(requests)
    assert vllm.answer(requests) == ours
    assert vllm.answer(requests, options=GenerationOptions(batch_size=1, share_prefix=False)) == ours
    assert {answer.finish for answer in ours} == {"stop"}


def test_the_end_token_is_a_token_like_any_other_where_it_is_ignored(adapter, vllm, requests) -> None:
    options = GenerationOptions(ignore_eos=True)
    assert vllm.answer(requests, options=options) == adapter.decoder.answer(requests, options=options)


def test_tokens_are_told_as_they_come_several_at_once_and_never_the_end(vllm, requests) -> None:
    told: dict[int, list[int]] = {}
    options = GenerationOptions(batch_size=3, on_token=lambda row, token: told.setdefault(row, []).append(token))
    answers = vllm.answer(requests, options=options)
    assert told == {row: list(answer.token_ids) for row, answer in enumerate(answers) if answer.token_ids}


def test_who_leaves_takes_all_requests_back_and_the_engine_answers_on(vllm, engine, requests) -> None:
    class Gone(Exception):
        pass

    def leave(row: int, token: int) -> None:
        raise Gone

    before = vllm.answer(requests)
    with pytest.raises(Gone):
        vllm.answer(requests, options=GenerationOptions(on_token=leave))
    assert not engine.has_unfinished_requests()
    assert len(engine.skipped) >= 1
    assert vllm.answer(requests) == before


def test_an_answer_is_over_where_its_listener_has_enough_and_its_neighbours_go_on(vllm, engine, requests) -> None:
    options = GenerationOptions(ignore_eos=True)
    whole = vllm.answer(requests, options=options)
    answers = vllm.answer(requests, options=replace(options, on_token=lambda row, token: True if row == 1 else 17))
    assert (answers[1].token_ids, answers[1].finish) == (whole[1].token_ids[:1], "stop")
    assert [*answers[:1], *answers[2:]] == [*whole[:1], *whole[2:]]
    assert len(engine.skipped) == 1
    assert not engine.has_unfinished_requests()


def test_settings_reach_vllm(vllm, engine, requests) -> None:
    vllm.answer(requests[:1], options=GenerationOptions(share_prefix=False))
    asked = engine.asked[-1][2]
    assert asked.stop_token_ids == sorted(vllm.end)
    assert (asked.temperature, asked.max_tokens, asked.detokenize, asked.seed) == (0.0, 6, False, None)
    assert asked.skip_reading_prefix_cache
    vllm.answer(requests[:1], options=GenerationOptions(temperature=0.5, seed=7, top_p=0.9))
    asked = engine.asked[-1][2]
    assert (asked.temperature, asked.top_p, asked.seed, asked.skip_reading_prefix_cache) == (0.5, 0.9, 7, False)


def test_rows_travel_in_a_storage_of_their_own(vllm, engine, requests) -> None:
    whole = torch.zeros(1000, requests[0].visual.shape[1])
    vllm.answer([replace(requests[0], visual=whole[:5])])
    rows = engine.asked[-1][1]
    assert rows.untyped_storage().nbytes() == rows.numel() * rows.element_size()
    bare = Request(Prompt((), (), (0, 0)), whole[:5], 2)
    vllm.answer([bare])
    rows = engine.asked[-1][1]
    assert rows.untyped_storage().nbytes() == rows.numel() * rows.element_size()


def refused(vllm: VllmDecoder, engine: StandInEngine, good: list[Request], bad: Request, error: Any, text: str) -> None:
    """A bad request is refused before anything reaches the engine, which then answers the others."""
    expected, seen = vllm.answer(good), len(engine.asked)
    with pytest.raises(error, match=text):
        vllm.answer([*good, bad])
    assert len(engine.asked) == seen
    assert not engine.broken
    assert vllm.answer(good) == expected


@pytest.mark.parametrize("shape", [(5, 63), (5, 65), (64,), (1, 5, 64)])
def test_rows_of_another_shape_never_reach_the_engine(vllm, engine, requests, shape) -> None:
    width = requests[0].visual.shape[1]
    shape = tuple(side + width - 64 if side > 60 else side for side in shape)
    bad = replace(requests[0], visual=torch.zeros(shape))
    refused(vllm, engine, requests, bad, PromptError, rf"expected floating point \[n, {width}\]")


def test_rows_of_whole_numbers_never_reach_the_engine(vllm, engine, requests) -> None:
    bad = replace(requests[0], visual=requests[0].visual.long())
    refused(vllm, engine, requests, bad, PromptError, "int64")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_rows_that_are_not_finite_never_reach_the_engine(vllm, engine, requests, value) -> None:
    visual = requests[0].visual.clone()
    visual[3, 2] = value
    refused(vllm, engine, requests, replace(requests[0], visual=visual), NonFiniteScoreError, "visual features")


def test_tokens_with_places_never_reach_the_engine(vllm, engine, requests) -> None:
    visual = requests[0].visual
    placed = PlacedTokens(visual, torch.zeros(len(visual), 3, dtype=torch.long), 4)
    refused(vllm, engine, requests, replace(requests[0], visual=placed), PromptError, "M-RoPE")


def test_a_prompt_whose_answer_would_be_cut_never_reaches_the_engine(vllm, engine, requests) -> None:
    for long in (CONTEXT, CONTEXT - 3):
        visual = requests[0].visual[:1].expand(long, -1)
        bad = replace(requests[0], visual=visual)
        refused(vllm, engine, requests, bad, PromptError, "context is 512")


def test_an_empty_prompt_never_reaches_the_engine(vllm, engine, requests) -> None:
    bad = Request(Prompt((), (), (0, 0)), requests[0].visual[:0], 4)
    refused(vllm, engine, requests, bad, PromptError, "empty")
    refused(vllm, engine, requests, replace(requests[0], max_new_tokens=0), PromptError, "max_new_tokens is 0")


def test_text_alone_is_asked_without_rows_of_a_picture(adapter, vllm, requests) -> None:
    bare = [replace(requests[0], visual=requests[0].visual[:0])]
    assert vllm.answer(bare) == adapter.decoder.answer(bare)


def test_a_pruner_is_refused_by_name(vllm, requests) -> None:
    with pytest.raises(ParameterError, match=r"between its blocks.*engine=auto"):
        vllm.answer(requests, pruner=object())


def test_an_error_of_the_engine_ends_the_worker(vllm, engine, requests) -> None:
    engine.fails = RuntimeError("out of cache\nblocks")
    with pytest.raises(ReplicaError, match="may be unusable now: RuntimeError: out of cache blocks"):
        vllm.answer(requests)


def test_an_answer_that_was_cut_without_a_word_is_an_error(adapter, requests) -> None:
    short = StandInEngine(adapter, max_model_len=requests[0].prompt.num_text + requests[0].visual.shape[0] + 2)
    asked = decoder(short, sampling, adapter, CONTEXT)  # believes in more than the engine has
    with pytest.raises(ReplicaError, match="after 2 of 6 tokens"):
        asked.answer([requests[0]], options=GenerationOptions(ignore_eos=True))


def test_logits_of_nan_are_named_though_vllm_answers_token_zero(adapter, requests) -> None:
    class Overflowing(StandInEngine):
        def add_request(self, name: str, prompt: dict[str, torch.Tensor], params: Any) -> None:
            super().add_request(name, {"prompt_embeds": prompt["prompt_embeds"] * float("nan")}, params)

    with pytest.raises(NonFiniteScoreError, match="logits in float32"):
        decoder(Overflowing(adapter, CONTEXT), sampling, adapter, CONTEXT).answer(requests)


def test_first_tokens_have_their_log_probabilities(adapter, vllm, requests) -> None:
    state = adapter.decoder.prefill(requests, share_prefix=False)
    best = state.logits.float().log_softmax(-1).max(-1)
    found = vllm.first_tokens(requests)
    assert [token for token, _ in found] == best.indices.tolist()
    assert [value for _, value in found] == pytest.approx(best.values.tolist(), abs=1e-5)


def test_either_engine_gives_pruners_and_what_a_plan_says_to_ours(adapter, vllm, engine, requests) -> None:
    either = EitherEngine(adapter.decoder, vllm)
    expected = adapter.decoder.answer(requests)
    assert either.answer(requests, options=GenerationOptions(engine="ours")) == expected
    assert engine.asked == []

    class Nothing:
        def before(self, state: Any) -> None:
            return None

        after = before

    assert either.answer(requests, pruner=Nothing()) == expected
    assert engine.asked == []
    assert either.answer(requests) == either.answer(requests, options=GenerationOptions(engine="vllm")) == expected
    assert len(engine.asked) == 2 * len(requests)


def test_a_model_without_blocks_of_ours_answers_and_names_what_it_lacks(adapter, vllm) -> None:
    lent, adapter.decoder, adapter.engine = adapter.decoder, None, vllm
    try:
        encoded = adapter.encode(adapter.prepare(drawn_picture(0)), Needs())
        prompt = adapter.prompt("What is this?")
        made = adapter.generate([Request(prompt, adapter.assemble(encoded, keep_all(encoded.layout), "none"), 4)])
        assert len(made) == 1
        with pytest.raises(ParameterError, match="engine=auto"):
            adapter.ask(encoded, "What is this?", Needs(llm_attention=frozenset({1})), prompt)
    finally:
        adapter.decoder, adapter.engine = lent, None


def test_engine_args_are_checked() -> None:
    assert EngineArgs.of({"max_num_seqs": 8, "tensor_parallel_size": 4}).devices == 4
    for given, text in (
        ({"max_num_seq": 8}, "has no 'max_num_seq'"),
        ({"max_num_seqs": 0}, "whole number from 1"),
        ({"block_size": True}, "whole number from 1"),
        ({"kv_cache_gib": float("nan")}, "GiB above 0"),
        ({"cuda_graphs": 1}, "true or false"),
        ("max_num_seqs=8", "expected a mapping"),
    ):
        with pytest.raises(ParameterError, match=text):
            EngineArgs.of(given)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"engine": "sglang"}, "use one of ours, vllm, auto"),
        ({"engine_args": {"max_num_seqs": 8}}, "engine_args are vLLM's"),
        ({"engine": "vllm", "engine_args": {"speed": 8}}, "has no 'speed'"),
    ],
)
def test_an_engine_that_cannot_be_is_refused_before_weights_are_read(options, text) -> None:
    with pytest.raises(ParameterError, match=text):
        models.load("hero-tiny", **options)


def test_random_weights_have_no_folder_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hero_ray.core.engines.DISTRIBUTIONS", ("no-such-distribution",))
    with pytest.raises(MissingExtraError, match=r"hero-ray\[vllm\]"):
        models.load("llava-next-7b:random", device="cpu", engine="vllm")
    monkeypatch.setattr("hero_ray.models.engines.job.vllm_version", lambda: "0.32.0")
    with pytest.raises(ParameterError, match="reads weights from a folder"):
        models.load("llava-next-7b:random", device="cpu", engine="vllm")


def test_heads_that_vllm_has_no_cpu_attention_for_are_refused_before_it_starts(adapter) -> None:
    check_heads(adapter.info)
    narrow = replace(adapter.info, language=replace(adapter.info.language, head_dim=8))
    with pytest.raises(CheckpointError, match="8 wide; vLLM's CPU attention has 32, 48, 64"):
        check_heads(narrow)
    check_heads(replace(narrow, device="cuda"))
    for name in ("hero-tiny", "hero-tiny-internvl"):  # what somebody new starts with
        check_heads(replace(adapter.info, name=name, language=shape(name).language))


def test_an_error_that_vllm_keeps_of_its_import_does_not_keep_the_model(adapter, monkeypatch) -> None:
    """Its frame has ours below it, and those their variables, the adapter among them."""
    kept: list[Exception] = []

    def imported() -> Any:
        try:
            raise ImportError("no such operator")
        except ImportError as error:
            kept.append(error)
        return lambda **_: SimpleNamespace(llm_engine=StandInEngine(adapter, CONTEXT)), sampling, None

    monkeypatch.setattr(start, "_imported", imported)
    monkeypatch.setattr(start.os, "environ", dict(start.os.environ))
    model = models.load("hero-tiny")
    start.start_vllm(model, EMBEDDED_WEIGHTS / "hero-tiny", EngineArgs())
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert (len(kept), gone()) == (1, None)


@pytest.mark.parametrize(("first", "width"), [(0, 32), (4, None)])
def test_a_window_that_slides_in_no_block_is_not_told_to_vllm(first: int, width: int | None, tmp_path: Path) -> None:
    """vLLM's Qwen goes by the width: it would let the window slide in every block."""
    text = Qwen2Config(num_hidden_layers=4, use_sliding_window=True, sliding_window=32, max_window_layers=first)
    write_config(text, tmp_path, tmp_path)
    said = json.loads((tmp_path / "config.json").read_text())
    assert said["sliding_window"] == width
    assert Qwen2Config(**said).layer_types == text.layer_types


def test_stages_on_a_cpu_are_refused_where_vllm_would_fail_later() -> None:
    check_stages("cpu", EngineArgs(tensor_parallel_size=2))
    check_stages("cuda", EngineArgs(pipeline_parallel_size=2))
    with pytest.raises(ParameterError, match="pipeline_parallel_size 2: on a CPU"):
        check_stages("cpu", EngineArgs(pipeline_parallel_size=2))
