"""Device memory from sizes alone: weights, the vision tower's and the language model's work, and the key-value cache.

Peaks of what lives at once, operator by operator, as the adapters run: in a block of either tower the moment when the
MLP's inner activations meet. Letters as in `costs`: n tokens, d width, m MLP width. The allocator's own rounding, the
CUDA context and a library's workspace come on top. Attention kernels are those that hold no n x n square.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hero_ray.core.errors import BudgetError
from hero_ray.models.base import LanguageShape, VisionShape

_LIVE = 4
"""Tensors of the model's width alive at a block's peak: what the pass was given, the block's input, the residual and
what the MLP was given."""
_INNER = 3
"""Tensors of the MLP's width alive there: gate, its activation or the other factor, and the product."""


@dataclass(frozen=True)
class MemoryForecast:
    """Bytes of one batch on one device.

    Attributes:
        weights: of the whole model.
        encode: the vision tower's work on all views of one pass.
        prefill: the language model's work, cache apart.
        cache: keys and values, with the room for new tokens; of shared prefixes the prefix and its copies, if
            there are any.
    """

    weights: int
    encode: int
    prefill: int
    cache: int

    @property
    def peak(self) -> int:
        """The most that is alive at once; a picture is encoded before its answers are made."""
        return self.weights + max(self.encode, self.prefill + self.cache)


def cache_bytes(language: LanguageShape, rows: int, positions: int, element: int) -> int:
    """Keys and values of all blocks for `rows` of so many positions."""
    return 2 * language.num_layers * rows * positions * language.num_kv_heads * language.head_dim * element


def prefill_work(language: LanguageShape, rows: int, tokens: int, element: int, masked: int = 0) -> int:
    """A pass over `rows` of `tokens`; `masked` keys where an explicit mask is needed (padding, a prefix behind).

    Behind a mask grouped keys and values are repeated for all heads, as transformers hands them to the kernel.
    """
    wide = rows * tokens * _LIVE * language.hidden
    inner = rows * tokens * _INNER * language.intermediate
    heads = rows * masked * language.num_heads * language.head_dim if language.num_kv_heads < language.num_heads else 0
    return (wide + max(inner, 2 * heads)) * element + rows * tokens * masked


def _behind_prefix_work(language: LanguageShape, rows: int, tokens: int, element: int) -> int:
    """A pass over `rows` of `tokens` behind a prefix read in place, masked among themselves alone.

    Attention in two pieces holds the queries, once more as the kernel takes them together (and once folded, where
    heads are grouped), and what either piece gives, in fp32 where they meet.
    """
    d, m = language.hidden, language.intermediate
    d_q, d_kv = language.num_heads * language.head_dim, language.num_kv_heads * language.head_dim
    fold = language.num_heads // language.num_kv_heads
    meeting = 4 * d_q if element == 4 else 8 * d_q  # in numbers of `element` bytes: fp32 copies of 2 pieces of 16 bits
    attention = 3 * d + 2 * d_kv + (d_q if fold > 1 else 0) + meeting
    masks = rows * tokens * tokens * (1 + fold * element)
    return rows * tokens * max(attention, _LIVE * d + _INNER * m) * element + masks


def encode_work(vision: VisionShape, views: int, element: int, tower: str = "clip") -> int:
    """One pass of the tower over `views`; CLIP's activation takes one inner tensor more than a fused GELU."""
    inner = _INNER if tower == "clip" or vision.mlp > 2 else _INNER - 1
    pixels = 3 * vision.patches * vision.frames * vision.patch**2
    per_view = vision.tokens * (_LIVE * vision.hidden + inner * vision.intermediate) + pixels
    return views * per_view * element


def model_weights(language: LanguageShape, vision: VisionShape, element: int) -> int:
    """Every parameter: blocks and norms, embeddings and head (one matrix where tied), the tower and the projector."""
    d, d_q = language.hidden, language.num_heads * language.head_dim
    d_kv, c, m = language.num_kv_heads * language.head_dim, vision.hidden, vision.intermediate
    block = 2 * d * d_q + 2 * d * d_kv + 3 * d * language.intermediate + 2 * d
    text = language.num_layers * block + d + (1 if language.tied else 2) * d * language.vocab
    tower = vision.num_layers * (4 * c * c + 4 * c + vision.mlp * c * m + m + 5 * c)
    positions = 0 if any(vision.side) else vision.tokens  # turned, or a table that does not grow with the view
    tower += c * (positions + 3 * vision.frames * vision.patch**2)
    pairs = zip(vision.projector, vision.projector[1:], strict=False)
    return (text + tower + vision.projectors * sum(a * b + b for a, b in pairs)) * element


def batch_memory(
    language: LanguageShape,
    vision: VisionShape,
    *,
    views: int,
    visual: int,
    prefix: int,
    suffix: int,
    room: int,
    rows: int,
    groups: int | None = None,
    in_place: bool = False,
    element: int = 2,
    tower: str = "clip",
) -> MemoryForecast:
    """One batch of `rows` answers of `visual` tokens each.

    Args:
        views: of the picture, encoded in one pass.
        prefix, suffix: text tokens before and behind the picture. room: new tokens at most.
        groups: rows with prefix and picture in common are computed once, `groups` of them, and copied to every row;
            None, or as many as rows, computes every prompt whole.
        in_place: they are not copied, but read where they lie.
    """
    weights, encode = model_weights(language, vision, element), encode_work(vision, views, element, tower)
    shared, prompt = prefix + visual, prefix + visual + suffix
    if groups is None or groups >= rows:
        work = prefill_work(language, rows, prompt, element)
        return MemoryForecast(weights, encode, work, cache_bytes(language, rows, prompt + room, element))
    first = prefill_work(language, groups, shared, element), cache_bytes(language, groups, shared, element)
    if in_place:
        own = cache_bytes(language, rows, suffix + room, element)
        then = _behind_prefix_work(language, rows, suffix, element), first[1] + own
    else:
        copies = cache_bytes(language, rows, prompt + room, element)
        then = prefill_work(language, rows, suffix, element, masked=prompt), first[1] + copies
    work, cache = max(first, then, key=sum)
    return MemoryForecast(weights, encode, work, cache)


def largest_batch(device_bytes: int, rows: int, peak_of_rows: Callable[[int], int]) -> int:
    """The most rows, at most `rows`, whose peak fits a device.

    Args:
        peak_of_rows: function from rows to bytes, rising.

    Raises:
        BudgetError: not even one fits.
    """
    low, high = 0, rows
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if peak_of_rows(middle) <= device_bytes else (low, middle - 1)
    if not low:
        raise BudgetError(f"one answer takes {peak_of_rows(1)} bytes and the device has {device_bytes}")
    return low
