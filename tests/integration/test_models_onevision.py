"""LLaVA-OneVision: SigLIP without CLS, a mosaic interpolated down; against transformers' class and processor."""

import json
import shutil
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlavaOnevisionForConditionalGeneration, PreTrainedTokenizerFast
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil
from transformers.models.llava_onevision.processing_llava_onevision import LlavaOnevisionProcessor

from hero_ray import models
from hero_ray.core.encoded import Budget, Needs, keep_all
from hero_ray.core.errors import CheckpointError, ParameterError, PromptError
from hero_ray.costs.costs import encoder_flops, scoring_flops
from hero_ray.methods import create
from hero_ray.models import miniature
from hero_ray.models.asking import shown_prompt
from hero_ray.models.shapes import shape
from hero_ray.models.stock_check import against_stock, verdict
from tests import checkpoints
from tests.against_stock import aligned, check_against, every_method_keeps_its_promises, picture
from tests.checkpoints import ID, ONEVISION, TEMPLATES

SIZES = [(60, 60), (100, 100), (300, 200), (500, 150), (90, 200), (97, 311), (3, 1000), (1000, 1000), (1000, 2)]


@pytest.fixture(scope="module", params=[pytest.param("onevision-0.5b", marks=pytest.mark.slow), "onevision-7b"])
def folder(request, tmp_path_factory):
    torch.set_num_threads(1)
    made = tmp_path_factory.mktemp(request.param)
    checkpoints.llava_onevision(ONEVISION[request.param], made)
    return made


@pytest.fixture(scope="module")
def stock(folder):
    return aligned(LlavaOnevisionForConditionalGeneration.from_pretrained(folder, dtype=torch.float32))


@pytest.fixture(scope="module")
def ours(folder):
    return models.load(str(folder), device="cpu")


@pytest.mark.slow
def test_it_answers_as_stock(stock, ours):
    check_against(stock, ours, ("<|im_end|>",))


@pytest.mark.parametrize("size", SIZES)
def test_pixels_and_packed_features_equal_stock(folder, stock, ours, size):
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    settings = {key: value for key, value in settings.items() if key not in ("image_processor_type", "processor_class")}
    image = picture(*size)
    expected = LlavaOnevisionImageProcessorPil(**settings)(image, return_tensors="pt")
    prepared = ours.prepare(image)
    assert torch.equal(prepared.pixels, expected["pixel_values"][0].float())
    encoded = ours.encode(prepared, Needs())
    with torch.no_grad():
        packed = stock.get_image_features(
            prepared.pixels[None], torch.tensor([[size[1], size[0]]]), return_dict=True
        ).pooler_output[0]
    assert torch.equal(ours.assemble(encoded, keep_all(encoded.layout), "unpadded_rows"), packed)


def test_it_is_asked_as_its_template_asks(folder, ours):
    text = "what {user} is <b>it</b>?\nA. one"
    message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}
    tokens = PreTrainedTokenizerFast.from_pretrained(folder)
    said = tokens.apply_chat_template(
        [message], chat_template=TEMPLATES["onevision"], add_generation_prompt=True, tokenize=False
    )
    assert shown_prompt(str(folder), text) == said
    assert said.startswith("<|im_start|>user <image>\nwhat {user}")
    prompt = ours.prompt(text)
    assert [*prompt.prefix, ID["<image>"], *prompt.suffix] == tokens(said).input_ids
    assert shown_prompt(str(folder), "where <image> is it") == (
        "<|im_start|>user \nwhere <image> is it<|im_end|><|im_start|>assistant\n"
    )


def test_a_film_is_refused_by_name(ours):
    with pytest.raises(PromptError, match="<video>; hero-ray asks about one picture"):
        ours.prompt("what happens in <video>?")


@pytest.mark.slow
def test_doctor_finds_it_equal(folder, ours):
    found = against_stock(ours, folder, 4)
    assert found.is_equal, verdict(found)
    assert (found.prompt, found.weights, found.logits) == ("equal", "transformers", 0.0)


