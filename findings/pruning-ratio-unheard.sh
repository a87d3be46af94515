#!/usr/bin/env bash
# OpenVINO GenAI's pruning_ratio (CDPruner, on by one field of the generation config): what does it do on LLaVA-NeXT?
#
# Expected: an error, as the pruner is made for Qwen-VL alone; or at least a warning.
# Happens: on LLaVA-NeXT the field is taken, kept and never heard: every visual token goes to the language model, the answer is the
#   unpruned one, nothing is raised or printed. On Qwen2.5-VL the same call drops half.
# Versions: openvino-genai 2026.4.1.0, openvino 2026.4.1, optimum-intel 2.2.0, transformers 4.57.6 (CPU, random weights, fp32).
#   Run on 2026-12-01.
# Matters: a benchmark of "CDPruner, 50 %" over several models would show no loss and no gain on one of them, both true of no pruning;
#   the only trace is the number of input tokens in the performance metrics.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
venv=${FINDINGS_VENV:-$work/venv} # a folder of yours is kept and used again
"${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/pip" install -q --no-compile --disable-pip-version-check optimum-intel==2.2.0 transformers==4.57.6 openvino==2026.4.1 \
  openvino-genai==2026.4.1.0 openvino-tokenizers==2026.4.1.0 torch==2.14.1 torchvision==0.29.1 pillow
cd "$work"
export HF_HUB_OFFLINE=1

"$venv/bin/python" - <<'PY'
"""Two random models of some hundred thousand parameters, in their hub layouts."""
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLImageProcessor,
)

WIDTH, SEEN = 64, {}


def tokenizer(names, template):
    """One token a byte, and the special ones."""
    bare = Tokenizer(models.BPE({letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, []))
    bare.pre_tokenizer, bare.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=bare, eos_token=names[0], pad_token=names[0], additional_special_tokens=names[1:], chat_template=template
    )


def text(cls, words, **more):
    return cls(
        vocab_size=len(words) + 8, hidden_size=WIDTH, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=4096, eos_token_id=words.eos_token_id, **more,
    )


def template(picture, begin, end):
    return (
        "{% for m in messages %}" + begin + "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for p in m['content'] %}"
        "{% if p['type'] == 'image' %}" + picture + "{% else %}{{ p['text'] }}{% endif %}{% endfor %}{% endif %}" + end + "{% endfor %}"
    )


torch.manual_seed(0)
names = [f"<|{name}|>" for name in "endoftext im_start im_end vision_start vision_end vision_pad image_pad video_pad".split()]
words = tokenizer(names, template("<|vision_start|><|image_pad|><|vision_end|>", "<|im_start|>", "<|im_end|>"))
ids = dict(zip(names, words.convert_tokens_to_ids(names)))
rope = {"type": "mrope", "mrope_section": [2, 3, 3]}
config = Qwen2_5_VLConfig(
    text_config=text(dict, words, model_type="qwen2_5_vl_text", rope_scaling=rope),
    vision_config=dict(
        depth=2, hidden_size=32, intermediate_size=48, num_heads=2, out_hidden_size=WIDTH, patch_size=14, spatial_merge_size=2,
        temporal_patch_size=2, window_size=112, fullatt_block_indexes=[1],
    ),
    image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"], vision_start_token_id=ids["<|vision_start|>"],
    vision_end_token_id=ids["<|vision_end|>"], vision_token_id=ids["<|vision_pad|>"],
)
Qwen2_5_VLForConditionalGeneration(config).save_pretrained("qwen")
words.save_pretrained("qwen")
Qwen2VLImageProcessor().save_pretrained("qwen")

words = tokenizer(["</s>", "<image>"], template("<image>\n", "USER: ", " ASSISTANT:"))
image = words.convert_tokens_to_ids("<image>")
grid = [[28, 56], [56, 28], [56, 56]]
tower = CLIPVisionConfig(
    hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=7, projection_dim=32
)
config = LlavaNextConfig(
    vision_config=tower, text_config=text(LlamaConfig, words), image_token_index=image, image_grid_pinpoints=grid, vision_feature_layer=-2
)
LlavaNextForConditionalGeneration(config).save_pretrained("llava")
processor = LlavaNextImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}, image_grid_pinpoints=grid)
LlavaNextProcessor(
    processor, words, patch_size=7, vision_feature_select_strategy="default", image_token="<image>", num_additional_image_tokens=1,
    chat_template=words.chat_template,
).save_pretrained("llava")
PY
for model in qwen llava; do
  "$venv/bin/optimum-cli" export openvino --model "$model" --task image-text-to-text --weight-format fp32 "$model-ov" >"$model.log" 2>&1 ||
    { tail -5 "$model.log"; exit 1; }
done

"$venv/bin/python" - <<'PY'
import sys
from importlib.metadata import version

import numpy as np
import openvino as ov
import openvino_genai as genai

print("openvino-genai", version("openvino-genai"), "optimum-intel", version("optimum-intel"))
picture = ov.Tensor(np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), dtype=np.uint8))
seen = {}
for model in ("qwen", "llava"):
    pipe = genai.VLMPipeline(f"{model}-ov", "CPU")
    asked = genai.GenerationConfig()
    asked.max_new_tokens, asked.ignore_eos = 8, True
    for ratio in (0, 50, 90):
        asked.pruning_ratio = ratio
        answer = pipe.generate("What is it?", images=[picture], generation_config=asked)
        seen[model, ratio] = answer.perf_metrics.get_num_input_tokens(), answer.texts[0]
        print(f"{model:5} pruning_ratio {ratio:2}: {seen[model, ratio][0]} input tokens")
heard = seen["qwen", 0][0] - seen["qwen", 50][0] == 32 and seen["qwen", 0][0] - seen["qwen", 90][0] == 58
unheard = seen["llava", 0] == seen["llava", 50] == seen["llava", 90]
print("Qwen2.5-VL drops 32 and 58 of 64 tokens:", heard, "| LLaVA-NeXT answers the same from as many:", unheard)
sys.exit(not (heard and unheard))
PY
