"""Our path against transformers' own class and processor, on the user's own weights: `doctor --against-stock`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import (
    AutoTokenizer,
    InternVLForConditionalGeneration,
    LlavaForConditionalGeneration,
    LlavaNextForConditionalGeneration,
    LlavaOnevisionForConditionalGeneration,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLForConditionalGeneration,
)

from hero_ray.core.encoded import Needs, keep_all
from hero_ray.core.errors import ParameterError
from hero_ray.models.base import Prepared, Request
from hero_ray.models.chat import find_template, render, special_tokens
from hero_ray.models.checkpoints.plausible import read_config
from hero_ray.models.family import FamilyAdapter
from hero_ray.models.internvl2 import IMAGENET_MEAN, IMAGENET_STD
from hero_ray.models.invariance import QUESTIONS, drawn_picture
from hero_ray.models.job import in_one_dtype
from hero_ray.models.prompts import IMAGE
from hero_ray.models.qwen_vl import QwenVLAdapter
from hero_ray.models.settings import read_settings
from hero_ray.models.supported import is_original_llava, quantised

NEW_TOKENS = 16
PIXELS = 1e-5
"""Pixel values may differ by the order of a division; a wrong resampling or mean differs by a thousand times that."""
LOGITS = {"float32": 1e-4, "bfloat16": 0.05, "float16": 0.02}
"""Largest difference of first-token logits, in their own standard deviations, that rounding explains."""

_NOBODY = torch.zeros(1, 1, dtype=torch.long)

_CLASSES: dict[str, Any] = {
    "llava_next": LlavaNextForConditionalGeneration,
    "llava": LlavaForConditionalGeneration,
    "llava_onevision": LlavaOnevisionForConditionalGeneration,
    "internvl": InternVLForConditionalGeneration,
    "qwen2_5_vl": Qwen2_5_VLForConditionalGeneration,
    "qwen3_vl": Qwen3VLForConditionalGeneration,
}


@dataclass(frozen=True)
class StockCheck:
    """What was compared and how far apart it lies.

    Attributes:
        weights: `transformers` where it read the folder itself, and how they are quantised; `ours` where it cannot read
            the layout, and its class runs on the weights as we read them.
        pixels: largest difference of pixel values.
        prompt: `equal`, `different`, or `no template` where the folder has none to compare with.
        logits: largest difference of first-token logits; `logits_std` their scale.
        alone, batched: share of answers whose greedy tokens differ, each asked alone and all together.
    """

    model: str
    dtype: str
    device: str
    weights: str
    samples: int
    pixels: float
    prompt: str
    logits: float
    logits_std: float
    alone: float
    batched: float

    @property
    def is_equal(self) -> bool:
        """Whether nothing differs that rounding does not explain; in half precision, and quantised, a batch may round
        otherwise."""
        exact = self.dtype == "float32" and self.weights in ("transformers", "ours")
        same_answers = self.alone == 0.0 and (self.batched == 0.0 or not exact)
        close = self.logits <= LOGITS[self.dtype] * self.logits_std
        return self.pixels <= PIXELS and self.prompt != "different" and close and same_answers


def against_stock(adapter: FamilyAdapter, folder: Path, samples: int = 8) -> StockCheck:
    """Drawn pictures with a question each, through our path and through transformers' own.

    The stock model is loaded beside ours where transformers can read the folder: twice the memory.

    Raises:
        ParameterError: the original LLaVA layout, whose picture has no token that stock could be given.
    """
    raw = read_config(folder)
    if is_original_llava(raw):
        raise ParameterError(
            f"{folder} is in the original LLaVA layout, which transformers cannot run; check its -hf copy"
        )
    stock, weights = _stock(adapter, folder, raw)
    questions = [QUESTIONS[index % len(QUESTIONS)] for index in range(samples)]
    pictures = [drawn_picture(index) for index in range(samples)]
    requests: list[Request] = []
    found: list[Tensor] = []
    expected: list[list[int]] = []
    pixels = logits = 0.0
    for index, (picture, question) in enumerate(zip(pictures, questions, strict=True)):
        prepared = adapter.prepare(picture, f"stock-{index}")
        if isinstance(adapter, QwenVLAdapter):
            stock_pixels, mine = adapter.stock_patches(picture), adapter.stock_inputs(prepared, _NOBODY)["pixel_values"]
        else:
            stock_pixels, mine = _stock_pixels(adapter, folder, picture), _in_stock_order(adapter, prepared.pixels)
        same = mine.shape == stock_pixels.shape
        pixels = max(pixels, float((mine - stock_pixels).abs().max()) if same else float("inf"))
        encoded = adapter.encode(prepared, Needs())
        visual = adapter.assemble(encoded, keep_all(encoded.layout), "unpadded_rows")
        request = Request(adapter.prompt(question), visual, NEW_TOKENS)
        theirs, tokens = _stock_answer(adapter, stock, request, stock_pixels, prepared)
        ours = adapter.decoder.prefill([request]).logits[0].float()
        logits = max(logits, float((ours - theirs).abs().max()))
        found.append(theirs)
        requests.append(request)
        expected.append(tokens)
    alone = [list(answer.token_ids) for answer in adapter.generate(requests, batch_size=1, share_prefix=False)]
    batched = [list(answer.token_ids) for answer in adapter.generate(requests)]
    return StockCheck(
        model=adapter.info.name,
        dtype=adapter.info.dtype,
        device=adapter.info.device,
        weights=weights,
        samples=samples,
        pixels=pixels,
        prompt=_prompts(adapter, folder, raw, questions),
        logits=logits,
        logits_std=float(torch.stack(found).std()),
        alone=sum(a != b for a, b in zip(alone, expected, strict=True)) / samples,
        batched=sum(a != b for a, b in zip(batched, expected, strict=True)) / samples,
    )


def _stock(adapter: FamilyAdapter, folder: Path, raw: dict[str, Any]) -> tuple[Any, str]:
    model_class = _CLASSES.get(str(raw.get("model_type")))
    if model_class is None:
        return adapter.model, "ours"
    found = model_class.from_pretrained(
        folder, dtype=adapter.model.dtype, attn_implementation=adapter.info.attention, use_safetensors=True
    )
    if method := quantised(raw):  # on its device already
        return in_one_dtype(found, adapter.model.dtype).eval(), f"transformers, {method}"
    for weight in found.parameters():  # mapped from the file it may lie where kernels round otherwise
        weight.data = weight.data.to(adapter.model.device, copy=True)
    return found.to(adapter.model.device).eval(), "transformers"


def _stock_pixels(adapter: FamilyAdapter, folder: Path, picture: Image.Image) -> Tensor:
    """Pixel values [V, 3, H, W] of transformers' own processor, by its PIL class."""
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
    from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
    from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil

    config = adapter.model.config
    settings = {k: v for k, v in read_settings(folder).items() if not k.endswith("_type") and k != "processor_class"}
    edge = config.vision_config.image_size
    edge = int(edge[0] if isinstance(edge, list | tuple) else edge)
    if adapter.family == "internvl2":
        most = adapter.most_tiles  # type: ignore[attr-defined]  # the family's own option
        mean = {"image_mean": list(IMAGENET_MEAN), "image_std": list(IMAGENET_STD)}
        sizes: dict[str, Any] = {"size": {"height": edge, "width": edge}, "crop_to_patches": True}
        sizes |= {"min_patches": 1, "max_patches": most, "use_thumbnail": True}
        processor: Any = GotOcr2ImageProcessorPil(**mean | settings | sizes)
        return processor(picture, return_tensors="pt")["pixel_values"].float()
    sizes = {"size": {"shortest_edge": edge}, "crop_size": {"height": edge, "width": edge}}
    if adapter.family == "llava-1.5":  # padded to a square, as its authors evaluate it
        processor = LlavaImageProcessorPil(**sizes | settings | {"do_pad": True})
        return processor(picture, return_tensors="pt")["pixel_values"].float()
    canvases = {"image_grid_pinpoints": config.image_grid_pinpoints}
    if adapter.family == "llava-onevision":
        sizes = {"size": {"height": edge, "width": edge}}
        processor = LlavaOnevisionImageProcessorPil(**sizes | canvases | settings)
    else:
        processor = LlavaNextImageProcessorPil(**sizes | canvases | settings)
    return processor(picture, return_tensors="pt")["pixel_values"][0].float()


