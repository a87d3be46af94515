"""The sentencepiece tokenizer of hero-tiny-internvl, trained on questions and answers of the synthetic scenes."""

import io
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import sentencepiece

from hero_ray.benchmarks.synthetic.questions import FAMILIES, all_questions
from hero_ray.benchmarks.synthetic.scenes import compose
from tools.tiny.tokenizer import SUFFIX, spare_words

PIECES = 320
TURN_START, TURN_END, PICTURE, PICTURE_START, PICTURE_END = (
    "<|im_start|>",
    "<|im_end|>",
    "<IMG_CONTEXT>",
    "<img>",
    "</img>",
)
SPECIALS = (TURN_START, TURN_END, PICTURE, PICTURE_START, PICTURE_END)
SYSTEM = "You answer questions about an image."
_CORPUS_SCENES = 400


def corpus() -> Iterator[str]:
    """Questions, answers and the words around them, the same at every call."""
    rng = np.random.default_rng(11)
    yield from (SYSTEM, SUFFIX, "system user assistant", spare_words())
    for _ in range(_CORPUS_SCENES):
        scene = compose(rng, 128, 128)
        for category in FAMILIES:
            for question in all_questions(scene, category, rng):
                yield question.text
                yield question.answer


@cache
def piece_model() -> bytes:
    """A serialised BPE model that folds case and gives nearly every word of the corpus one piece."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=corpus(),
        model_writer=written,
        model_type="bpe",
        vocab_size=PIECES,
        hard_vocab_limit=False,
        character_coverage=1.0,
        normalization_rule_name="nmt_nfkc_cf",
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    return written.getvalue()


@cache
def pieces() -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_proto=piece_model())


def special_ids() -> dict[str, int]:
    """Special tokens follow the pieces."""
    start = pieces().get_piece_size()
    return {token: start + i for i, token in enumerate(SPECIALS)}


def vocabulary_size() -> int:
    return int(pieces().get_piece_size()) + len(SPECIALS)


def encode(text: str) -> tuple[int, ...]:
    """Ids of plain text without special tokens."""
    return tuple(pieces().encode(text))


def save_pieces(folder: Path) -> None:
    """Write `tokenizer.model` and the special tokens as InternVL2 folders list them."""
    (folder / "tokenizer.model").write_bytes(piece_model())
    listed = {0: "<unk>", 1: "<s>", 2: "</s>", **{number: token for token, number in special_ids().items()}}
    entry = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    config = {
        "added_tokens_decoder": {str(number): {"content": token, **entry} for number, token in listed.items()},
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "model_max_length": 1024,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
