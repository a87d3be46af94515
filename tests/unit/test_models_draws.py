"""Several draws of one prefill, log-probabilities, prompts that go on behind what was kept; a toy language model."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaForCausalLM

from hero_ray import methods
from hero_ray.core.errors import ParameterError
from hero_ray.models import miniature
from hero_ray.models.base import Prompt, Request
from hero_ray.models.build import build, randomise
from hero_ray.models.draws import TokenChance
from hero_ray.models.generation import Decoder, GenerationOptions, plan_chunks
from hero_ray.models.kept import KeptPrompt, resumable, resumed
from hero_ray.models.runner import Runner

HOT = {"temperature": 1.5, "ignore_eos": True}


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    torch.set_num_threads(1)
    language = build(LlamaForCausalLM, miniature.text_config(), torch.device("cpu"), torch.float32, "sdpa")
    randomise(language, seed=4)
    return Decoder(Runner(language.model, language.lm_head), frozenset({2}), context=512)


def asked(*lengths: int) -> list[Request]:
    generator = torch.Generator().manual_seed(3)
    prompts = [Prompt((1, 5, 6), tuple(range(10, 10 + length)), (0, length)) for length in lengths]
    return [
        Request(prompt, torch.randn(20 + length, 64, generator=generator), 6)
        for prompt, length in zip(prompts, lengths, strict=True)
    ]


def ids(answers) -> list[tuple[int, ...]]:
    return [answer.token_ids for answer in answers]


def test_every_draw_is_that_of_its_own_seed_alone(decoder: Decoder) -> None:
    requests = asked(4, 9)
    drawn = ids(decoder.answer(requests, options=GenerationOptions(**HOT, seed=5, draws=3)))
    for place, request in enumerate(requests):
        for draw in range(3):
            (alone,) = decoder.answer([request], options=GenerationOptions(**HOT, seed=5 + draw))
            assert drawn[3 * place + draw] == alone.token_ids
    assert len(set(drawn)) > 2


def test_draws_share_the_prefill_of_their_prompt(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    whole = Runner.prefill
    monkeypatch.setattr(
        Runner, "prefill", lambda self, batch, *a, **k: rows.append(len(batch.lengths)) or whole(self, batch, *a, **k)
    )
    told: list[tuple[int, int]] = []
    options = GenerationOptions(**HOT, draws=8, on_token=lambda *token: told.append(token))
    answers = decoder.answer(asked(5), options=options)
    assert rows == [1]
    assert [tuple(t for place, t in told if place == draw) for draw in range(8)] == ids(answers)
    assert len({answer.kv_bytes for answer in answers}) == 1


def test_a_batch_with_a_pruner_is_drawn_from_as_well(decoder: Decoder) -> None:
    method = methods.create("fastv")
    requests = asked(6)
    state = decoder.prefill(requests)

    class DropsSome:
        def before(self, state):
            if state.layer != 2:
                return None
            keep = torch.ones_like(state.valid)
            keep[:, 5:15] = False
            return type("Kept", (), {"keep": keep, "recycled": None, "recycled_valid": None})()

        def after(self, state) -> None:
            return None

    assert method.stage == "in-llm"
    drawn = decoder.answer(requests, DropsSome(), options=GenerationOptions(**HOT, seed=2, draws=2))
    alone = [decoder.answer(requests, DropsSome(), options=GenerationOptions(**HOT, seed=2 + n))[0] for n in (0, 1)]
    assert drawn == alone
    assert drawn[0].visual_per_layer[-1] == state.visual_per_layer()[0][0] - 10


def test_log_probabilities_are_those_of_the_models_own_distribution(decoder: Decoder) -> None:
    requests = asked(4, 7)
    heard: list[tuple[int, TokenChance]] = []
    options = GenerationOptions(
        ignore_eos=True, logprobs=3, on_token=lambda *_: None, on_chance=lambda *c: heard.append(c)
    )
    for place, (request, answer) in enumerate(zip(requests, decoder.answer(requests, options=options), strict=True)):
        state = decoder.prefill([request])
        for token, chance in zip(answer.token_ids, answer.chances, strict=True):
            own = state.logits[0].double().log_softmax(-1)
            best = own.topk(3)
            assert chance.token == token
            assert chance.logprob == pytest.approx(float(own[token]), abs=1e-5)
            assert [one for one, _ in chance.likeliest] == best.indices.tolist()
            assert [value for _, value in chance.likeliest] == pytest.approx(best.values.tolist(), abs=1e-5)
            decoder.decode(state, torch.tensor([token]))
        assert [chance for at, chance in heard if at == place] == list(answer.chances)
    hot = decoder.answer(requests, options=GenerationOptions(**HOT, logprobs=0))
    assert all(chance.likeliest == () and chance.logprob < 0 for answer in hot for chance in answer.chances)
    assert decoder.answer(requests)[0].chances == ()


def test_later_turns_run_only_what_is_new_and_answer_as_the_whole(decoder: Decoder, monkeypatch) -> None:
    firsts, slots = asked(4, 9), [KeptPrompt(2**20), KeptPrompt(2**20)]
    told = [Request(one.prompt, one.visual, 6, slot) for one, slot in zip(firsts, slots, strict=True)]
    assert not resumable(told)
    decoder.answer(told)
    later = [
        Request(Prompt(one.prompt.prefix, (*one.prompt.suffix, 50, 51, *more), (0, 1)), one.visual, 6, one.kept)
        for one, more in zip(told, ((60,), (70, 71, 72)), strict=True)
    ]
    assert resumable(later)
    state, rest = resumed(later)
    assert [len(one.prompt.suffix) for one in rest] == [3, 5]
    assert state.spans[0].padded
    whole = decoder.answer([Request(one.prompt, one.visual, 6) for one in later])
    monkeypatch.setattr(Runner, "prefill", None)  # nothing is run from its beginning
    assert decoder.answer(later) == whole
    same = [Request(later[0].prompt, later[0].visual, 6, later[0].kept)]
    assert resumed(same)[1][0].prompt.suffix == later[0].prompt.suffix[-1:], "what was run last is kept in turn"
    assert decoder.answer(same) == whole[:1]


def test_what_is_too_large_or_begins_otherwise_is_not_gone_on_with(decoder: Decoder) -> None:
    (one,) = asked(4)
    small, slot = KeptPrompt(100), KeptPrompt(2**20)
    for kept in (small, slot):
        decoder.answer([Request(one.prompt, one.visual, 2, kept)])
    assert (small.nbytes, small.common(one.prompt)) == (0, -1)
    assert slot.nbytes == decoder.answer([one])[0].kv_bytes
    assert slot.common(Prompt((1, 5, 7), one.prompt.suffix, (0, 1))) == -1
    assert slot.common(Prompt(one.prompt.prefix, (99, 98), (0, 1))) == 0


def test_chunks_count_draws_and_bad_numbers_are_refused() -> None:
    requests = asked(4, 4, 4, 4)
    assert [len(chunk) for chunk in plan_chunks(requests, GenerationOptions(batch_size=4, draws=2))] == [2, 2]
    for wrong in ({"draws": 0}, {"logprobs": -1}):
        with pytest.raises(ParameterError):
            GenerationOptions(**wrong)
