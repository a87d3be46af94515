"""Checkpoints that transformers quantised with bitsandbytes: read by its own quantisers, answers as stock's."""

import shutil

import pytest
import torch
from transformers import BitsAndBytesConfig, LlavaNextForConditionalGeneration

from hero_ray import models
from hero_ray.core.errors import CheckpointError
from hero_ray.engine.vlm import VisionLanguageModel
from hero_ray.models.stock_check import against_stock, verdict
from tests import checkpoints
from tests.against_stock import picture

pytest.importorskip("bitsandbytes")
pytest.importorskip("accelerate")
pytestmark = pytest.mark.slow

FOUR = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.float32}


@pytest.fixture(params=[FOUR, {"load_in_8bit": True}], ids=["4-bit", "8-bit"])
def folder(request, tmp_path):
    torch.set_num_threads(1)
    plain, made = tmp_path / "plain", tmp_path / "quantised"
    checkpoints.llava_next(checkpoints.LLAVA_NEXT["mistral-7b"], plain)
    stock = LlavaNextForConditionalGeneration.from_pretrained(
        plain, quantization_config=BitsAndBytesConfig(**request.param), dtype=torch.float32, device_map={"": "cpu"}
    )
    stock.save_pretrained(made)
    for path in plain.iterdir():
        if not (made / path.name).exists():
            shutil.copy(path, made)
    return made


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_quantised_checkpoint_answers_as_stock(folder, dtype):
    ours = models.load(str(folder), device="cpu", dtype=dtype)
    held = {weight.dtype for weight in ours.model.parameters()}
    assert held <= {torch.uint8, torch.int8, ours.model.dtype}
    assert len(held) == 2
    found = against_stock(ours, folder, 2)
    assert found.is_equal, verdict(found)
    assert found.logits == 0.0
    assert found.weights.startswith("transformers, bitsandbytes")
    kept = VisionLanguageModel(ours).generate(
        picture(200, 100), "is it red", method="hired", retention_ratio=0.3, max_new_tokens=2
    )
    assert 0 < kept.tokens.n_visual_llm < 30


def test_weights_that_lack_one_are_refused(folder):
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    state.pop("image_newline")
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="image_newline"):
        models.load(str(folder), device="cpu")
