"""Greedy answers of the exported folders through transformers' own `generate`, on full tokens."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import InternVLForConditionalGeneration, LlavaNextForConditionalGeneration

from hero_ray.benchmarks.synthetic.scenes import TILE
from hero_ray.models.checkpoints import internvl2
from hero_ray.models.checkpoints.reader import entries
from tools.tiny.export import processor
from tools.tiny.export_qwen import StockAnswers
from tools.tiny.internvl import InternVLAnswerer, normalise, stretched
from tools.tiny.piece_tokenizer import PICTURE, pieces, special_ids

MAX_NEW_TOKENS = 4
PROMPT = "USER: <image>\n{question} ASSISTANT:"
Asked = Sequence[tuple[Image.Image, str]]
Answer = Callable[[Asked], list[str]]


def load_answerer(name: str, folder: Path) -> tuple[nn.Module, Answer]:
    """The model of a folder, and a function from (picture, question) pairs to answers."""
    return _LOADERS[name](folder)


def _llava_next(folder: Path) -> tuple[nn.Module, Answer]:
    model = LlavaNextForConditionalGeneration.from_pretrained(folder).eval()
    made = processor()

    def answer(asked: Asked) -> list[str]:
        inputs = made(
            images=[[image] for image, _ in asked],
            text=[PROMPT.format(question=question) for _, question in asked],
            padding=True,
            return_tensors="pt",
        )
        with torch.inference_mode():
            produced = model.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)  # type: ignore[misc]
        return [text.strip() for text in made.batch_decode(produced[:, inputs["input_ids"].shape[1] :], True)]

    return model, answer


def load_internvl(folder: Path) -> InternVLForConditionalGeneration:
    """A folder in OpenGVLab's layout as the native class; every weight must be there and no other."""
    config = internvl2.read_native_config(folder)
    translate = internvl2.reader(config.text_config)
    state: dict[str, Tensor] = {}
    for key, tensor in entries(folder):
        state |= translate(key, tensor)
    model = InternVLForConditionalGeneration(config).eval()
    model.load_state_dict(state)
    model.config.image_token_id = special_ids()[PICTURE]
    return model


def _internvl(folder: Path) -> tuple[nn.Module, Answer]:
    model = load_internvl(folder)
    answerer = InternVLAnswerer(model)
    specials = set(special_ids().values())

    def answer_one(image: Image.Image, question: str) -> str:
        views = tile_pixels(image)
        picture = [special_ids()[PICTURE]] * (model.config.image_seq_length * len(views))
        ids = torch.tensor([[*answerer.prefix_ids, *picture, *answerer.segment(question, "").question]])
        with torch.inference_mode():
            produced = model.generate(  # type: ignore[misc]
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                pixel_values=normalise(views),
                max_new_tokens=MAX_NEW_TOKENS,
                do_sample=False,
                eos_token_id=answerer.end,
                pad_token_id=answerer.end,
            )
        kept = [int(token) for token in produced[0, ids.shape[1] :] if int(token) not in specials]
        return str(pieces().decode(kept))

    return model, lambda asked: [answer_one(*pair) for pair in asked]


def tile_pixels(image: Image.Image) -> np.ndarray:
    """InternVL2's views of any picture, thumbnail last, uint8 `[views, 64, 64, 3]`."""
    canvas = stretched(image)
    rows, columns = canvas.shape[0] // TILE, canvas.shape[1] // TILE
    tiles = canvas.reshape(rows, TILE, columns, TILE, 3).swapaxes(1, 2).reshape(-1, TILE, TILE, 3)
    if len(tiles) == 1:
        return tiles
    small = np.asarray(image.resize((TILE, TILE), Image.Resampling.BICUBIC))
    return np.concatenate([tiles, small[None]])


def _qwen(folder: Path) -> tuple[nn.Module, Answer]:
    answer = StockAnswers(folder, MAX_NEW_TOKENS)
    return answer.model, lambda asked: [answer(*pair) for pair in asked]


_LOADERS: dict[str, Callable[[Path], tuple[nn.Module, Answer]]] = {
    "hero-tiny": _llava_next,
    "hero-tiny-internvl": _internvl,
    "hero-tiny-qwen": _qwen,
}