@pytest.mark.slow
def test_the_mean_over_patches_stands_in_for_cls(stock, ours):
    layers = frozenset({2, 5})
    needs = Needs(layers, layers, layers, frozenset({"last_pre_ln", "post_ln"}), received=layers)
    prepared = ours.prepare(picture(500, 150))  # as many tokens as the tower gives
    encoded = ours.encode(prepared, needs)
    tower = stock.model.vision_tower
    tower.set_attn_implementation("eager")
    with torch.no_grad():
        found = tower(prepared.pixels, output_attentions=True, output_hidden_states=True)
    tower.set_attn_implementation("sdpa")
    states, close = found.hidden_states[-1], {"atol": 1e-5, "rtol": 1e-5}
    torch.testing.assert_close(encoded.cls_embedding["last_pre_ln"], states.mean(1), **close)
    torch.testing.assert_close(encoded.cls_embedding["post_ln"], tower.post_layernorm(states.mean(1)), **close)
    for layer in layers:
        matrix = found.attentions[layer - 1]
        torch.testing.assert_close(encoded.cls_attention[layer], matrix.mean(2), **close)
        own = matrix.diagonal(dim1=2, dim2=3)
        torch.testing.assert_close(encoded.received[layer][:, 1], (matrix.sum(2) - own).mean(1), **close)
        torch.testing.assert_close(encoded.received[layer][:, 2], own.mean(1), **close)
        assert not encoded.received[layer][:, 0].any()
        block = tower.encoder.layers[layer - 1]
        with torch.no_grad():
            normed = block.layer_norm1(found.hidden_states[layer - 1])
            query, keys = (
                part(normed).unflatten(-1, (4, -1)).transpose(1, 2)
                for part in (block.self_attn.q_proj, block.self_attn.k_proj)
            )
        torch.testing.assert_close(encoded.cls_query[layer], query.mean(2), **close)
        torch.testing.assert_close(encoded.keys[layer], torch.cat([keys.mean(2, keepdim=True), keys], 2), **close)
        logits = (keys @ query.mean(2)[..., None])[..., 0] * query.shape[-1] ** -0.5
        torch.testing.assert_close(encoded.cls_logits[layer], logits, **close)


@pytest.mark.slow
def test_what_was_captured_is_interpolated_as_the_features_are(folder, stock, ours, tmp_path):
    """The stock code that packs features, fed with scores and keys for channels."""
    shutil.copy(folder / "preprocessor_config.json", tmp_path)
    raw = models.load(str(_with(stock, tmp_path, most=99)), device="cpu")
    needs = Needs(frozenset({3}), keys=frozenset({3}), received=frozenset({3}), projector_input=True)
    image = picture(300, 260)
    plain, seen = raw.encode(raw.prepare(image), needs), ours.encode(ours.prepare(image), needs)
    assert seen.layout.num_patches < plain.layout.num_patches
    size = torch.tensor([[260, 300]])
    places = seen.layout.sequence[16:]
    places = places[places >= 0]

    def packed(tokens):
        return stock.model.pack_image_features([tokens], size, None, "anyres_max_3")[0][0][16:]

    def flat(tokens):
        return tokens.reshape(-1, tokens.shape[-1])[places]

    torch.testing.assert_close(flat(seen.projector_input), packed(plain.projector_input))
    for name in ("cls_attention", "received"):
        rows, whole = getattr(seen, name)[3].transpose(1, 2), getattr(plain, name)[3].transpose(1, 2)
        torch.testing.assert_close(flat(rows), packed(whole))
    keys, whole = seen.keys[3], plain.keys[3]
    assert torch.equal(keys[:, :, 0], whole[:, :, 0])
    torch.testing.assert_close(
        flat(keys[:, :, 1:].transpose(1, 2).flatten(2)), packed(whole[:, :, 1:].transpose(1, 2).flatten(2))
    )


def _with(stock, folder, most):
    raw = stock.config.vision_aspect_ratio
    stock.config.vision_aspect_ratio = f"anyres_max_{most}"
    stock.save_pretrained(folder)
    stock.config.vision_aspect_ratio = raw
    checkpoints.write_tokenizer(folder, ONEVISION["onevision-7b"], TEMPLATES["onevision"])
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("size", [(400, 400), (1000, 2)], ids=str)
def test_every_method_runs_and_keeps_its_promises(tmp_path, size):
    torch.set_num_threads(1)
    checkpoints.llava_onevision(ONEVISION["onevision-7b"], tmp_path)
    ours = models.load(str(tmp_path), device="cpu")
    every_method_keeps_its_promises(ours, picture(*size))


@pytest.mark.slow
def test_tokens_that_a_method_leaves_alone_stay_the_models_own(ours):
    image, method = picture(300, 260), create("visionzip", contextual_share=0.5)
    encoded = ours.encode(ours.prepare(image), method.needs(ours.vision))
    selection = method.select(encoded, Budget.of(encoded.layout, 0.5))
    assert selection.extra is None  # no CLS token to pass on
    sequence = selection.sequence(encoded.layout)
    visual = ours.assemble(encoded, selection, "unpadded_rows")
    untouched = (selection.edited.flatten(0, 1)[sequence] == encoded.projector_input.flatten(0, 1)[sequence]).all(1)
    assert 0 < int(untouched.sum()) < len(sequence)
    assert torch.equal(visual[untouched], encoded.features.flatten(0, 1)[sequence[untouched]])


def test_its_sizes_are_known_without_weights(folder, ours):
    known = shape(str(folder))
    assert (known.family, known.views, known.most) == ("llava-onevision", 10, 3)
    assert (ours.info.language, ours.info.vision) == (known.language, known.vision)
    assert (known.vision.tokens, known.vision.patches) == (16, 16)
    counts = [ours.prepare(picture(w, h)).layout.num_patches for w in (60, 120, 180) for h in (60, 120, 180)]
    assert max(counts) <= known.largest == 16 + int(1.21 * 3 * 16)


# Billions of weights as the hub's pages state them; sizes of the published config.json files.
RELEASED = {
    "0.5b": (0.894, {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24}, 14, 2, True, 152000),
    "7b": (8.03, {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28}, 28, 4, False, 152128),
}


