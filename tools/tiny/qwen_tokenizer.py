"""The tokenizer of hero-tiny-qwen: hero-tiny's words between the special tokens of Qwen2.5-VL."""

from functools import lru_cache
from pathlib import Path

from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerFast

from hero_ray.models.prompts import IMAGE, IMAGE_PAD, VIDEO_PAD, style, written
from tools.tiny.tokenizer import UNK, vocabulary, word_level

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
PICTURE_START, PICTURE_END = "<|vision_start|>", "<|vision_end|>"
SPECIAL = (PAD, START, END, PICTURE_START, PICTURE_END, IMAGE_PAD, VIDEO_PAD)
# What the family's conversation says around a question.
_TURNS = "system user assistant you are a helpful"
CHAT_TEMPLATE = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def qwen_vocabulary() -> list[str]:
    """All words in id order."""
    words = {word for word in vocabulary() if not word.startswith("<") and not word.endswith(":")}
    return [*SPECIAL, UNK, *sorted(words | set(_TURNS.split()))]


@lru_cache(maxsize=1)
def qwen_words() -> Tokenizer:
    """Whole words, case folded, as hero-tiny's; nothing is put in front of a text."""
    words = qwen_vocabulary()
    tokenizer = word_level(words)
    added = [AddedToken(word, special=True, normalized=False) for word in words if word.startswith("<")]
    tokenizer.add_special_tokens(added)
    return tokenizer


def encode(text: str) -> tuple[int, ...]:
    """Ids of a text, special tokens among them."""
    return tuple(qwen_words().encode(text, add_special_tokens=False).ids)


def token_id(token: str) -> int:
    """The id of a word or special token."""
    return qwen_vocabulary().index(token)


@lru_cache(maxsize=1)
def around() -> tuple[str, str, str]:
    """What the family's conversation says before the picture, between picture and question, and behind it."""
    before, behind = written(style("qwen2.5-vl"), "?")[0].split(IMAGE)
    between, _, closing = behind.partition("?")
    return before, between, closing


def save_qwen_tokenizer(folder: Path) -> None:
    """Write it with the family's chat template."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=qwen_words(),
        eos_token=END,
        unk_token=UNK,
        pad_token=PAD,
        padding_side="left",
        model_max_length=1024,
        chat_template=CHAT_TEMPLATE,
    )
    tokenizer.save_pretrained(folder)
