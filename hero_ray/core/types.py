"""Frozen records that cross the borders between rooms. No imports beyond the standard library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)  # a plan holds very many
class Sample:
    """One question of a benchmark, without its pixels.

    Attributes:
        benchmark: primary name, as in design: `textvqa_val`.
        key: stable id inside the benchmark and split.
        question: raw question text, before the benchmark's prompt is put around it.
        references: what a prediction is scored against; JSON-able, its shape belongs to the benchmark.
        image_key: hash of the picture's pixels (or the dataset's own image id where it has one);
            samples with equal keys show the same picture and form one unit.
        image_ref: JSON-able locator that `Benchmark.load_image` understands.
        category: sub-task the benchmark reports on its own, or "".
        extra: whatever else the prompt or the scorer needs (options, hints, ids); JSON-able.
    """

    benchmark: str
    key: str
    question: str
    references: Any
    image_key: str
    image_ref: Any
    category: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One point of a sweep: model x method x retention ratio x benchmark x generation settings x seed.

    Attributes:
        id: hash of `spec`; equal content gives an equal id in every sweep.
        params: the method's hyper-parameters, the variant apart.
        retention_ratio: share of visual tokens kept, in (0, 1].
        tokens: absolute budget where one was asked for (`576tok`), else None.
        seed: of seeded methods; 0 elsewhere.
        spec: the resolved content behind `id`: revisions, fingerprints, prompts, code versions.
        straw_man: whether the method is one; says nothing of the answers, so no part of `id`.
        own_count: whether the method alone decides how much survives; no part of `id` either.
    """

    id: str
    model: str
    method: str
    variant: str
    params: Mapping[str, Any]
    retention_ratio: float
    benchmark: str
    flavour: str
    tokens: int | None = None
    seed: int = 0
    spec: Mapping[str, Any] = field(default_factory=dict)
    straw_man: bool = False
    own_count: bool = False

    @property
    def engine(self) -> str:
        """Who makes its answers: `ours` or `vllm`."""
        said = self.spec.get("model", {}).get("engine", {})
        return str(said.get("name", "ours"))


@dataclass(frozen=True)
class Scored:
    """One sample with its prediction and per-sample scores: what an aggregate is made from."""

    sample: Sample
    prediction: str
    scores: Mapping[str, Any]


@dataclass(frozen=True)
class Metric:
    """One aggregated figure, before intervals are put around it. `category` "" means the whole benchmark."""

    name: str
    value: float
    n: int
    category: str = ""


@dataclass(frozen=True)
class TokenCount:
    """Token figures of one answer.

    Attributes:
        budget_nominal: patch tokens the ratio asks for.
        n_selected: patch tokens kept.
        n_visual_llm: all visual embeddings that enter the LLM (patches, newlines, merged tokens).
        n_text: text tokens of the prompt.
        visual_per_layer: visual tokens alive in each LLM block, first block first.
    """

    budget_nominal: int
    n_selected: int
    n_visual_llm: int
    n_text: int
    visual_per_layer: tuple[int, ...]

    @property
    def equivalent_tokens(self) -> float:
        """Visual tokens alive, averaged over the LLM's blocks."""
        return sum(self.visual_per_layer) / len(self.visual_per_layer)


@dataclass(frozen=True)
class Prediction:
    """The outcome of one sample in one cell: an answer, or a named failure.

    Attributes:
        scores: per-sample scores by metric key.
        flops: of the whole answer: encode, scoring, prefill, decode.
        encode_flops: those of them before the LLM: encode and scoring.
        kv_bytes: live key-value cache right after prefill.
        keep_mask: packed bits over (views, tokens), thumbnail first.
        geometry: (tile rows, tile columns, token rows, token columns) that `keep_mask` is laid out on.
    """

    cell_id: str
    sample: Sample
    text: str = ""
    scores: Mapping[str, Any] = field(default_factory=dict)
    tokens: TokenCount | None = None
    flops: float | None = None
    kv_bytes: int | None = None
    keep_mask: bytes | None = None
    geometry: tuple[int, int, int, int] | None = None
    error_type: str | None = None
    error_message: str | None = None
    encode_flops: float | None = None