@pytest.mark.slow
@pytest.mark.parametrize("size", RELEASED)
def test_the_released_sizes_stand_on_the_meta_device(tmp_path, size):
    billions, text, heads, groups, tied, vocab = RELEASED[size]
    text |= {
        "max_position_embeddings": 32768,
        "model_type": "qwen2",
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "vocab_size": vocab,
    }
    raw = {"model_type": "llava_onevision", "text_config": text | {"tie_word_embeddings": tied}}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    checkpoints.write_tokenizer(tmp_path, ONEVISION["onevision-7b"], TEMPLATES["onevision"])
    ours = models.load(str(tmp_path), device="meta")
    assert sum(weight.numel() for weight in ours.model.parameters()) / 1e9 == pytest.approx(billions, abs=0.01)
    known = shape(str(tmp_path))
    assert (known.language, known.vision, known.views) == (ours.info.language, ours.info.vision, 37)
    for height, width in ((1008, 1344), (300, 400), (2304, 2304), (384, 1), (1500, 700)):
        layout = ours.layout((height, width), ours._stock_grid((height, width)), 27)
        assert len(layout.sequence) == processors_count(ours, height, width)
    layout = ours.layout((1008, 1344), ours._stock_grid((1008, 1344)), 27)
    assert (layout.grid, len(layout.sequence)) == ((3, 4), 7309)


@pytest.mark.slow
def test_an_encode_costs_what_the_formula_says(tmp_path):
    _, text, *_ = RELEASED["0.5b"]
    raw = {"model_type": "llava_onevision", "text_config": text | {"num_hidden_layers": 1, "model_type": "qwen2"}}
    raw["text_config"] |= {"num_attention_heads": 14, "num_key_value_heads": 2}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    checkpoints.write_tokenizer(tmp_path, ONEVISION["onevision-7b"], TEMPLATES["onevision"])
    ours = models.load(str(tmp_path), device="meta", dtype="bfloat16")
    prepared = ours.prepare(picture(384, 384))
    with FlopCounterMode(display=False) as counter:
        ours.encode(prepared, Needs())
    assert counter.get_total_flops() == pytest.approx(encoder_flops(ours.info.vision, 2), rel=1e-6)
    asked = scoring_flops(ours.info, Needs(cls_attention=frozenset({20})), 2)
    matrices = 2 * 2 * 1152 * 729**2  # every query's row, where a tower with CLS computes one
    assert asked == pytest.approx(matrices, rel=0.01)


def processors_count(ours, height, width):
    """What the stock processor would put into the prompt; of it only the settings that count are made."""
    settings = SimpleNamespace(
        image_processor=SimpleNamespace(image_grid_pinpoints=ours.model.config.image_grid_pinpoints),
        num_image_tokens=729,
        vision_aspect_ratio="anyres_max_9",
    )
    settings._get_unpadded_features = partial(LlavaOnevisionProcessor._get_unpadded_features, settings)
    return LlavaOnevisionProcessor._get_number_of_features(settings, height, width, 384, 384)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"vision_feature_select_strategy": "default"}, "expected 'full'"),
        ({"vision_feature_layer": [-2, -1]}, r"from layer \[-2, -1\]"),
        ({"vision_aspect_ratio": "anyres"}, "vision_aspect_ratio is 'anyres'"),
    ],
    ids=["default", "layers", "anyres"],
)
def test_settings_that_are_not_its_own_are_refused(folder, tmp_path, change, why):
    raw = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(raw | change))
    (tmp_path / "chat_template.jinja").write_text(TEMPLATES["onevision"])
    with pytest.raises(CheckpointError, match=why):
        models.load(str(tmp_path), device="cpu")


@pytest.mark.slow
def test_a_clip_beside_siglip_reads_nothing_of_it(folder, tmp_path):
    clip = miniature.write_clip(miniature.clip(), tmp_path / "clip")
    with pytest.raises(ParameterError, match="is no CLIP; with clip_vision=openai"):
        models.load(str(folder), device="cpu", clip=str(clip))
    looking = models.load(str(folder), device="cpu", clip=str(clip), clip_vision="openai")
    needs = create("hero").needs(looking.vision)
    encoded = looking.encode(looking.prepare(picture(200, 100)), needs)
    asked = looking.ask(encoded, "is it red", needs, looking.prompt("is it red"))
    assert asked.question.clip_score.shape == (encoded.layout.num_views,)


@pytest.mark.slow
def test_weights_of_a_folder_saved_by_transformers_5_are_read_too(folder, stock, tmp_path):
    _with(stock, tmp_path, most=3)
    again = models.load(str(tmp_path), device="cpu")
    for key, tensor in stock.state_dict().items():
        assert torch.equal(again.model.state_dict()[key], tensor), key
    state = load_file(folder / "model.safetensors")
    state.pop("vision_tower.vision_model.post_layernorm.weight")
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"post_layernorm\.weight"):
        models.load(str(tmp_path), device="cpu")
