"""Text to token ids and back, without remote code: `tokenizer.json`, sentencepiece, or a stand-in."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from hero_ray.core.errors import CheckpointError
from hero_ray.models.checkpoints.plausible import read_object


class Tokenizer(Protocol):
    """What an adapter needs of a tokenizer."""

    def encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids, special tokens and begin token included, with the (start, end) characters each stands for."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text without special tokens."""
        ...

    def special(self, token: str) -> int | None:
        """Id of a special token, or None."""
        ...


class FastTokenizer:
    """A `tokenizer.json`, run by the tokenizers library.

    Args:
        source: the file, or a tokenizer that is built already.
        specials: token -> id beyond the file's own; text is cut at them before it is encoded, as the original LLaVA
            does at its `<image>`.

    Raises:
        CheckpointError: the file is not a tokenizer.
    """

    def __init__(self, source: Path | Any, specials: Mapping[str, int] | None = None) -> None:
        from tokenizers import Tokenizer as Fast

        try:
            self._fast = Fast.from_file(str(source)) if isinstance(source, Path) else source
        except Exception as error:  # the library raises plain Exception, whatever is wrong
            raise CheckpointError(f"{source} is not a tokenizer that can be read: {error}") from None
        # `save_pretrained` keeps the truncation and padding of the last call, and the library obeys the file: a prompt
        # would lose its question. transformers resets both at every call, so its ids come from a tokenizer without.
        self._fast.no_truncation()
        self._fast.no_padding()
        self._specials = {token: number for token, number in (specials or {}).items() if self._known(token) is None}
        self._split = splitter(self._specials)

    def encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        ids: list[int] = []
        spans: list[tuple[int, int]] = []
        start = 0
        for part in self._split.split(text) if self._split else [text]:
            if part in self._specials:
                ids.append(self._specials[part])
                spans.append((start, start + len(part)))
            elif part:
                found = self._encoded(part, first=start == 0)
                ids.extend(found.ids)
                spans.extend((start + begin, start + end) for begin, end in found.offsets)
            start += len(part)
        return ids, spans

    def _encoded(self, text: str, first: bool) -> Any:
        """One part; the begin token comes first, and once only where a chat template has written it already."""
        whole = self._fast.encode(text, add_special_tokens=first)
        if first and len(whole.ids) > 1 and whole.ids[0] == whole.ids[1]:
            plain = self._fast.encode(text, add_special_tokens=False)
            if plain.ids[:1] == whole.ids[:1] and plain.offsets[0] != (0, 0):
                return plain if plain.ids == whole.ids[1:] else whole
        return whole

    def _known(self, token: str) -> int | None:
        found: int | None = self._fast.token_to_id(token)
        return found

    def decode(self, ids: Sequence[int]) -> str:
        own = self._specials.values()
        return str(self._fast.decode([i for i in ids if i not in own], skip_special_tokens=True))

    def special(self, token: str) -> int | None:
        return self._specials.get(token, self._known(token))


def splitter(specials: Mapping[str, int]) -> re.Pattern[str] | None:
    """Cuts a text at special tokens, the longest first; None where there are none."""
    ordered = sorted(specials, key=len, reverse=True)
    return re.compile("(" + "|".join(map(re.escape, ordered)) + ")") if ordered else None


class SentencePieceTokenizer:
    """A sentencepiece model with special tokens beside it, as InternVL2 and the original LLaVA ship.

    Text between special tokens is encoded piece by piece; the begin token comes first. Equal to the slow tokenizers
    these checkpoints were trained with, whose own code is never run.

    Args:
        path: the sentencepiece model.
        specials: token -> id beyond (or above) the pieces of the model.
        begins: whether the begin token comes first.
        swallowing: special tokens that take the white space behind them along, as Phi-3's do.
        prefix: whether a text behind a special token is encoded as the beginning of a line is (`legacy`).

    Raises:
        CheckpointError: the file is not such a model.
    """

    def __init__(
        self,
        path: Path,
        specials: Mapping[str, int],
        begins: bool = True,
        swallowing: frozenset[str] = frozenset(),
        prefix: bool = True,
    ) -> None:
        import sentencepiece

        try:
            self._pieces: Any = sentencepiece.SentencePieceProcessor(model_file=str(path))
            self._inside = self._pieces if prefix else without_prefix(path)
        except (OSError, RuntimeError) as error:
            raise CheckpointError(f"{path} is not a sentencepiece model that can be read: {error}") from None
        self._tells_offsets = _tells_offsets(self._pieces)
        self._specials, self._begins, self._swallowing = dict(specials), begins, swallowing
        self._silent = set(specials.values()) | {self._pieces.bos_id(), self._pieces.eos_id()}
        self._split = splitter(specials)

    def encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        ids, spans = ([self._pieces.bos_id()], [(0, 0)]) if self._begins else ([], [])
        start, eats = 0, False
        for part in self._split.split(text) if self._split else [text]:
            if part in self._specials:
                ids.append(self._specials[part])
                spans.append((start, start + len(part)))
                eats = part in self._swallowing
            elif words := part.lstrip() if eats else part:
                begin = start + len(part) - len(words)
                pieces, offsets = self._encode_part(words, self._inside if start else self._pieces)
                ids.extend(pieces)
                spans.extend((begin + first, begin + last) for first, last in offsets)
            start += len(part)
        if ids[1:2] == ids[:1] == [self._pieces.bos_id()]:  # a chat template has written it already
            del ids[0], spans[0]
        return ids, spans

    def _encode_part(self, text: str, model: Any) -> tuple[list[int], list[tuple[int, int]]]:
        if self._tells_offsets:
            mapped = model.encode(text, out_type="offset_mapping")
            return mapped["ids"], mapped["offsets"]
        parts = model.encode(text, out_type="immutable_proto").pieces
        return [part.id for part in parts], [(part.begin, part.end) for part in parts]

    def decode(self, ids: Sequence[int]) -> str:
        # A model may own rows beyond its pieces (padding of the vocabulary); they have no text.
        size = self._pieces.get_piece_size()
        return str(self._pieces.decode([int(i) for i in ids if i not in self._silent and i < size]))

    def special(self, token: str) -> int | None:
        if token in self._specials:
            return self._specials[token]
        found = self._pieces.piece_to_id(token)
        return None if found == self._pieces.unk_id() else int(found)


