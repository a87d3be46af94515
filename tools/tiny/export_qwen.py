"""hero-tiny-qwen as a folder in the layout of Qwen's published Qwen2.5-VL ones, and its answers by transformers."""

import json
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import GenerationConfig, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from tools.tiny.architecture import PATCH
from tools.tiny.qwen import FOLD, LEAST_PIXELS, MEAN, MOST_PIXELS, STD
from tools.tiny.qwen_tokenizer import (
    END,
    PAD,
    SPECIAL,
    around,
    encode,
    qwen_words,
    save_qwen_tokenizer,
    token_id,
)

SETTINGS: dict[str, Any] = {
    "min_pixels": LEAST_PIXELS,
    "max_pixels": MOST_PIXELS,
    "patch_size": PATCH,
    "temporal_patch_size": 2,
    "merge_size": FOLD,
    "image_mean": list(MEAN),
    "image_std": list(STD),
}
# Published names of the weights; those inside transformers have moved between its releases.
_PUBLISHED_NAMES = {"model.visual.": "visual.", "model.language_model.": "model.", "lm_head.": "lm_head."}


def published_state(model: Qwen2_5_VLForConditionalGeneration) -> dict[str, torch.Tensor]:
    """The weights under the names of published Qwen2.5-VL checkpoints."""
    state = {}
    for name, tensor in model.state_dict().items():
        inside = next(start for start in _PUBLISHED_NAMES if name.startswith(start))
        state[_PUBLISHED_NAMES[inside] + name.removeprefix(inside)] = tensor.contiguous()
    return state


def export_qwen(model: Qwen2_5_VLForConditionalGeneration, folder: Path) -> None:
    """Write model, image processor's settings and tokenizer in fp32."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(published_state(model), folder / "model.safetensors", metadata={"format": "pt"})
    model.config.architectures, model.config.dtype = ["Qwen2_5_VLForConditionalGeneration"], "float32"
    (folder / "config.json").write_text(model.config.to_json_string())
    GenerationConfig(
        eos_token_id=token_id(END), pad_token_id=token_id(PAD), do_sample=False, max_new_tokens=4
    ).save_pretrained(folder)
    named = {"image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2_5_VLProcessor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(SETTINGS | named, indent=2, sort_keys=True) + "\n")
    save_qwen_tokenizer(folder)


class StockAnswers:
    """Greedy answers of an exported folder through transformers alone, on full tokens.

    Args:
        folder: as `export_qwen` writes it.
        most: new tokens at most.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self.model: Any = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder).eval()
        settings = json.loads((folder / "preprocessor_config.json").read_text())
        self._processor = Qwen2VLImageProcessorPil(**settings)
        self._most = most

    def __call__(self, image: Image.Image, question: str) -> str:
        before, between, closing = around()
        inputs = dict(self._processor(image, return_tensors="pt"))
        count = int(inputs["image_grid_thw"].prod()) // FOLD**2
        picture = self.model.config.image_token_id
        ids = torch.tensor([[*encode(before), *[picture] * count, *encode(f"{between}{question}{closing}")]])
        with torch.inference_mode():
            made = self.model.generate(
                **inputs,
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                mm_token_type_ids=(ids == picture).int(),
                max_new_tokens=self._most,
                do_sample=False,
            )
        silent = {token_id(token) for token in SPECIAL}
        return str(qwen_words().decode([int(one) for one in made[0, ids.shape[1] :] if int(one) not in silent]))
