"""Chat templates of a folder: found, rendered outside this process, and turned into a `PromptStyle`.

A template is a program from a stranger. It runs in Jinja's immutable sandbox, in a process of its own that has a few
seconds and little memory, once for every way of asking; the questions themselves never pass through it. What it makes
of probes must be one fixed text around the question, or the checkpoint is refused.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from hero_ray.core.errors import CheckpointError
from hero_ray.models.checkpoints.plausible import read_object
from hero_ray.models.prompts import IMAGE, PromptStyle, written

LONGEST_TEMPLATE = 256 * 1024
_SECONDS, _MEGABYTES = 5, 1024
_WAY_OUT = "say how it is to be asked: --model-args style=NAME"
_QUESTION = "Tq7 what? (a|b)"
_PROBES = (
    _QUESTION,
    "Tq7 {user} {{ x }} <b>\"two\" & 'one'</b>\n\n%s 颜色\nA. one\nB. two",
    "  Tq7 white space \n",
)
_ANSWER, _SECOND = "Ta5 (c) that.", "Tr3 which [d]?"
_SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token", "image_token")

# Run by a fresh interpreter: limits first, then the sandbox as transformers sets it up, then one JSON list of texts.
_RENDERER = """
import json, sys
asked = json.load(sys.stdin)
try:
    import resource
    resource.setrlimit(resource.RLIMIT_CPU, (asked["seconds"], asked["seconds"] + 1))
    resource.setrlimit(resource.RLIMIT_AS, (asked["bytes"], asked["bytes"]))
except ImportError:
    pass
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

class Generation(Extension):
    tags = {"generation"}
    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(["name:endgeneration"], drop_needle=True)

def refuse(message):
    raise TemplateError(message)

def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

room = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
def today(form):
    raise TemplateError("it reads the date, so that the same question would be asked otherwise tomorrow")

room.globals["raise_exception"] = refuse
room.globals["strftime_now"] = today
room.filters["tojson"] = tojson
def rendered(template, messages):
    try:
        text = template.render(messages=messages, add_generation_prompt=True, **asked["tokens"])
        return {"text": text} if len(text) <= asked["characters"] else {"error": "it makes a book of one question"}
    except MemoryError:
        return {"error": "it needs more memory than a prompt may"}
    except Exception as error:
        return {"error": type(error).__name__ + ": " + str(error)}

try:
    template = room.from_string(asked["template"])
    answer = [rendered(template, messages) for messages in asked["messages"]]
except Exception as error:
    answer = [{"error": type(error).__name__ + ": " + str(error)}] * len(asked["messages"])
json.dump(answer, sys.stdout)
"""


def find_template(folder: Path) -> tuple[str, str] | None:
    """(file name, chat template) of a model folder, where transformers looks for it, the processor's before the
    tokenizer's; None where there is none.

    Raises:
        CheckpointError: a file that is not what it should be.
    """
    plain = folder / "chat_template.jinja"
    if plain.is_file():
        try:
            return _checked(plain, plain.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{plain} cannot be read: {error}") from error
    for name in ("processor_config.json", "chat_template.json", "tokenizer_config.json"):
        path = folder / name
        found = read_object(path).get("chat_template") if path.is_file() else None
        if isinstance(found, list):  # several by name, as tokenizers save them
            found = {entry.get("name"): entry.get("template") for entry in found if isinstance(entry, Mapping)}
        if isinstance(found, Mapping):
            if "default" not in found:
                listed = ", ".join(map(str, found)) or "none"
                raise CheckpointError(f"{path} holds chat templates by name ({listed}), no 'default'; {_WAY_OUT}")
            found = found["default"]
        if found is not None:
            return _checked(path, found)
    return None


def _checked(path: Path, template: Any) -> tuple[str, str]:
    if not isinstance(template, str) or len(template) > LONGEST_TEMPLATE:
        what = f"{len(template):,} characters" if isinstance(template, str) else type(template).__name__
        raise CheckpointError(
            f"{path} holds a chat template of {what}; expected a text of at most {LONGEST_TEMPLATE:,}; {_WAY_OUT}"
        )
    return path.name, template


def special_tokens(folder: Path) -> dict[str, str]:
    """The texts of a tokenizer's special tokens, which templates may name."""
    found: dict[str, str] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        path = folder / name
        for key, value in (read_object(path) if path.is_file() else {}).items():
            text = value.get("content") if isinstance(value, Mapping) else value
            if key in _SPECIAL and isinstance(text, str):
                found[key] = text
    return found


def style_of(folder: Path, image_token: str = IMAGE) -> PromptStyle | None:
    """How a folder's own chat template asks one question about one picture; None without a template.

    Args:
        image_token: how the template may write the picture, besides `<image>`.

    Raises:
        CheckpointError: a template that fails, or that does more than put a fixed text around the question.
    """
    found = find_template(folder)
    if found is None:
        return None
    name, template = found
    tokens = tuple(sorted(special_tokens(folder).items()))
    try:
        return _read(template, tokens, name, image_token)
    except CheckpointError as error:
        raise CheckpointError(
            f"{folder}: the chat template in {name} cannot be honoured: {error}; {_WAY_OUT}"
        ) from None


