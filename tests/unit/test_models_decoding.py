"""Decoding on a toy language model: options, streaming, splitting, fixed-shape steps."""

import functools
import weakref
from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from hero_ray.core.errors import CheckpointError, DeviceMemoryError, NonFiniteScoreError, ParameterError, PromptError
from hero_ray.models import lean, miniature
from hero_ray.models.base import Prompt, Request
from hero_ray.models.batch import share_groups, whole_prompts
from hero_ray.models.build import META, build, randomise
from hero_ray.models.cache import cache_argument
from hero_ray.models.generation import Decoder, GenerationOptions, plan_chunks
from hero_ray.models.graphs import GraphedDecode
from hero_ray.models.runner import Runner


@pytest.fixture(scope="module")
def decoder():
    torch.set_num_threads(1)
    language = build(LlamaForCausalLM, miniature.text_config(), torch.device("cpu"), torch.float32, "sdpa")
    randomise(language, seed=4)
    for weight in language.model.parameters():
        weight.mul_(1.7)
    return Decoder(Runner(language.model, language.lm_head), frozenset({2}), context=512)


@pytest.fixture(scope="module")
def requests():
    generator = torch.Generator().manual_seed(0)
    pictures = [torch.randn(count, 64, generator=generator) for count in (40, 12, 25)]
    prompts = [Prompt((1, 5, 6), tuple(range(10, 10 + length)), (0, length)) for length in (4, 9, 6)]
    return [Request(prompt, picture, 7) for picture in pictures for prompt in prompts]


def ids(answers):
    return [answer.token_ids for answer in answers]


def test_a_request_stops_at_its_own_limit(decoder, requests):
    mixed = [Request(r.prompt, r.visual, 1 + index % 4) for index, r in enumerate(requests)]
    long = ids(decoder.answer(requests, options=GenerationOptions(ignore_eos=True)))
    short = decoder.answer(mixed, options=GenerationOptions(ignore_eos=True))
    for request, answer, whole in zip(mixed, short, long, strict=True):
        assert answer.token_ids == whole[: request.max_new_tokens]
        assert answer.finish == "length"


def test_the_end_token_ends_an_answer_and_is_not_part_of_it(decoder, requests):
    free = decoder.answer(requests, options=GenerationOptions(ignore_eos=True))
    ending = frozenset({free[0].token_ids[3]})
    stopping = Decoder(decoder.runner, ending, decoder.context)
    for whole, answer in zip(free, stopping.answer(requests), strict=True):
        cut = next((place for place, token in enumerate(whole.token_ids) if token in ending), None)
        assert answer.token_ids == whole.token_ids[:cut]
        assert answer.finish == ("length" if cut is None else "stop")
    assert any(answer.finish == "stop" for answer in stopping.answer(requests))


def test_streamed_tokens_are_the_answers(decoder, requests):
    seen = {index: [] for index in range(len(requests))}
    options = GenerationOptions(batch_size=4, on_token=lambda index, token: seen[index].append(token))
    answers = decoder.answer(requests, options=options)
    assert [tuple(seen[index]) for index in range(len(requests))] == ids(answers)


def test_an_answer_is_over_where_its_listener_has_enough_and_its_neighbours_go_on(decoder, requests, monkeypatch):
    whole = decoder.answer(requests, options=GenerationOptions(ignore_eos=True))
    steps = []
    step = Runner.decode
    monkeypatch.setattr(Runner, "decode", lambda *given: steps.append(given) or step(*given))
    heard = []

    def listen(index, token):
        heard.append(index)
        return 17 if index else True  # what is true but not True, such as the length of something written, ends nothing

    answers = decoder.answer(requests, options=GenerationOptions(ignore_eos=True, on_token=listen))
    assert (answers[0].token_ids, answers[0].finish) == (whole[0].token_ids[:1], "stop")
    assert answers[1:] == whole[1:]
    assert heard.count(0) == 1
    steps.clear()
    decoder.answer(requests, options=GenerationOptions(ignore_eos=True, on_token=lambda *_: True))
    assert steps == []


