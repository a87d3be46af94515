"""How a folder says it is asked: chat templates honoured or refused, InternVL's own entry, end tokens, no guessing."""

import json

import pytest

from hero_ray.core.errors import CheckpointError, UnknownNameError
from hero_ray.models.asking import end_tokens, shown_prompt, style_for, worded_anew
from hero_ray.models.chat import LONGEST_TEMPLATE, find_template, style_of
from hero_ray.models.prompts import STYLES, written
from hero_ray.models.registry import SPECS, foreign
from hero_ray.models.supported import family_of
from tests.checkpoints import TEMPLATES

LLAVA = {"model_type": "llava_next", "text_config": {"model_type": "llama", "vocab_size": 32064}}


def folder_of(path, raw=None, template=None, name="chat_template.json", **files):
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps(raw or LLAVA))
    if template is not None:
        plain = name.endswith(".jinja")
        (path / name).write_text(template if plain else json.dumps({"chat_template": template}))
    for file, held in files.items():
        (path / f"{file}.json").write_text(json.dumps(held))
    return path


def said(folder, text="what?", asked=None):
    return shown_prompt(str(folder), text, asked)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vicuna", "USER: <image>\nwhat? ASSISTANT:"),
        ("mistral", "[INST] <image>\nwhat? [/INST]"),
        (
            "llama-3",
            "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n<image>\nwhat?<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
        (
            "chatml",
            "<|im_start|>system\nAnswer the questions.<|im_end|><|im_start|>user\n<image>\nwhat?<|im_end|>"
            "<|im_start|>assistant\n",
        ),
        (
            "qwen",
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<image>\nwhat?<|im_end|>\n"
            "<|im_start|>assistant\n",
        ),
    ],
)
def test_a_folders_chat_template_words_its_prompt(tmp_path, name, expected):
    folder = folder_of(tmp_path, template=TEMPLATES[name], tokenizer_config={"bos_token": "<|begin_of_text|>"})
    assert said(folder) == expected


def test_a_template_may_word_the_line_of_the_picture_its_own_way(tmp_path):
    folder = folder_of(tmp_path, template=TEMPLATES["onevision"])
    assert said(folder) == "<|im_start|>user <image>\nwhat?<|im_end|><|im_start|>assistant\n"
    assert said(folder, "where <image> is it") == (
        "<|im_start|>user \nwhere <image> is it<|im_end|><|im_start|>assistant\n"
    )


def test_the_templates_are_looked_for_where_transformers_looks(tmp_path):
    several = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": TEMPLATES["mistral"]}]
    folder = folder_of(tmp_path, tokenizer_config={"chat_template": several})
    assert find_template(folder) == ("tokenizer_config.json", TEMPLATES["mistral"])
    folder_of(folder, template=TEMPLATES["chatml"])
    assert find_template(folder) == ("chat_template.json", TEMPLATES["chatml"])
    folder_of(folder, template=TEMPLATES["qwen"], name="chat_template.jinja")
    assert find_template(folder) == ("chat_template.jinja", TEMPLATES["qwen"])


