"""A word-level tokenizer whose vocabulary is everything the synthetic scenes can ask or answer."""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from hero_ray.benchmarks.synthetic.backgrounds import SHADES, TEXTURES
from hero_ray.benchmarks.synthetic.glyphs import COLOUR_NAMES, PLURALS, SHAPES, WORDS

PAD, BOS, EOS, UNK, IMAGE = "<pad>", "<s>", "</s>", "<unk>", "<image>"
CLIP_BOS, CLIP_EOS = "<|startoftext|>", "<|endoftext|>"
SUFFIX = "Answer the question using a single word or phrase."
_QUESTION_WORDS = (
    "user: assistant: what colour is the shape object number on word sign white black there a an in image how many "
    "objects are where pattern background light dark or with and yes no top bottom left right ? . , !"
)
# Not part of any question here, but common in other people's prompts.
_SPARE_WORDS = "answer question using single phrase letter given choices directly option from please of this picture"


# What a patch label stands for, in the order of the first dense heads.
SHOWN_WORDS = (SHAPES, COLOUR_NAMES, tuple(str(digit) for digit in range(10)), WORDS)


def spare_words() -> str:
    """Words that no question here uses but that common prompts do."""
    return _SPARE_WORDS


def vocabulary() -> list[str]:
    """All words in id order. `<|endoftext|>` is last: CLIP's legacy pooling looks for the highest id."""
    words: set[str] = set(_QUESTION_WORDS.split()) | set(_SPARE_WORDS.split())
    for group in (SHAPES, PLURALS, COLOUR_NAMES, WORDS, TEXTURES, SHADES):
        words.update(group)
    words.update(str(digit) for digit in range(10))
    return [PAD, BOS, EOS, UNK, IMAGE, CLIP_BOS, *sorted(words), CLIP_EOS]


def word_level(words: Sequence[str]) -> Tokenizer:
    """Whole words, case folded, marks by themselves; "color" is read as "colour"."""
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=UNK))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Replace("color", "colour")])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex("[?.,!]"), "isolated")]
    )
    return tokenizer


def _word_level(start: str, end: str | None) -> Tokenizer:
    words = vocabulary()
    ids = {word: i for i, word in enumerate(words)}
    tokenizer = word_level(words)
    template = f"{start} $A {end}" if end else f"{start} $A"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[(token, ids[token]) for token in (start, end) if token]
    )
    tokenizer.add_special_tokens(
        [AddedToken(word, special=True, normalized=False) for word in words if word.startswith("<")]
    )
    return tokenizer


def language_tokenizer() -> PreTrainedTokenizerFast:
    """For the language model: `<s>` first, left padding as generation wants it."""
    return PreTrainedTokenizerFast(
        tokenizer_object=_word_level(BOS, None),
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNK,
        pad_token=PAD,
        padding_side="left",
        model_max_length=1024,
        extra_special_tokens={"image_token": IMAGE},
    )


def clip_tokenizer() -> PreTrainedTokenizerFast:
    """For the CLIP text tower: the same ids between its own start and end tokens, at most 77."""
    return PreTrainedTokenizerFast(
        tokenizer_object=_word_level(CLIP_BOS, CLIP_EOS),
        bos_token=CLIP_BOS,
        eos_token=CLIP_EOS,
        unk_token=UNK,
        pad_token=PAD,
        padding_side="right",
        model_max_length=77,
    )


def save_tokenizers(folder: Path) -> None:
    """Write the language tokenizer into `folder` and the text tower's into `folder/clip`."""
    language_tokenizer().save_pretrained(folder)
    clip_tokenizer().save_pretrained(folder / "clip")