def test_draws_depend_on_seed_and_request_not_on_neighbours(decoder, requests):
    hot = {"temperature": 2.0, "top_p": 0.95, "ignore_eos": True}
    together = ids(decoder.answer(requests, options=GenerationOptions(**hot, seed=1)))
    apart = ids(decoder.answer(requests, options=GenerationOptions(**hot, seed=1, batch_size=1)))
    other = ids(decoder.answer(requests, options=GenerationOptions(**hot, seed=2)))
    greedy = ids(decoder.answer(requests, options=GenerationOptions(ignore_eos=True)))
    assert together == apart
    assert together != other
    assert together != greedy


def test_a_draw_is_the_same_in_any_place_of_a_batch(decoder, requests):
    hot = {"temperature": 2.0, "top_p": 0.95, "ignore_eos": True, "seed": 1}
    forward = ids(decoder.answer(requests, options=GenerationOptions(**hot)))
    backward = ids(decoder.answer(requests[::-1], options=GenerationOptions(**hot)))
    alone = [ids(decoder.answer([request], options=GenerationOptions(**hot)))[0] for request in requests]
    assert forward == backward[::-1] == alone


@pytest.mark.parametrize(
    "values", [{"temperature": 1e-40}, {"temperature": 5e-324}, {"temperature": 0.5, "top_p": 1e-300}]
)
def test_settings_that_round_to_nothing_are_greedy(decoder, requests, values):
    assert ids(decoder.answer(requests, options=GenerationOptions(**values))) == ids(decoder.answer(requests))


def overflowing(decoder, name, value, dtype=torch.float32):
    """A copy whose weight `name` overflows: it stands in for a checkpoint that does."""
    language = build(LlamaForCausalLM, miniature.text_config(), torch.device("cpu"), dtype, "sdpa")
    randomise(language, seed=4)
    with torch.no_grad():
        language.get_parameter(name).mul_(value)
    return Decoder(Runner(language.model, language.lm_head), decoder.end, decoder.context)


@pytest.mark.parametrize(
    "sampled", [{}, {"temperature": 1.0}, {"temperature": 1.0, "top_p": 0.5}, {"ignore_eos": True}]
)
@pytest.mark.parametrize(
    ("dtype", "value", "says"),
    [
        (torch.float32, float("inf"), "logits in float32 are NaN or infinite; check the weights"),
        (torch.float16, 1e6, "logits in float16 are NaN or infinite; use bfloat16 or float32"),
    ],
)
def test_overflow_is_named_and_no_answer(decoder, requests, dtype, value, says, sampled):
    broken = overflowing(decoder, "model.layers.1.mlp.down_proj.weight", value, dtype)
    asked = [Request(r.prompt, r.visual.to(dtype), 7) for r in requests]
    told = []
    with pytest.raises(NonFiniteScoreError, match=says):
        broken.answer(asked, options=GenerationOptions(**sampled, on_token=lambda *given: told.append(given)))
    with pytest.raises(NonFiniteScoreError, match=says):
        broken.answer(asked, options=GenerationOptions(**sampled))
    assert told == []


def test_overflow_behind_the_first_token_is_named(decoder, requests):
    class Late(Decoder):
        def decode(self, state, token_ids):
            return super().decode(state, token_ids).index_fill(1, torch.tensor([3]), float("nan"))

    late = Late(decoder.runner, decoder.end, decoder.context)
    first = [Request(r.prompt, r.visual, 1) for r in requests]
    assert ids(late.answer(first)) == ids(decoder.answer(first))
    with pytest.raises(NonFiniteScoreError, match="logits in float32"):
        late.answer(requests, options=GenerationOptions(ignore_eos=True))


def test_features_that_overflowed_are_named(decoder, requests):
    spoilt = Request(requests[0].prompt, requests[0].visual * float("inf"), 7)
    with pytest.raises(NonFiniteScoreError, match="visual features in float32"):
        decoder.answer([*requests, spoilt])


def test_a_tiny_top_p_is_greedy(decoder, requests):
    options = GenerationOptions(temperature=1.0, top_p=1e-6)
    assert ids(decoder.answer(requests, options=options)) == ids(decoder.answer(requests))