def test_a_template_for_plain_text_is_asked_in_plain_text(tmp_path):
    template = (
        "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + (m['content'] | trim) + '<|end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    folder = folder_of(tmp_path, template=template)
    assert said(folder) == "<|user|>\n<image>\nwhat?<|end|><|assistant|>"
    assert said(folder, "where <image> is it") == "<|user|>\nwhere <image> is it<|end|><|assistant|>"


def test_a_template_that_trims_trims_ours_too(tmp_path):
    folder = folder_of(tmp_path, template=TEMPLATES["mistral"].replace("part.text", "part.text | trim"))
    assert said(folder, "  what?\n") == "[INST] <image>\nwhat? [/INST]"


@pytest.mark.parametrize(
    ("template", "why"),
    [
        (TEMPLATES["mistral"].replace("part.text", "part.text | upper"), "does not say the question"),
        (TEMPLATES["mistral"].replace("part.text", "part.text | replace('\n', ' ')"), "changes the words"),
        (TEMPLATES["mistral"].replace("<image>\n", ""), "puts the picture nowhere"),
        (TEMPLATES["mistral"].replace("{{ part.text }}", "{{ part.text }}<image>"), "puts the picture"),
        ("{{ raise_exception('only with tools') }}", "only with tools"),
        ("{{ strftime_now('%d') }}" + TEMPLATES["mistral"], "reads the date"),
        ("{{ messages.__class__.__mro__ }}", "unsafe|does not say the question"),
        ("{% for m in messages %}", "TemplateSyntaxError"),
        ("{% set x = 'a' * 40000000000 %}", "more memory"),
        ("a" * (LONGEST_TEMPLATE + 1), "expected a text of at most"),
    ],
    ids=["upper", "joined", "no-picture", "twice", "refuses", "date", "unsafe", "syntax", "memory", "long"],
)
def test_a_template_that_cannot_be_honoured_is_refused_with_a_way_out(tmp_path, template, why):
    folder = folder_of(tmp_path, template=template)
    with pytest.raises(CheckpointError, match=why) as caught:
        said(folder)
    assert "style=NAME" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert said(folder, asked="mistral") == "[INST] <image>\nwhat? [/INST]"


@pytest.mark.slow
def test_a_template_without_an_end_is_stopped(tmp_path):
    loop = "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}" * 1
    folder = folder_of(tmp_path, template=loop + "{% endfor %}{% endfor %}")
    with pytest.raises(CheckpointError, match="does not end"):
        style_of(folder)


@pytest.mark.parametrize(
    ("text", "default"),
    [
        ({"model_type": "llama", "vocab_size": 32064}, "vicuna"),
        ({"model_type": "mistral", "vocab_size": 32064}, "mistral"),
        ({"model_type": "llama", "vocab_size": 128320}, None),
        ({"model_type": "llama", "vocab_size": 64064}, None),
        ({"model_type": "qwen2", "vocab_size": 152064}, None),
    ],
)
def test_without_a_template_only_vicuna_and_mistral_are_known_by_their_vocabulary(tmp_path, text, default):
    folder = folder_of(tmp_path, LLAVA | {"text_config": text})
    if default is None:
        with pytest.raises(CheckpointError, match="asked in more than one way"):
            said(folder)
        assert said(folder, asked="qwen") == written(STYLES["qwen"], "what?")[0]
    else:
        assert said(folder) == written(STYLES[default], "what?")[0]


def test_a_clip_beside_the_weights_changes_no_prompt(tmp_path):
    folder = folder_of(tmp_path)
    before = said(folder)
    (folder / "clip").mkdir()
    assert said(folder) == before


def test_a_style_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UnknownNameError, match="llama-3"):
        said(folder_of(tmp_path), asked="lama-3")


@pytest.mark.parametrize(
    ("config", "kind", "style"),
    [
        ({"model_type": "llava_mistral", "vocab_size": 32000}, "anyres", "mistral"),
        ({"model_type": "llava_qwen", "vocab_size": 152064}, "anyres", "qwen"),
        ({"model_type": "llava", "vocab_size": 64000}, "anyres", "chatml"),
        ({"model_type": "llava_llama", "vocab_size": 128256}, "anyres", "llama-3"),
        ({"model_type": "llava", "vocab_size": 32000}, "pad", "vicuna"),
    ],
)
def test_the_original_layout_is_asked_as_its_code_asks(tmp_path, config, kind, style):
    merge = {"mm_patch_merge_type": "spatial_unpad"} if kind == "anyres" else {}
    raw = config | merge | {"mm_vision_tower": "openai/clip-vit-large-patch14-336", "image_aspect_ratio": kind}
    assert said(folder_of(tmp_path, raw)) == written(STYLES[style], "what?")[0]
    assert family_of(raw, "") == ("llava-next" if kind == "anyres" else "llava-1.5")


@pytest.mark.parametrize("template", ["internlm2-chat", "Hermes-2", "phi3-chat", "internvl2_5"])
def test_internvl_names_its_conversation_itself(tmp_path, template):
    raw = {"model_type": "internvl_chat", "ps_version": "v2", "template": template, "llm_config": {}}
    text = said(folder_of(tmp_path, raw))
    newline = "\n" if template == "internvl2_5" else ""
    end, user = ("<|end|>", "<|user|>\n") if template == "phi3-chat" else ("<|im_end|>", "<|im_start|>user\n")
    assert f"{end}{newline}{user}<image>\nwhat?{end}{newline}" in text
    assert ("书生·万象" in text) == (template == "internvl2_5")
    assert "be brief." in said(folder_of(tmp_path, raw | {"system_message": "be brief."}))


