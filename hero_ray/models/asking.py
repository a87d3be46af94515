"""How a checkpoint wants to be asked and where its answers end, found out from its folder before any weight is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hero_ray.core.errors import CheckpointError
from hero_ray.models.chat import style_of
from hero_ray.models.checkpoints.plausible import read_config, read_object
from hero_ray.models.prompts import IMAGE, IMAGE_PAD, PromptStyle, style, written
from hero_ray.models.registry import FAMILY_STYLES, NATIVE, SPECS, ModelSpec, foreign
from hero_ray.models.sources import find_folder
from hero_ray.models.supported import ORIGINAL_LANGUAGE, family_of, is_original_llava
from hero_ray.models.tokenizer import Tokenizer

CONTEXT = "<IMG_CONTEXT>"
_INTERNVL_STYLES = ("internlm2-chat", "Hermes-2", "phi3-chat", "internvl2_5")
_SMALLEST_OTHER = 33_000
"""Llama's and Mistral's own vocabulary is 32,000, with a few added tokens; Yi's and Llama 3's are far larger."""


def style_for(chosen: ModelSpec, folder: Path | None, raw: Mapping[str, Any], asked: str | None = None) -> PromptStyle:
    """The conversation a checkpoint is asked in.

    A registered name says it itself. Of every other folder it is, in this order: the style asked for, InternVL's own
    `template`, the folder's chat template, what the original code asks this language model with, Vicuna's or Mistral's
    format where the vocabulary is theirs.

    Raises:
        CheckpointError: a template we cannot honour, or no way to tell.
        UnknownNameError: a style asked for that is not there.
    """
    around = ("<img>", "</img>") if chosen.family == "internvl2" else ("", "")
    system = raw.get("system_message")
    found = style(asked) if asked else _own_style(chosen, folder, raw)
    if isinstance(system, str) and "{system}" in found.before:
        found = replace(found, system=system)
    return replace(found, around=around)


def _own_style(chosen: ModelSpec, folder: Path | None, raw: Mapping[str, Any]) -> PromptStyle:
    if folder is None or chosen.name in SPECS:
        return style(chosen.style)
    if raw.get("model_type") == "internvl_chat":
        return _internvl_style(raw, folder)
    if is_original_llava(raw):
        return style(_by_language(ORIGINAL_LANGUAGE[raw["model_type"]], int(raw["vocab_size"]), folder))
    image = CONTEXT if raw.get("model_type") == "internvl" else IMAGE_PAD if chosen.family in NATIVE else IMAGE
    found = style_of(folder, image)
    if found is not None:
        return found
    if chosen.family in NATIVE:
        return style(chosen.style)
    text = raw.get("text_config") or {}
    kind = text.get("model_type", "llama")
    vocab = text.get("vocab_size") or raw.get("vocab_size") or 32_000
    if chosen.family == "internvl2" or kind not in ("llama", "mistral") or vocab >= _SMALLEST_OTHER:
        raise CheckpointError(
            f"{folder} has no chat template, and its language model ({kind}, {vocab:,} tokens) is asked in more than "
            "one way; put its chat_template.json beside it or say --model-args style=NAME"
        )
    return style("mistral" if kind == "mistral" else chosen.style)


def _internvl_style(raw: Mapping[str, Any], folder: Path) -> PromptStyle:
    named = raw.get("template", "internlm2-chat")
    if named not in _INTERNVL_STYLES:
        raise CheckpointError(
            f"{folder}: its config.json asks for the conversation template {named!r}; known are "
            f"{', '.join(_INTERNVL_STYLES)}. Say which of them it is: --model-args style=NAME"
        )
    return style(named)


def _by_language(kind: str, vocab: int, folder: Path) -> str:
    """The conversation that the original code pairs with a language model."""
    if kind in ("mistral", "qwen2"):
        return {"mistral": "mistral", "qwen2": "qwen"}[kind]
    if vocab < _SMALLEST_OTHER:
        return "vicuna"
    known = {64_000: "chatml", 128_256: "llama-3"}  # Yi, Llama 3; both may be padded by a few rows
    for size, name in known.items():
        if size <= vocab < size + 1024:
            return name
    raise CheckpointError(
        f"{folder}: a Llama of {vocab:,} tokens is neither Vicuna, Yi nor Llama 3; say how it is asked: "
        "--model-args style=NAME"
    )


def end_tokens(folder: Path | None, text: Any, tokenizer: Tokenizer, asked: PromptStyle) -> frozenset[int]:
    """Ids that end an answer: of the language model, of `generation_config.json`, and the style's own end of a turn."""
    found = set(_ids(text.eos_token_id))
    path = folder / "generation_config.json" if folder is not None else None
    if path is not None and path.is_file():
        listed = read_object(path).get("eos_token_id")
        try:
            found |= set(_ids(listed))
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{path}: eos_token_id is {listed!r}; expected ids") from error
    turn = tokenizer.special(asked.end) if asked.end else None
    return frozenset(found if turn is None else found | {turn})


def _ids(value: Any) -> list[int]:
    if value is None:
        return []
    return [int(each) for each in value] if isinstance(value, list) else [int(value)]


def shown_prompt(name: str, text: str, asked: str | None = None) -> str:
    """The whole prompt of a model around a user text, `<image>` where the picture stands; no weight is read.

    Raises:
        CheckpointError, UnknownNameError: as `style_for`; no such model.
    """
    if name in SPECS:
        return written(_style_by_name(name, asked), text)[0]
    folder = find_folder(name)
    raw = read_config(folder)
    return written(style_for(foreign(name, family_of(raw, folder)), folder, raw, asked), text)[0]


def _style_by_name(name: str, asked: str | None) -> PromptStyle:
    spec = SPECS[name]
    raw = read_config(spec.embedded) if spec.embedded is not None else {}
    return style_for(spec, spec.embedded, raw, asked)


def worded_anew(name: str) -> str | None:
    """A model's prompt around the word `TEXT`, where it is not what its family was asked in before checkpoints spoke
    for themselves: part of a cell's identity then. None for known names and for the family's own format."""
    if name in SPECS:
        return None
    folder = find_folder(name)
    raw = read_config(folder)
    spec = foreign(name, family_of(raw, folder))
    former = "plain" if spec.family == "llava-next" and (folder / "clip").is_dir() else FAMILY_STYLES[spec.family]
    now = written(style_for(spec, folder, raw), "TEXT")[0]
    return None if now == written(style_for(spec, folder, raw, former), "TEXT")[0] else now
