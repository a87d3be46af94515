"""Chat templates around a user text, one per conversation style, and the cut into prefix, picture and suffix."""

from __future__ import annotations

from dataclasses import dataclass

from hero_ray.core.errors import PromptError, UnknownNameError
from hero_ray.core.text import clean_text
from hero_ray.models.base import Prompt
from hero_ray.models.tokenizer import Tokenizer

IMAGE = "<image>"

_VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
# The default of the released conversation file, "chat" order: the model was tuned with this very sentence.
_INTERNVL2_SYSTEM = (
    "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, 是一个有用无害的人工智能助手。"
)


@dataclass(frozen=True)
class PromptStyle:
    """A conversation of one user turn.

    Attributes:
        name: as in the model registry.
        template: the whole text; `{system}` and `{user}` are filled in, `<image>` marks the picture.
        system: default system sentence.
        around: text directly before and behind the visual tokens.
    """

    name: str
    template: str
    system: str = ""
    around: tuple[str, str] = ("", "")


STYLES = {
    style.name: style
    for style in (
        PromptStyle("vicuna", "{system} USER: {user} ASSISTANT:", _VICUNA_SYSTEM),
        PromptStyle("plain", "USER: {user} ASSISTANT:"),
        PromptStyle(
            "internlm2-chat",
            "<|im_start|>system\n{system}<|im_end|><|im_start|>user\n{user}<|im_end|><|im_start|>assistant\n",
            _INTERNVL2_SYSTEM,
            ("<img>", "</img>"),
        ),
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


def build_prompt(
    tokenizer: Tokenizer, style: PromptStyle, text: str, question: str | None, system: str | None, image_token: str
) -> Prompt:
    """Ids before and behind the picture, and the span of the question's tokens inside the latter.

    Args:
        text: user text; the picture goes in front of it unless it says `<image>` itself.
        question: the part of `text` that is the instruction; None, or absent from it, means all of it.
        system: replaces the style's system sentence.
        image_token: what the tokenizer knows as one picture token.

    Raises:
        PromptError: no text, more than one picture, or a picture token the tokenizer does not know.
    """
    text, question = clean_text(text), question and clean_text(question)
    if not text.strip():
        raise PromptError("the user text is empty; ask something")
    if text.count(IMAGE) > 1:
        raise PromptError(f"the user text says {IMAGE} {text.count(IMAGE)} times; one picture a question is supported")
    user = text if IMAGE in text else f"{IMAGE}\n{text}"
    user = user.replace(IMAGE, style.around[0] + image_token + style.around[1])
    before, behind = style.template.split("{user}")
    before = before.replace("{system}", style.system if system is None else system)
    start, whole = len(before), before + user + behind
    ids, spans = tokenizer.encode(whole)
    picture = tokenizer.special(image_token)
    if picture is None or ids.count(picture) != 1:
        raise PromptError(f"the tokenizer does not turn {image_token!r} into exactly one token of its own")
    cut = ids.index(picture)
    suffix = tuple(ids[cut + 1 :])
    wanted = _question_span(whole, start, len(user), user, question, image_token, style)
    inside = [i for i, (a, b) in enumerate(spans[cut + 1 :]) if a < wanted[1] and b > wanted[0]]
    span = (inside[0], inside[-1] + 1) if inside else (0, len(suffix))
    return Prompt(tuple(ids[:cut]), suffix, span)


def _question_span(
    whole: str, start: int, length: int, user: str, question: str | None, image_token: str, style: PromptStyle
) -> tuple[int, int]:
    """Characters of the instruction inside the whole prompt."""
    if question and question.strip() in user:
        begin = start + user.index(question.strip())
        return begin, begin + len(question.strip())
    picture = style.around[0] + image_token + style.around[1]
    behind = start + user.index(picture) + len(picture)
    while behind < start + length and whole[behind].isspace():
        behind += 1
    return behind, start + length