def test_an_unknown_conversation_of_internvl_is_refused(tmp_path):
    raw = {"model_type": "internvl_chat", "ps_version": "v2", "template": "internvl9", "llm_config": {}}
    with pytest.raises(CheckpointError, match=r"conversation template 'internvl9'.*style=NAME"):
        said(folder_of(tmp_path, raw))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"quantization_config": {"quant_method": "awq", "bits": 4}}, r"quantised \(awq, 4 bit\)"),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}, "bitsandbytes, 8 bit"),
        ({"text_config": {"quantization_config": {"quant_method": "gptq", "bits": 4}}}, "gptq, 4 bit"),
        ({"text_config": {"model_type": "gemma"}}, "its language model is 'gemma'"),
        ({"vision_config": {"model_type": "siglip_vision_model"}}, "its vision tower is 'siglip_vision_model'"),
        ({"model_type": "llava_next_video"}, "model_type is 'llava_next_video'"),
        (
            {"model_type": "llava_onevision", "vision_config": {"model_type": "clip_vision_model"}},
            "its vision tower is 'clip_vision_model'",
        ),
        (
            {"text_config": None, "mm_vision_tower": "google/siglip-so400m", "model_type": "llava_qwen"},
            r"siglip.*llava-onevision-qwen2",
        ),
        (
            {"text_config": None, "mm_vision_tower": "openai/clip-vit-large-patch14-336", "model_type": "llava_phi"},
            "phi",
        ),
    ],
    ids=["awq", "bnb", "gptq", "gemma", "siglip", "video", "onevision", "original-siglip", "original-phi"],
)
def test_refusals_name_the_true_cause(change, why, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    raw = {key: value for key, value in (LLAVA | change).items() if value is not None}
    with pytest.raises(CheckpointError, match=why):
        family_of(raw, "somewhere")


@pytest.mark.parametrize(
    ("method", "installed", "why"),
    [
        ("bitsandbytes", ("accelerate",), "with bitsandbytes, not installed here: pip install bitsandbytes; or load"),
        ("awq", (), "with gptqmodel and accelerate, not installed here"),
        ("gptq", ("gptqmodel", "accelerate"), "with optimum, not installed here"),
        ("fp8", ("bitsandbytes", "accelerate"), "read are bitsandbytes, awq, gptq"),
    ],
    ids=["bitsandbytes", "awq", "gptq", "fp8"],
)
def test_quantised_weights_are_read_where_their_packages_are(monkeypatch, method, installed, why):
    raw = LLAVA | {"quantization_config": {"quant_method": method}}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if name in installed else None)
    with pytest.raises(CheckpointError, match=why):
        family_of(raw, "somewhere")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    others = {"model_type": "internvl_chat", "ps_version": "v2", "llm_config": {}}, {"model_type": "llava_qwen"}
    for other in others:
        with pytest.raises(CheckpointError, match="of a whole checkpoint as transformers saves it; or load"):
            family_of(raw | other, "OpenGVLab's or the original layout")
    if method != "fp8":
        assert family_of(raw, "somewhere") == "llava-next"


@pytest.mark.parametrize("name", ["InternLM3ForCausalLM", "Qwen3MoeForCausalLM", "GptOssForCausalLM"])
def test_internvls_of_other_language_models_are_refused_by_name(name):
    raw = {"model_type": "internvl_chat", "ps_version": "v2", "template": "internvl2_5"}
    with pytest.raises(CheckpointError, match=f"its language model is {name}; supported are InternLM2"):
        family_of(raw | {"llm_config": {"architectures": [name]}}, "InternVL")
    kind = {"InternLM3ForCausalLM": "internlm3", "Qwen3MoeForCausalLM": "qwen3_moe"}.get(name, "gpt_oss")
    with pytest.raises(CheckpointError, match=f"its language model is '{kind}'"):
        family_of({"model_type": "internvl", "text_config": {"model_type": kind}}, "InternVL-hf")


class Known:
    def special(self, token):
        return {"<|eot_id|>": 9}.get(token)


@pytest.mark.parametrize(
    ("said", "expected"), [(None, {7}), ({"eos_token_id": 8}, {7, 8}), ({"eos_token_id": [8, 9]}, {7, 8, 9}), ({}, {7})]
)
def test_generation_config_adds_end_tokens(tmp_path, said, expected):
    if said is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(said))
    text = type("Text", (), {"eos_token_id": 7})
    assert end_tokens(tmp_path, text, Known(), STYLES["vicuna"]) == expected
    assert end_tokens(tmp_path, text, Known(), STYLES["llama-3"]) == expected | {9}


def test_what_a_checkpoint_says_of_itself_is_part_of_its_cells_alone(tmp_path):
    assert worded_anew(str(folder_of(tmp_path / "a"))) is None
    assert worded_anew(str(folder_of(tmp_path / "b", template=TEMPLATES["mistral"]))) == "[INST] <image>\nTEXT [/INST]"
    assert worded_anew("hero-tiny") is None


@pytest.mark.parametrize("name", ["hero-tiny", "hero-tiny-internvl", "hero-tiny-qwen"])
def test_the_embedded_folders_say_what_their_names_say(name):
    folder = SPECS[name].embedded
    raw = json.loads((folder / "config.json").read_text())
    own = style_for(foreign(str(folder), SPECS[name].family), folder, raw)
    assert written(own, "what?") == written(style_for(SPECS[name], folder, raw), "what?")
    assert shown_prompt(name, "what?") == written(own, "what?")[0]
