"""Every named model on the meta device, and every family's adapter on a miniature: what `Adapter` promises."""

from dataclasses import replace

import pytest
import torch

from hero_ray import models
from hero_ray.core.encoded import Budget, Needs, Selection, keep_all
from hero_ray.core.errors import DeviceMemoryError, ParameterError, PromptError, SelectionError
from hero_ray.methods import create
from hero_ray.models import miniature, miniature_qwen
from hero_ray.models.base import LanguageShape, Request, VisionShape, embeddings
from hero_ray.models.registry import SPECS
from hero_ray.models.shapes import shape
from tests.against_stock import picture
from tests.checkpoints import TEMPLATES

PUBLISHED = [name for name, spec in SPECS.items() if spec.source]
# Billions of weights as the hub's pages state them.
WEIGHTS = {
    "llava-next-7b": 7.06,
    "llava-next-13b": 13.35,
    "llava-1.5-7b": 7.06,
    "llava-1.5-13b": 13.35,
    "sharegpt4v-7b": 7.06,
    "internvl2-2b": 2.21,
    "internvl2-8b": 8.08,
    "qwen2.5-vl-3b": 3.755,
    "qwen2.5-vl-7b": 8.292,
    "qwen2.5-vl-32b": 33.453,
    "qwen2.5-vl-72b": 73.411,
    "qwen3-vl-2b": 2.128,
    "qwen3-vl-4b": 4.438,
    "qwen3-vl-8b": 8.767,
    "qwen3-vl-32b": 33.357,
}
KV_BYTES_PER_TOKEN = {
    "llava-next-7b": 2 * 32 * 4096 * 2,
    "llava-next-13b": 2 * 40 * 5120 * 2,
    "llava-1.5-7b": 2 * 32 * 4096 * 2,
    "llava-1.5-13b": 2 * 40 * 5120 * 2,
    "sharegpt4v-7b": 2 * 32 * 4096 * 2,
    "internvl2-2b": 2 * 24 * 1024 * 2,
    "internvl2-8b": 2 * 32 * 1024 * 2,
    "qwen2.5-vl-3b": 2 * 36 * 256 * 2,
    "qwen2.5-vl-7b": 2 * 28 * 512 * 2,
    "qwen2.5-vl-32b": 2 * 64 * 1024 * 2,
    "qwen2.5-vl-72b": 2 * 80 * 1024 * 2,
    "qwen3-vl-2b": 2 * 28 * 1024 * 2,
    "qwen3-vl-4b": 2 * 36 * 1024 * 2,
    "qwen3-vl-8b": 2 * 36 * 1024 * 2,
    "qwen3-vl-32b": 2 * 64 * 1024 * 2,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_true_architecture_stands_on_the_meta_device(name):
    adapter = models.load(name, device="meta")
    assert adapter.info.dtype == shape(name).dtype
    weights = sum(weight.numel() for weight in adapter.model.parameters())
    assert weights / 1e9 == pytest.approx(WEIGHTS[name], abs=0.006)
    known = shape(name)
    assert (adapter.info.language, adapter.info.vision, adapter.info.context) == (
        known.language,
        known.vision,
        known.context,
    )
    assert adapter.info.family == known.family
    assert adapter.info.random_weights
    language = adapter.info.language
    assert 2 * language.num_layers * language.num_kv_heads * language.head_dim * 2 == KV_BYTES_PER_TOKEN[name]


@pytest.mark.parametrize(("name", "tokens", "tera"), [("llava-next-7b", 2673, 38.367), ("internvl2-2b", 1792, 6.043)])
def test_a_prefill_on_the_meta_device_counts_the_true_flops(name, tokens, tera):
    from torch.utils.flop_counter import FlopCounterMode

    adapter = models.load(name, device="meta", dtype="bfloat16")
    prompt = adapter.prompt("x")
    width = adapter.info.language.hidden
    visual = torch.empty(tokens - prompt.num_text, width, device="meta", dtype=torch.bfloat16)
    with FlopCounterMode(display=False) as counter:
        adapter.decoder.prefill([Request(prompt, visual, 1)])
    assert counter.get_total_flops() / 1e12 == pytest.approx(tera, abs=0.001)


@pytest.fixture(
    scope="module", params=["llava-next", "llava-1.5", "llava-onevision", "internvl2", "qwen2.5-vl", "qwen3-vl"]
)
def adapter(request, tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "internvl2":
        miniature.write_internvl2(miniature.internvl2(), folder)
    elif request.param in ("qwen2.5-vl", "qwen3-vl"):
        make = {"qwen2.5-vl": miniature_qwen.qwen_vl, "qwen3-vl": miniature_qwen.qwen3_vl}[request.param]
        miniature_qwen.write_qwen_vl(make(), folder)
    else:
        write = {"llava-next": miniature.llava_next, "llava-1.5": miniature.llava_15}
        stock = write.get(request.param, miniature.llava_onevision)()
        miniature.write_llava(stock, folder, miniature.clip())
        (folder / "chat_template.jinja").write_text(TEMPLATES["vicuna"])
    return models.load(str(folder), device="cpu")


def test_info_names_family_and_weights(adapter):
    assert adapter.info.family == adapter.family
    assert len(adapter.info.revision) == 64
    assert not adapter.info.random_weights
    assert (adapter.info.dtype, adapter.info.device, adapter.info.attention) == ("float32", "cpu", "sdpa")


def test_captures_have_their_promised_shapes(adapter):
    depth = adapter.vision.num_layers
    layers = frozenset({1, depth})
    sources = {"last_pre_ln", "post_ln", "feature_layer"}
    needs = Needs(
        layers,
        layers,
        frozenset({1}),
        frozenset(sources),
        projector_input=True,
        received=frozenset({adapter.vision.feature_layer}),
    )
    prepared = adapter.prepare(picture(), "an id")
    encoded = adapter.encode(prepared, needs)
    views, tokens = encoded.layout.num_views, encoded.layout.tokens_per_view
    heads, hidden = adapter.info.vision.num_heads, adapter.info.vision.hidden
    assert encoded.image_id == "an id"
    assert encoded.features.shape == (views, tokens, adapter.info.language.hidden)
    assert encoded.projector_input.shape == (views, tokens, adapter.info.vision.projector[0])
    for layer in layers:
        assert encoded.cls_attention[layer].shape == (views, heads, tokens)
        assert encoded.cls_logits[layer].shape == (views, heads, tokens)
        assert encoded.cls_attention[layer].dtype == torch.float32
        # A CLS row has a share for CLS itself; what stands in for it where there is none has not.
        most = 1.0 if adapter.vision.has_cls else 1.0 + 1e-5
        assert (encoded.cls_attention[layer].sum(-1) * adapter.vision.patches_per_token < most).all()
        assert encoded.cls_query[layer].shape == (views, heads, hidden // heads)
    assert encoded.keys[1].shape == (views, heads, 1 + tokens, hidden // heads)
    shares = encoded.received[adapter.vision.feature_layer]
    assert shares.shape == (views, 3, tokens)
    real = shares[:, 0 if adapter.vision.has_cls else 1 :].transpose(1, 2)[encoded.layout.valid]
    assert (real > 0).all()
    # Every query hands out 1, part of it to CLS: what patches give is at most one each, what CLS gives its own row.
    folded = adapter.vision.patches_per_token
    cls = int(adapter.vision.has_cls)
    assert (shares.sum((1, 2)) * folded < cls + tokens * folded + (1 - cls) * 1e-4).all()
    assert set(encoded.cls_embedding) == sources
    assert encoded.cls_embedding["last_pre_ln"].shape == (views, hidden)


def test_nothing_unasked_is_captured(adapter):
    encoded = adapter.encode(adapter.prepare(picture()), Needs())
    assert encoded.projector_input is None
    assert not any([encoded.cls_attention, encoded.cls_logits, encoded.keys, encoded.cls_embedding, encoded.received])
    asked = adapter.ask(encoded, "what is it", Needs(), adapter.prompt("what is it")).question
    assert (asked.clip_score, asked.clip_tokens, asked.llm_embedding, dict(asked.llm_attention)) == (
        None,
        None,
        None,
        {},
    )


def test_words_and_patches_meet_in_clips_space(adapter):
    needs = Needs(clip_words=True, prompt_embedding=True, projector_input=True)
    encoded, prompt = adapter.encode(adapter.prepare(picture()), needs), adapter.prompt("what is it")
    asked = adapter.ask(encoded, "what is it", needs, prompt).question
    frame = (
        (prompt.prefix[-1], prompt.suffix[0]) if adapter.info.family == "internvl2" else ()  # <img>, </img>
    )
    everything = torch.tensor([token for token in prompt.prefix + prompt.suffix if token not in frame])
    torch.testing.assert_close(asked.prompt_embedding, adapter.runner.embed(everything).float().mean(0))
    if adapter.clip is None:
        assert asked.clip_words is None
        assert asked.clip_patches is None
        return
    projection = adapter.clip.visual_projection.float()
    torch.testing.assert_close(asked.clip_patches, encoded.projector_input @ projection.T)
    # What CLIP calls a text's embedding is one token's place, its end's.
    apart = torch.nn.functional.normalize(asked.clip_words, dim=-1) - adapter.clip.text("what is it")[0]
    assert float(apart.abs().amax(1).min()) < 1e-5
    assert asked.clip_words.shape == (len(adapter.clip.encode("what is it")), projection.shape[0])


def test_a_layer_the_tower_lacks_is_refused(adapter):
    with pytest.raises(ParameterError, match="layers 1 to"):
        adapter.encode(adapter.prepare(picture()), Needs(cls_attention=frozenset({99})))


def test_encoding_several_pictures_together_changes_nothing(adapter):
    needs = Needs(cls_attention=frozenset({2}))
    prepared = [adapter.prepare(picture(seed=seed, width=60 + 90 * seed), str(seed)) for seed in range(3)]
    together = adapter.encode_many(prepared, needs)
    for one, other in zip([adapter.encode(p, needs) for p in prepared], together, strict=True):
        assert one.image_id == other.image_id
        assert torch.allclose(one.features, other.features, atol=2e-5)
        assert torch.allclose(one.cls_attention[2], other.cls_attention[2], atol=1e-5)


def test_plans_fall_from_the_stock_look_to_one_token(adapter):
    size = (200, 90)
    stock, *cheaper = adapter.plans(size)
    assert adapter.prepare(picture(*size)).layout.num_patches == stock.num_tokens
    counts = [plan.num_tokens for plan in cheaper]
    assert counts == sorted(set(counts), reverse=True)
    assert counts[-1] == 1
    assert counts[0] < stock.num_tokens
    for plan in cheaper:
        prepared = adapter.prepare(picture(*size), "x", plan)
        encoded = adapter.encode(prepared, Needs())
        assert prepared.layout.num_patches == plan.num_tokens
        assert encoded.features.shape[:2] == prepared.layout.valid.shape
    assert torch.equal(adapter.prepare(picture(*size), "x", stock).pixels, adapter.prepare(picture(*size)).pixels)


def test_a_selection_is_spliced_entry_by_entry(adapter):
    encoded = adapter.encode(adapter.prepare(picture()), Needs())
    flat = encoded.features.flatten(0, 1)
    extra = torch.randn(2, flat.shape[1], generator=torch.Generator().manual_seed(0))
    keep = torch.zeros_like(encoded.layout.valid)
    selection = Selection(keep, order=torch.tensor([3, -3, 0, -2, 3]), extra=extra)
    visual = embeddings(adapter.assemble(encoded, selection, "unpadded_rows"))
    assert torch.equal(visual, torch.stack([flat[3], extra[1], flat[0], extra[0], flat[3]]))


def test_edited_features_pass_the_projector_on_request(adapter):
    encoded = adapter.encode(adapter.prepare(picture()), Needs(projector_input=True))
    selection = Selection(encoded.layout.valid, edited=encoded.projector_input, space="projector_input")
    plain = embeddings(adapter.assemble(encoded, keep_all(encoded.layout), "unpadded_rows"))
    assert torch.allclose(embeddings(adapter.assemble(encoded, selection, "unpadded_rows")), plain, atol=1e-5)


@pytest.mark.parametrize("entry", [10_000, -2])
def test_an_order_that_names_nothing_is_refused(adapter, entry):
    encoded = adapter.encode(adapter.prepare(picture()), Needs())
    selection = Selection(encoded.layout.valid, order=torch.tensor([0, entry]))
    with pytest.raises(SelectionError, match="the order spans"):
        adapter.assemble(encoded, selection, "unpadded_rows")


def test_the_instruction_span_is_the_question(adapter):
    prompt = adapter.prompt("what colour is it\nanswer with one word", "what colour is it")
    first, last = prompt.instruction
    assert adapter.tokenizer.decode(prompt.suffix[first:last]).replace(" ", "") == "whatcolourisit"


@pytest.mark.parametrize("text", ["", "  \n", "<image> <image> what"])
def test_prompts_that_cannot_be_built_are_refused(adapter, text):
    with pytest.raises(PromptError):
        adapter.prompt(text)


def test_a_prompt_beyond_the_context_is_refused(adapter):
    visual = torch.zeros(adapter.info.context, adapter.info.language.hidden)
    with pytest.raises(PromptError, match=r"the model's context is"):
        adapter.generate([Request(adapter.prompt("what"), visual, 1)])


def test_an_answer_does_not_depend_on_its_neighbours(adapter):
    requests = []
    for seed, text in enumerate(["what is it", "is it red or blue", "how many objects are there", "a"]):
        encoded = adapter.encode(adapter.prepare(picture(60 + 70 * seed, 90, seed)), Needs())
        budget = Budget.of(encoded.layout, ratio=[1.0, 0.5, 0.3, 0.7][seed])
        selection = create("random").select(encoded, budget)
        visual = adapter.assemble(encoded, selection, "unpadded_rows")
        requests += [Request(adapter.prompt(text), visual, 6), Request(adapter.prompt(text + " then"), visual, 4)]
    alone = [adapter.generate([request])[0] for request in requests]
    assert adapter.generate(requests) == alone
    assert adapter.generate(requests[::-1], batch_size=3) == alone[::-1]


def test_half_precision_runs(adapter):
    folder = adapter.info.name
    half = models.load(folder, device="cpu", dtype="bfloat16")
    encoded = half.encode(half.prepare(picture()), Needs(cls_attention=frozenset({1})))
    assert encoded.features.dtype == torch.bfloat16
    assert encoded.cls_attention[1].dtype == torch.float32
    visual = half.assemble(encoded, keep_all(encoded.layout), "unpadded_rows")
    [answer] = half.generate([Request(half.prompt("what"), visual, 3)])
    whole = Request(adapter.prompt("what"), embeddings(visual).float(), 3)
    full_bytes = adapter.generate([whole])[0].kv_bytes
    assert answer.kv_bytes * 2 == full_bytes


def test_a_newline_needs_a_family_that_has_one(adapter):
    encoded = adapter.encode(adapter.prepare(picture()), Needs())
    selection = Selection(encoded.layout.valid, order=torch.tensor([0, -1]))
    if adapter.family in ("llava-next", "llava-onevision"):
        assert torch.equal(adapter.assemble(encoded, selection, "none")[1], adapter.model.model.image_newline)
    else:
        with pytest.raises(SelectionError, match="newline"):
            adapter.assemble(encoded, selection, "none")


def test_too_many_pictures_for_the_device_are_encoded_in_parts(adapter, monkeypatch):
    prepared = [adapter.prepare(picture(200, 90, seed), str(seed)) for seed in range(5)]
    expected = [adapter.encode(one, Needs()).features for one in prepared]
    whole, most = adapter._capture, 2 * prepared[0].layout.num_views

    def small(pixels, needs):
        if pixels.shape[0] > most:
            raise torch.OutOfMemoryError("no room")
        return whole(pixels, needs)

    monkeypatch.setattr(adapter, "_capture", small)
    for one, features in zip(adapter.encode_many(prepared, Needs()), expected, strict=True):
        assert torch.allclose(one.features, features, atol=2e-5)
    most = 0
    with pytest.raises(DeviceMemoryError, match="a picture of"):
        adapter.encode(prepared[0], Needs())


@pytest.mark.parametrize("name", ["llava-next-7b", "llava-1.5-7b", "internvl2-2b"])
def test_random_weights_answer_but_say_what_they_are(name, monkeypatch):
    known = shape(name)
    language = LanguageShape(3, 64, 96, 4, known.language.num_kv_heads // 8 or 1, 16, known.language.vocab)
    vision = VisionShape(3, known.vision.layers_run - 21, 32, 64, 4, known.vision.tokens, 14, (32, 64, 64))
    small = replace(known, language=language, vision=vision)
    monkeypatch.setattr("hero_ray.models.parts.shape", lambda asked: small)
    one, same, other = (models.load(f"{name}:random", device="cpu", seed=seed) for seed in (1, 1, 2))
    assert (one.info.name, one.info.revision, one.info.random_weights) == (f"{name}:random", "random:1", True)
    answers = []
    for adapter in (one, same, other):
        encoded = adapter.encode(adapter.prepare(picture(300, 300)), Needs())
        visual = adapter.assemble(encoded, keep_all(encoded.layout), "unpadded_rows")
        [answer] = adapter.generate([Request(adapter.prompt("what is it"), visual, 3)], ignore_eos=True)
        answers.append(answer.token_ids)
    assert answers[0] == answers[1] != answers[2]
