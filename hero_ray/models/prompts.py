"""Chat templates around a user text, one per conversation style, and the cut into prefix, picture and suffix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from hero_ray.core.errors import PromptError, UnknownNameError
from hero_ray.core.text import clean_text
from hero_ray.models.base import Prompt
from hero_ray.models.tokenizer import Tokenizer

IMAGE, VIDEO = "<image>", "<video>"
IMAGE_PAD, VIDEO_PAD = "<|image_pad|>", "<|video_pad|>"
"""What Qwen-VL's tokenizers know as one token of a picture, and of a film."""

_VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
# The default of the released conversation file, "chat" order: the model was tuned with this very sentence.
_INTERNVL2_SYSTEM = (
    "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, 是一个有用无害的人工智能助手。"
)

_INTERNVL25_SYSTEM = (
    "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"
)
_LLAMA_3_SYSTEM = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that the user "
    "provides, and assist the user with a variety of tasks using natural language."
)


@dataclass(frozen=True)
class PromptStyle:
    """How a conversation is written.

    Attributes:
        name: as in the model registry, or the file it was read from.
        before, behind: the text around what the user says; `{system}` in the former is filled in.
        system: default system sentence.
        around: text directly before and behind the visual tokens.
        lead: put before a text that does not say itself where the picture stands.
        opening: all that stands in front of a question whose picture comes first, where it is not `before` and `lead`.
        trims: white space is taken off around the user's `text`, or around the whole `turn` with its picture.
        end: the token that ends a turn, where the configuration names another.
        turns: the text in front of an answer that was given, and from there to what the user says next; None where a
            second turn is not one fixed text around it.
    """

    name: str
    before: str
    behind: str
    system: str = ""
    around: tuple[str, str] = ("", "")
    lead: str = f"{IMAGE}\n"
    opening: str = ""
    trims: Literal["", "text", "turn"] = ""
    end: str = ""
    turns: tuple[str, str] | None = None


def _chatml(name: str, system: str, gap: str, around: tuple[str, str] = ("", "")) -> PromptStyle:
    """ChatML; the checkpoints differ in their system sentence and in what follows a turn's end."""
    return PromptStyle(
        name,
        f"<|im_start|>system\n{{system}}<|im_end|>{gap}<|im_start|>user\n",
        f"<|im_end|>{gap}<|im_start|>assistant\n",
        system,
        around,
        end="<|im_end|>",
        turns=("", f"<|im_end|>{gap}<|im_start|>user\n"),
    )


_IMG = ("<img>", "</img>")
_QWEN_FRAME = ("<|vision_start|>", "<|vision_end|>")
_QWEN_PICTURE = IMAGE.join(_QWEN_FRAME)
FRAMES = (*_IMG, *_QWEN_FRAME)
"""Special tokens that stand around a picture: no words of the prompt."""
STYLES = {
    style.name: style
    for style in (
        PromptStyle("vicuna", "{system} USER: ", " ASSISTANT:", _VICUNA_SYSTEM, turns=(" ", "</s>USER: ")),
        PromptStyle("plain", "USER: ", " ASSISTANT:", turns=(" ", "</s>USER: ")),
        PromptStyle("mistral", "[INST] ", " [/INST]", turns=(" ", "</s>[INST] ")),
        PromptStyle(
            "llama-3",
            "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n{system}<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\n",
            "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
            _LLAMA_3_SYSTEM,
            end="<|eot_id|>",
            turns=("", "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"),
        ),
        _chatml("chatml", "Answer the questions.", ""),
        _chatml("qwen", "You are a helpful assistant.", "\n"),
        _chatml("internlm2-chat", _INTERNVL2_SYSTEM, "", _IMG),
        _chatml("Hermes-2", _INTERNVL2_SYSTEM, "", _IMG),
        PromptStyle(
            "phi3-chat",
            "<|system|>\n{system}<|end|><|user|>\n",
            "<|end|><|assistant|>\n",
            _INTERNVL2_SYSTEM,
            _IMG,
            end="<|end|>",
            turns=("", "<|end|><|user|>\n"),
        ),
        _chatml("internvl2_5", _INTERNVL25_SYSTEM, "\n", _IMG),
        PromptStyle(
            "qwen3-vl",
            "<|im_start|>user\n",
            "<|im_end|>\n<|im_start|>assistant\n",
            lead=_QWEN_PICTURE,
            end="<|im_end|>",
            turns=("", "<|im_end|>\n<|im_start|>user\n"),
        ),
        replace(_chatml("qwen2.5-vl", "You are a helpful assistant.", "\n"), lead=_QWEN_PICTURE),
    )
}