def _in_stock_order(adapter: FamilyAdapter, pixels: Tensor) -> Tensor:
    """Our views as stock orders them: InternVL's thumbnail comes last there."""
    if adapter.family != "internvl2" or len(pixels) == 1:
        return pixels
    return torch.cat([pixels[1:], pixels[:1]])


@torch.no_grad()
def _stock_answer(
    adapter: FamilyAdapter, stock: Any, request: Request, pixels: Tensor, prepared: Prepared
) -> tuple[Tensor, list[int]]:
    """(first-token logits [vocab] in fp32, greedy tokens up to an end token) of the stock model."""
    config, device = stock.config, adapter.model.device
    picture_id = getattr(config, "image_token_id", None) or config.image_token_index
    prompt = request.prompt
    ids = torch.tensor([[*prompt.prefix, *[picture_id] * request.visual.shape[0], *prompt.suffix]], device=device)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if isinstance(adapter, QwenVLAdapter):
        inputs |= adapter.stock_inputs(prepared, ids)
    inputs["pixel_values"] = pixels.to(device, stock.dtype)
    if adapter.family in ("llava-next", "llava-onevision"):
        inputs["pixel_values"] = inputs["pixel_values"][None]
        inputs["image_sizes"] = torch.tensor([[prepared.size[1], prepared.size[0]]], device=device)
    logits = stock(**inputs, logits_to_keep=1).logits[0, -1].float()
    end = sorted(adapter.decoder.end)
    made = stock.generate(
        **inputs, do_sample=False, num_beams=1, max_new_tokens=NEW_TOKENS, eos_token_id=end, pad_token_id=end[0]
    )
    tokens = made[0, ids.shape[1] :].tolist()
    return logits, tokens[: next((place for place, token in enumerate(tokens) if token in end), len(tokens))]