@pytest.mark.parametrize("values", [{"batch_size": 0}, {"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 1.5}])
def test_options_out_of_range_are_refused(values):
    with pytest.raises(ParameterError):
        GenerationOptions(**values)


def test_no_requests_give_no_answers(decoder):
    assert decoder.answer([]) == []
    assert decoder.answer([], Halving()) == []


def test_no_new_tokens_is_refused(decoder, requests):
    with pytest.raises(PromptError, match="at least 1"):
        decoder.answer([Request(requests[0].prompt, requests[0].visual, 0)])


def test_requests_of_one_picture_are_grouped_by_identity(requests):
    twin = Request(requests[0].prompt, requests[0].visual.clone(), 7)
    assert share_groups([*requests, twin]) == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]


def test_batches_hold_every_request_once_and_never_too_many(requests):
    for size in (1, 2, 4, 64):
        chunks = plan_chunks(requests, GenerationOptions(batch_size=size))
        assert sorted(index for chunk in chunks for index in chunk) == list(range(len(requests)))
        assert max(map(len, chunks)) <= size


def test_no_row_is_padded_beyond_twice_its_length(requests):
    chunks = plan_chunks(requests, GenerationOptions())
    assert [sorted(chunk) for chunk in chunks] == [[0, 1, 2, 6, 7, 8], [3, 4, 5]]  # 40 and 25 visual tokens; 12


class SmallDevice(Runner):
    """A runner whose device holds a few rows only."""

    def __init__(self, runner, rows):
        vars(self).update(vars(runner))
        self.rows, self.refused = rows, 0

    def _room_for(self, batch):
        if batch.embeds.shape[0] > self.rows:
            self.refused += 1
            raise torch.OutOfMemoryError("no room")

    def prefill(self, batch, *how, **named):
        self._room_for(batch)
        return super().prefill(batch, *how, **named)

    def extend(self, shared, rows, batch, room=0, in_place=None):
        self._room_for(batch)
        return super().extend(shared, rows, batch, room, in_place)


def test_running_out_of_memory_splits_the_batch_and_says_so(decoder, requests, caplog):
    small = SmallDevice(decoder.runner, rows=2)
    answers = Decoder(small, decoder.end, decoder.context).answer(requests)
    assert answers == decoder.answer(requests)
    assert small.refused > 0
    assert "out of memory with 6 requests together; going on with 3" in caplog.text


def test_one_request_too_many_is_a_named_error(decoder, requests):
    small = Decoder(SmallDevice(decoder.runner, rows=0), decoder.end, decoder.context)
    with pytest.raises(DeviceMemoryError, match="1 request"):
        small.answer(requests[:1])


class Halving:
    """Drops half of the visual tokens on entering block 3."""

    def before(self, state):
        if state.layer != 3:
            return None
        odd = (state.visual.long().cumsum(1) % 2).bool()
        return SimpleNamespace(keep=state.valid & (~state.visual | odd), recycled=None, recycled_valid=None)

    def after(self, state):
        pass


def test_a_batch_with_a_pruner_is_not_split(decoder, requests):
    small = Decoder(SmallDevice(decoder.runner, rows=2), decoder.end, decoder.context)
    with pytest.raises(DeviceMemoryError, match="smaller batch"):
        small.answer(requests, pruner=Halving())


@pytest.mark.parametrize("pruner", [None, Halving()])
def test_fixed_shape_steps_give_the_same_tokens(decoder, requests, pruner):
    fixed = Decoder(decoder.runner, decoder.end, decoder.context, GraphedDecode(decoder.runner))
    options = GenerationOptions(ignore_eos=True)
    expected = decoder.answer(requests, pruner, options=options)
    assert fixed.answer(requests, pruner, options=options) == expected
    assert fixed.answer(requests[:1], pruner, options=options)[0].token_ids == expected[0].token_ids
    assert fixed.answer(requests[::-1], pruner, options=options) == expected[::-1]  # buffers are used again


def test_fixed_shape_steps_do_not_keep_an_answered_batch_alive(decoder, requests):
    step = GraphedDecode(decoder.runner)
    state = decoder.prefill(requests[:2])
    step(state, state.logits.argmax(-1))
    gone = weakref.ref(state.cache)
    del state
    assert gone() is None


def test_fixed_shape_logits_follow_the_growing_cache(decoder, requests):
    batch = whole_prompts(requests, decoder.runner.embed)
    growing, fixed = (decoder.runner.prefill(batch, room=6) for _ in range(2))
    step = GraphedDecode(decoder.runner)
    for _ in range(6):
        tokens = growing.logits.argmax(-1)
        assert torch.allclose(step(fixed, tokens), decoder.runner.decode(growing, tokens), atol=1e-4)


def test_the_cache_refuses_what_it_has_no_room_for(decoder, requests):
    state = decoder.runner.prefill(whole_prompts(requests, decoder.runner.embed), room=1)
    decoder.runner.decode(state, state.logits.argmax(-1))
    with pytest.raises(PromptError, match="room"):
        decoder.runner.decode(state, state.logits.argmax(-1))


class StandIn(torch.nn.Module):
    """A block around a real one; subclasses differ in what their signature says."""

    def __init__(self, real):
        super().__init__()
        self.real, self.caches = real, []

    def run(self, hidden, cache, **others):
        self.caches.append(cache)
        return self.real(hidden, **{cache_argument(self.real): cache}, **others)


class Newer(StandIn):
    def forward(self, hidden_states, cache=None, **kwargs):
        assert "past_key_values" not in kwargs
        return self.run(hidden_states, cache, **kwargs)


class Older(StandIn):
    def forward(self, hidden_states, *, past_key_values=None, **kwargs):
        assert "cache" not in kwargs
        return self.run(hidden_states, past_key_values, **kwargs)


class Renaming(StandIn):
    """Takes both, the older name with a complaint, as transformers 5.24 to 5.39 do."""

    def forward(self, hidden_states, past_key_values=None, cache=None, **kwargs):
        assert past_key_values is None, "the older name is deprecated"
        return self.run(hidden_states, cache, **kwargs)


class Decorated(StandIn):
    def inner(self, hidden_states, cache=None, **kwargs):
        return self.run(hidden_states, cache, **kwargs)

    @functools.wraps(inner)
    def forward(self, *args, **kwargs):
        return self.inner(*args, **kwargs)


class Swallowing(StandIn):
    def forward(self, hidden_states, attention_mask=None, **kwargs):
        return self.real(hidden_states, attention_mask=attention_mask)


class Misleading(StandIn):
    def forward(self, hidden_states, /, past_key_values=None, *args, **cache):
        return self.run(hidden_states, past_key_values)


class Positional(StandIn):
    def forward(self, hidden_states, cache=None, /, **kwargs):
        return self.run(hidden_states, cache, **kwargs)


def with_blocks(decoder, *kinds):
    """The decoder's model with its blocks wrapped in stand-ins, `kinds` in turn; the wrapped blocks."""
    real, runner = decoder.runner._model, decoder.runner
    blocks = [kinds[index % len(kinds)](block) for index, block in enumerate(real.layers)]
    parts = {name: getattr(real, name) for name in ("embed_tokens", "norm", "rotary_emb")}
    model = SimpleNamespace(layers=blocks, **parts)
    return Decoder(Runner(model, runner._head), decoder.end, decoder.context), blocks


@pytest.mark.parametrize("kinds", [[Newer], [Older], [Renaming], [Decorated], [Older, Newer]])
def test_the_cache_goes_under_the_name_each_block_takes(decoder, requests, kinds, monkeypatch):
    options = GenerationOptions(ignore_eos=True)
    expected = decoder.answer(requests, options=options)
    renamed, blocks = with_blocks(decoder, *kinds)
    monkeypatch.setattr("hero_ray.models.blocks.cache_argument", None)  # found once, not per call
    assert renamed.answer(requests, options=options) == expected
    assert all(block.caches and None not in block.caches for block in blocks)


def test_the_installed_block_takes_its_cache_by_keyword(decoder, requests):
    prompts = whole_prompts(requests, decoder.runner.embed)
    state = decoder.runner.prefill(prompts)
    for index, block in enumerate(decoder.runner._model.layers):
        assert cache_argument(block) in ("cache", "past_key_values")
        assert state.cache.length(index) == prompts.embeds.shape[1]


@pytest.mark.parametrize("kind", [Swallowing, Positional])
def test_a_block_that_would_swallow_the_cache_is_refused(decoder, kind):
    with pytest.raises(CheckpointError, match=rf"{kind.__name__} takes \(hidden_states, .*cache, past_key_values"):
        with_blocks(decoder, Newer, kind)


def test_a_catch_all_called_cache_is_no_cache(decoder):
    assert cache_argument(Misleading(decoder.runner._model.layers[0])) == "past_key_values"


def test_random_weights_follow_the_seed():
    def weights(seed):
        model = build(LlamaForCausalLM, miniature.text_config(), torch.device("cpu"), torch.bfloat16, "sdpa")
        randomise(model, seed)
        assert model.model.rotary_emb.inv_freq.dtype == torch.float32
        return torch.cat([weight.flatten().float() for weight in model.parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))
    assert weights(1).isfinite().all()


def test_a_meta_model_has_no_storage():
    model = build(LlamaForCausalLM, miniature.text_config(), META, torch.bfloat16, "sdpa")
    randomise(model, 0)
    assert all(weight.device == META for weight in model.parameters())


def passes(runner, dtype, width):
    """Logits and caches of prompts alone and padded, behind a shared prefix, and of the steps after them; beside them
    the logits of prompts behind a prefix, whose last block runs for one position."""
    visuals = [torch.randn(count, width, generator=torch.Generator().manual_seed(count)).to(dtype) for count in (9, 4)]
    asked = [Request(Prompt((1, 5), (7, 8, 9), (0, 2)), visual, 6) for visual in visuals]
    asked += [Request(Prompt((1, 5), text, (0, 1)), visuals[0], 6) for text in ((11, 12), (13,))]
    decoder, made, behind = Decoder(runner, frozenset({2}), 64), [], []
    for rows, share in ((asked, False), (asked[:1], False), (asked, True), (asked[-1:] * 2, True)):
        state = decoder.prefill(rows, share_prefix=share)
        (behind if share else made).append(state.logits)
        made += [kept(index) for kept in (state.cache.keys, state.cache.values) for index in range(runner.num_layers)]
        made += [runner.decode(state, state.logits.argmax(-1)).clone() for _ in range(5)]
    return made, behind


@pytest.mark.parametrize("little", [2**18, 0])
@pytest.mark.parametrize("kv_heads", [8, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lean_passes_are_the_blocks_own_to_the_last_bit(kv_heads, dtype, little, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(lean, "_LITTLE", little)
    model = LlamaForCausalLM(miniature.text_config(kv_heads=kv_heads)).eval().to(dtype)
    runner = Runner(model.model, model.lm_head)
    assert all(runner._lean)
    ours, ours_behind = passes(runner, dtype, model.config.hidden_size)
    monkeypatch.setattr(runner, "_lean", [None] * runner.num_layers)
    theirs, theirs_behind = passes(runner, dtype, model.config.hidden_size)
    assert len(ours) > 40
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
    near = 1e-5 if dtype == torch.float32 else 0.05
    assert all(torch.allclose(one, other, atol=near) for one, other in zip(ours_behind, theirs_behind, strict=True))


def test_joined_products_read_the_weights_that_modules_have_now():
    torch.manual_seed(0)
    model, other = (LlamaForCausalLM(miniature.text_config(kv_heads=2)).eval() for _ in range(2))
    held = {weight.untyped_storage().data_ptr(): weight.untyped_storage().nbytes() for weight in model.parameters()}
    runner, again = (Runner(model.model, model.lm_head) for _ in range(2))
    assert all(block._joined for block in runner._lean)
    now = {weight.untyped_storage().data_ptr(): weight.untyped_storage().nbytes() for weight in model.parameters()}
    assert sum(now.values()) == sum(held.values()), "no weight is held twice"
    assert [block._inner._weight.data_ptr() for block in runner._lean] == [
        block._inner._weight.data_ptr() for block in again._lean
    ]
    changes = (
        lambda: model.load_state_dict(other.state_dict()),  # in place
        lambda: model.load_state_dict({name: 2 * value for name, value in other.state_dict().items()}, assign=True),
        lambda: model.to(torch.bfloat16),  # moved below the modules
    )
    before, _ = passes(runner, torch.float32, model.config.hidden_size)
    for change in changes:
        change()
        dtype = model.lm_head.weight.dtype
        (here, behind), (fresh, fresh_behind) = (
            passes(one, dtype, model.config.hidden_size) for one in (runner, Runner(model.model, model.lm_head))
        )
        pairs = zip(here + behind, fresh + fresh_behind, strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)
        assert not torch.equal(here[0].float(), before[0].float())
        before = here


def test_blocks_of_another_kind_keep_their_own_step():
    config = Qwen3Config(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
    )
    model = Qwen3ForCausalLM(config).eval()
    assert Runner(model.model, model.lm_head)._lean == [None, None]
    model = LlamaForCausalLM(miniature.text_config()).eval()
    assert Runner(model.model, model.lm_head, "eager")._lean == [None] * 4