@lru_cache(maxsize=64)
def _read(template: str, tokens: tuple[tuple[str, str], ...], name: str, image_token: str) -> PromptStyle:
    """The style behind a template, from what it makes of the probes.

    Both ways of writing a message are tried: a list of parts, as processors want it, then plain text.
    """
    made = render(template, [*_conversations(listed=True), *_conversations(listed=False)], dict(tokens))
    reasons = []
    for answers in (made[: len(made) // 2], made[len(made) // 2 :]):
        try:
            found = _fixed_text(answers[:-1], name, image_token)
            return replace(found, turns=_turns(found, answers[-1].get("text", ""), image_token))
        except CheckpointError as error:
            reasons.append(str(error))
    raise CheckpointError(reasons[0] if reasons[0] == reasons[1] else f"{reasons[0]} (as plain text: {reasons[1]})")


def _conversations(listed: bool) -> list[list[dict[str, Any]]]:
    """Every probe with a picture in front, then every probe alone; last a second turn behind the first of them."""
    if listed:
        parts = [[{"type": "image"}, {"type": "text", "text": text}] for text in _PROBES]
        parts += [[{"type": "text", "text": text}] for text in _PROBES]
        asked: list[list[dict[str, Any]]] = [[{"role": "user", "content": content}] for content in parts]
        more = [[{"type": "text", "text": text}] for text in (_ANSWER, _SECOND)]
    else:
        texts = [f"{IMAGE}\n{text}" for text in _PROBES] + list(_PROBES)
        asked = [[{"role": "user", "content": text}] for text in texts]
        more = [_ANSWER, _SECOND]  # type: ignore[list-item]
    answer, second = more
    return [*asked, [*asked[0], {"role": "assistant", "content": answer}, {"role": "user", "content": second}]]


def _turns(found: PromptStyle, text: str, image_token: str) -> tuple[str, str] | None:
    """What a template writes around an answer and a second question, where the rest is as with one; else None."""
    opening = written(found, _QUESTION)[0]
    for token in dict.fromkeys((image_token, IMAGE)):
        whole = text.replace(token, IMAGE)
        if whole.startswith(opening) and whole.endswith(_SECOND + found.behind) and whole.count(_ANSWER) == 1:
            said, _, again = whole.removeprefix(opening).removesuffix(_SECOND + found.behind).partition(_ANSWER)
            return said, again
    return None


def _fixed_text(answers: list[dict[str, str]], name: str, image_token: str) -> PromptStyle:
    for answer in answers:
        if "error" in answer:
            raise CheckpointError(" ".join(answer["error"].split())[:300])
    rendered = [answer["text"] for answer in answers]
    pictured, plain = rendered[: len(_PROBES)], rendered[len(_PROBES) :]
    if plain[0].count(_QUESTION) != 1 or pictured[0].count(_QUESTION) != 1:
        raise CheckpointError("it does not say the question exactly once")
    before, behind = plain[0].split(_QUESTION)
    opening, closing = pictured[0].split(_QUESTION)
    for token in dict.fromkeys((image_token, IMAGE)):
        if opening.count(token) == 1 and token not in closing:
            break
    else:
        where = "behind the question" if image_token in closing or IMAGE in closing else "nowhere, or more than once"
        raise CheckpointError(f"it puts the picture {where}; expected once, in front of it")
    if closing != behind:
        raise CheckpointError("it words the conversation otherwise when a picture is there")
    whole = "" if opening.startswith(before) else opening.replace(token, IMAGE)
    lead = "" if whole else opening.removeprefix(before).replace(token, IMAGE)
    wanted = [text.replace(token, IMAGE) for text in pictured], plain
    trimming: tuple[Literal["", "text", "turn"], ...] = ("", "text", "turn")
    for trims in trimming:
        style = PromptStyle(name, before, behind, lead=lead, opening=whole, trims=trims)
        alone = replace(style, lead="", opening="")
        if ([written(style, text)[0] for text in _PROBES], [written(alone, text)[0] for text in _PROBES]) == wanted:
            return style
    raise CheckpointError("it changes the words of the question")


def render(template: str, conversations: list[list[dict[str, Any]]], tokens: Mapping[str, str]) -> list[dict[str, str]]:
    """What a template makes of each conversation, the answer's opening included: its `text`, or its `error`.

    Raises:
        CheckpointError: it takes more time than a prompt may.
    """
    asked = {
        "template": template,
        "messages": conversations,
        "tokens": dict(tokens),
        "seconds": _SECONDS,
        "bytes": _MEGABYTES * 2**20,
        "characters": LONGEST_TEMPLATE,
    }
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", _RENDERER],
            input=json.dumps(asked),
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=12 * _SECONDS,
            check=False,
        )
        answers: list[dict[str, str]] = json.loads(done.stdout) if done.returncode == 0 else []
    except (subprocess.TimeoutExpired, ValueError):
        answers = []
    if len(answers) != len(conversations):
        raise CheckpointError(f"it does not end within {_SECONDS} s of one core")
    return answers