def style(name: str) -> PromptStyle:
    """The style registered under a name.

    Raises:
        UnknownNameError: no such style.
    """
    if name not in STYLES:
        raise UnknownNameError("prompt style", name, STYLES)
    return STYLES[name]


def written(style: PromptStyle, text: str, system: str | None = None) -> tuple[str, int]:
    """The whole prompt with `<image>` where the picture stands, and where in it the user's text begins.

    Args:
        text: user text; the picture goes in front of it unless it says `<image>` itself.
        system: replaces the style's system sentence.

    Raises:
        PromptError: no text, or more than one picture.
    """
    text = clean_text(text)
    if not text.strip():
        raise PromptError("the user text is empty; ask something")
    if VIDEO in text:
        raise PromptError(f"the user text says {VIDEO}; hero-ray asks about one picture, films are not supported")
    if text.count(IMAGE) > 1:
        raise PromptError(f"the user text says {IMAGE} {text.count(IMAGE)} times; one picture a question is supported")
    text = text.strip() if style.trims == "text" else text
    lead = "" if IMAGE in text else style.lead
    if style.trims == "turn":
        text, lead = (lead + text).strip().removeprefix(lead), lead.lstrip()
    before = style.before.replace("{system}", style.system if system is None else system) + lead
    before = style.opening if style.opening and IMAGE not in text else before
    return before + text + style.behind, len(before)


def dialogue(style: PromptStyle, history: Sequence[tuple[str, str]], text: str) -> str:
    """All turns as the one user text that `written` puts the rest of the prompt around.

    Args:
        history: turns before `text`: what the user said, and what was answered.

    Raises:
        PromptError: a style without a second turn, an empty turn, or an answer with a picture in it.
    """
    if style.turns is None:
        raise PromptError(
            f"the chat template {style.name} words a second turn in a way of its own; ask this model one question at a "
            "time"
        )
    whole = ""
    for said, answer in history:
        if not said.strip() or IMAGE in answer:
            raise PromptError(f"a turn says nothing, or its answer says {IMAGE}; expected text in both")
        said = said.strip() if style.trims else said
        whole += said + style.behind + style.turns[0] + answer.strip() + style.turns[1]
    if not text.strip():
        raise PromptError("the user text is empty; ask something")
    return whole + (text.strip() if style.trims else text)


def build_prompt(
    tokenizer: Tokenizer,
    style: PromptStyle,
    text: str,
    question: str | None,
    system: str | None,
    image_token: str,
    history: Sequence[tuple[str, str]] = (),
) -> Prompt:
    """Ids before and behind the picture, and the span of the question's tokens inside the latter.

    Args:
        text: user text; the picture goes in front of it unless it says `<image>` itself.
        question: the part of `text` that is the instruction; None, or absent from it, means all of it.
        system: replaces the style's system sentence.
        image_token: what the tokenizer knows as one picture token.
        history: turns before `text`, see `dialogue`; the question may stand in one of them.

    Raises:
        PromptError: no text, more than one picture, or a picture token the tokenizer does not know.
    """
    whole, start = written(style, dialogue(style, history, text) if history else text, system)
    end = len(whole) - len(style.behind)
    question = question and clean_text(question).strip()
    picture = style.around[0] + image_token + style.around[1]
    if question and question in whole[start:end] and (picture == IMAGE or IMAGE not in question):
        behind = history and question in text  # an earlier turn may have said the same
        start = whole.rindex(question, start, end) if behind else whole.index(question, start)
        end = start + len(question)
    else:
        start = whole.index(IMAGE, start) + len(IMAGE) if IMAGE in whole[start:end] else start
        start += len(whole[start:end]) - len(whole[start:end].lstrip())
    wanted = tuple(place + whole[:place].count(IMAGE) * (len(picture) - len(IMAGE)) for place in (start, end))
    ids, spans = tokenizer.encode(whole.replace(IMAGE, picture))
    known = tokenizer.special(image_token)
    if known is None or ids.count(known) != 1:
        raise PromptError(f"the tokenizer does not turn {image_token!r} into exactly one token of its own")
    cut = ids.index(known)
    suffix = tuple(ids[cut + 1 :])
    inside = [i for i, (a, b) in enumerate(spans[cut + 1 :]) if a < wanted[1] and b > wanted[0]]
    span = (inside[0], inside[-1] + 1) if inside else (0, len(suffix))
    return Prompt(tuple(ids[:cut]), suffix, span)