def _prompts(adapter: FamilyAdapter, folder: Path, raw: dict[str, Any], questions: Sequence[str]) -> str:
    """Our prompts against the folder's chat template and transformers' tokenizer; OpenGVLab's layout has neither."""
    found = find_template(folder)
    if found is None or raw.get("model_type") not in _CLASSES:
        return "no template"
    tokens = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    messages = [
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}] for question in questions
    ]
    picture = adapter.tokenizer.special(adapter.image_token)
    opening, closing = adapter.style.around
    for question, made in zip(questions, render(found[1], messages, special_tokens(folder)), strict=True):
        text = made.get("text", "").replace(IMAGE, adapter.image_token)
        text = text.replace(adapter.image_token, opening + adapter.image_token + closing)
        begins = tokens.bos_token is not None and text.startswith(tokens.bos_token)
        ids = tokens(text, add_special_tokens=not begins).input_ids
        mine = adapter.prompt(question)
        if ids != [*mine.prefix, picture, *mine.suffix]:
            return "different"
    return "equal"


def verdict(check: StockCheck) -> str:
    """The check in one line."""
    said = "equals transformers" if check.is_equal else "DIFFERS from transformers"
    loaded = "" if check.weights != "ours" else " (its class on the weights as we read them)"
    return (
        f"{check.model} in {check.dtype} on {check.device} {said}{loaded}: pixel values within {check.pixels:.1e}, "
        f"prompt {check.prompt}, first-token logits within {check.logits:.1e} (std {check.logits_std:.2f}), of "
        f"{check.samples} greedy answers {check.alone:.1%} differ alone and {check.batched:.1%} batched"
    )
