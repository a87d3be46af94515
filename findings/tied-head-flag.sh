#!/usr/bin/env bash
# Which `tie_word_embeddings` counts: the language model's, or the one of the whole?
#
# Expected: a VLM whose text_config says tie_word_embeddings=True has one matrix for embedding and head, one whose
#   text_config says False has two, in every family of transformers alike; nothing is said at the top level.
# Happens: three rules. Llava, LLaVA-OneVision and the older Qwen-VLs listen to text_config. LLaVA-NeXT, VipLlava,
#   Qwen3-VL, Idefics3 and SmolVLM never tie. InternVL, Mistral3, Gemma3, PaliGemma and Aya Vision always tie.
#   LLaVA-NeXT over a checkpoint without a head (as tied models are saved) then loads with a RANDOM head, while
#   LLaVA-OneVision over the same language model loads right.
# Versions: transformers 5.24.0, torch 2.13.0. Run on 2026-11-30.
# Matters: the small Qwen2 and Qwen3 behind VLMs are tied. LLaVA-NeXT around one of them, from a converted or shrunken
#   checkpoint, answers noise (the report of missing keys is the only sign); an untied language model built under InternVL has one
#   matrix less. Parameters and bytes of "the same" language model differ between families that a comparison sets side by side.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
venv=${FINDINGS_VENV:-$work/venv} # a folder of yours is kept and used again
"${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/pip" install -q --no-compile --disable-pip-version-check torch==2.13.0 transformers==5.24.0 pillow==13.0.0 numpy==2.4.6
cd "$work"
HF_HUB_OFFLINE=1 "$venv/bin/python" - <<'PY'
import json, tempfile, warnings

import torch
import transformers as t

warnings.simplefilter("ignore")
t.logging.set_verbosity_error()
t.logging.disable_progress_bar()
torch.manual_seed(0)

text = dict(vocab_size=300, hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2)
vision = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=56, patch_size=14)
rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e4}
square = dict(image_size=[56, 56], patch_size=[14, 14])
qwen = dict(depth=2, num_heads=4)
clip, siglip = dict(vision, model_type="clip_vision_model"), dict(vision, model_type="siglip_vision_model")
families = {
    "Llava": (dict(text, model_type="qwen2"), clip),
    "LlavaNext": (dict(text, model_type="qwen2"), clip),
    "LlavaOnevision": (dict(text, model_type="qwen2"), siglip),
    "VipLlava": (dict(text, model_type="llama"), clip),
    "InternVL": (dict(text, model_type="qwen2"), dict(vision, model_type="internvl_vision", **square)),
    "Mistral3": (dict(text, model_type="mistral", head_dim=16), dict(vision, model_type="pixtral")),
    "AyaVision": (dict(text, model_type="cohere2", head_dim=16), siglip),
    "Gemma3": (dict(text, head_dim=16), siglip),
    "PaliGemma": (dict(text, model_type="gemma", head_dim=16), siglip),
    "Qwen2VL": (dict(text, rope_parameters=rope), dict(qwen, embed_dim=32, hidden_size=64, mlp_ratio=2)),
    "Qwen2_5_VL": (dict(text, rope_parameters=rope), dict(qwen, hidden_size=32, out_hidden_size=64, intermediate_size=64)),
    "Qwen3VL": (
        dict(text, head_dim=16, rope_parameters=rope),
        dict(qwen, hidden_size=32, out_hidden_size=64, intermediate_size=64, deepstack_visual_indexes=[0]),
    ),
    "Idefics3": (dict(text, model_type="llama", pad_token_id=0), vision),
    "SmolVLM": (dict(text, model_type="llama", pad_token_id=0), vision),
}


def is_tied(family: str, flag: bool) -> bool:
    words, pictures = families[family]
    config = getattr(t, family + "Config")(text_config=dict(words, tie_word_embeddings=flag), vision_config=dict(pictures))
    assert config.text_config.tie_word_embeddings is flag
    model = getattr(t, family + "ForConditionalGeneration")(config)
    return model.get_output_embeddings().weight is model.get_input_embeddings().weight


rules = {(True, False): "text_config decides", (False, False): "never tied", (True, True): "always tied"}
print(f"transformers {t.__version__}, torch {torch.__version__}")
seen = {}
for family in families:
    answer = (is_tied(family, True), is_tied(family, False))
    seen[family] = rules.get(answer, str(answer))
    print(f"{family:15} text_config True -> tied {answer[0]!s:5}  False -> tied {answer[1]!s:5}  {seen[family]}")

print("\nA checkpoint without lm_head, text_config.tie_word_embeddings=True, no flag at the top:")
missing = {}
for family in ("LlavaNext", "LlavaOnevision"):
    words, pictures = families[family]
    config = getattr(t, family + "Config")(text_config=dict(words, tie_word_embeddings=True), vision_config=pictures, tie_word_embeddings=True)
    model_class = getattr(t, family + "ForConditionalGeneration")
    model = model_class(config)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        with open(folder + "/config.json") as file:
            stored = json.load(file)
        stored.pop("tie_word_embeddings")
        assert stored["text_config"]["tie_word_embeddings"] is True
        with open(folder + "/config.json", "w") as file:
            json.dump(stored, file)
        loaded, info = model_class.from_pretrained(folder, output_loading_info=True)
    right = torch.equal(loaded.get_output_embeddings().weight, model.get_output_embeddings().weight)
    missing[family] = (sorted(info["missing_keys"]), right)
    print(f"{family:15} missing {missing[family][0]}  head is the saved one: {right}")

listen = {"Llava", "LlavaOnevision", "Qwen2VL", "Qwen2_5_VL"}
never = {"LlavaNext", "VipLlava", "Qwen3VL", "Idefics3", "SmolVLM"}
assert {name for name, rule in seen.items() if rule == "text_config decides"} == listen, seen
assert {name for name, rule in seen.items() if rule == "never tied"} == never, seen
assert {name for name, rule in seen.items() if rule == "always tied"} == set(families) - listen - never, seen
assert missing["LlavaNext"] == (["lm_head.weight"], False), missing
assert missing["LlavaOnevision"] == ([], True), missing
print("\nas recorded")
PY