def without_prefix(path: Path) -> Any:
    """A sentencepiece model that puts no space in front of a text."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2

    layout: Any = sentencepiece_model_pb2  # generated code without types
    proto = layout.ModelProto.FromString(path.read_bytes())
    proto.normalizer_spec.add_dummy_prefix = False
    return sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())


def _tells_offsets(pieces: Any) -> bool:
    """Whether this sentencepiece knows `offset_mapping`; releases before 0.2.2 do not."""
    try:
        pieces.encode("a", out_type="offset_mapping")
    except (TypeError, ValueError, RuntimeError):
        return False
    return True


class StandInTokenizer:
    """For random weights only: four characters make a token, so prompts have about their true length."""

    _CHUNK = 4

    def __init__(self, vocab: int, specials: Mapping[str, int]) -> None:
        self._vocab, self._specials = vocab, dict(specials)
        ordered = sorted(specials, key=len, reverse=True)
        self._split = re.compile("(" + "|".join(map(re.escape, ordered)) + ")")

    def encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        ids, spans, start = [1], [(0, 0)], 0
        for part in self._split.split(text):
            if part in self._specials:
                ids.append(self._specials[part])
                spans.append((start, start + len(part)))
            else:
                for offset in range(0, len(part), self._CHUNK):
                    chunk = part[offset : offset + self._CHUNK]
                    ids.append(3 + zlib.crc32(chunk.encode()) % (min(self._vocab, 30000) - 3))
                    spans.append((start + offset, start + offset + len(chunk)))
            start += len(part)
        return ids, spans

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(f"<{int(i)}>" for i in ids)

    def special(self, token: str) -> int | None:
        return self._specials.get(token)


def read_tokenizer(folder: Path, specials: Mapping[str, int] | None = None) -> Tokenizer:
    """The tokenizer of a model folder: `tokenizer.json`, else `tokenizer.model`, else Qwen's `vocab.json`.

    Args:
        specials: token -> id beyond what the files list.

    Raises:
        CheckpointError: none of them is there.
    """
    if (folder / "tokenizer.json").is_file():
        return FastTokenizer(folder / "tokenizer.json", specials)
    if (folder / "tokenizer.model").is_file():
        said = _json(folder / "tokenizer_config.json")
        return SentencePieceTokenizer(
            folder / "tokenizer.model",
            {**added_tokens(folder), **(specials or {})},
            begins=said.get("add_bos_token") is not False,
            swallowing=frozenset(
                entry["content"] for entry in (said.get("added_tokens_decoder") or {}).values() if entry.get("rstrip")
            ),
            prefix=said.get("legacy") is not False,
        )
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return FastTokenizer(_qwen_tokenizer(folder), specials)
    raise CheckpointError(
        f"{folder} has neither tokenizer.json nor tokenizer.model nor vocab.json with merges.txt; the prompt cannot be "
        "built"
    )


def _qwen_tokenizer(folder: Path) -> Any:
    """Qwen's byte-level tokenizer from its own files, built by transformers."""
    named = _json(folder / "tokenizer_config.json").get("tokenizer_class", "Qwen2Tokenizer")
    if named not in ("Qwen2Tokenizer", "Qwen2TokenizerFast"):
        raise CheckpointError(f"{folder}: vocab.json with merges.txt is read as Qwen2Tokenizer, not as {named}")
    from transformers import Qwen2Tokenizer

    try:
        return Qwen2Tokenizer.from_pretrained(folder).backend_tokenizer
    except Exception as error:  # the library raises errors of many kinds
        raise CheckpointError(f"{folder} holds no tokenizer that can be read: {error}") from error


def added_tokens(folder: Path) -> dict[str, int]:
    """Special tokens listed in `tokenizer_config.json` (`added_tokens_decoder`) or `added_tokens.json`."""
    found: dict[str, int] = {}
    listed: Any = _json(folder / "added_tokens.json")
    decoder: Any = _json(folder / "tokenizer_config.json").get("added_tokens_decoder", {})
    try:
        found.update({str(token): int(number) for token, number in listed.items()})
        found.update({str(entry["content"]): int(number) for number, entry in decoder.items()})
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(
            f"{folder}: its added tokens are not listed as tokenizers list them: {error!r}"
        ) from error
    return found


def _json(path: Path) -> dict[str, Any]:
    return read_object(path) if path.is_file() else {}
