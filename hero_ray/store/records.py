"""Frozen records that the store hands out and takes in; no SQLAlchemy object leaves the room."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from hero_ray.core.types import Sample

CELL = (
    "model",
    "method",
    "variant",
    "params",
    "retention_ratio",
    "tokens",
    "seed",
    "benchmark",
    "flavour",
    "straw_man",
    "own_count",
)
"""What every reader is told of a cell, as named in `Cell`, the table and every row below."""

TERMINAL = frozenset({"complete", "failed", "cancelled", "superseded"})
"""Run states that no worker will leave again by itself."""


def sample_id(sample: Sample) -> str:
    """Identity of a question: a hash of its content.

    A dataset that changes a question, its reference or its picture thereby makes a new sample, so that two runs are
    only ever paired on questions that are truly the same.
    """
    content = (
        sample.benchmark,
        sample.key,
        sample.question,
        sample.references,
        sample.image_key,
        sample.category,
        dict(sample.extra),
    )
    text = json.dumps(content, sort_keys=True, ensure_ascii=True, default=str, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:24]


@dataclass(frozen=True)
class ImageRecord:
    """A picture's hash, size in pixels, and a small WebP or JPEG copy."""

    hash: str
    width: int
    height: int
    thumbnail: bytes | None = None


@dataclass(frozen=True)
class RowFile:
    """A Parquet file with the rows of one unit that waits to be loaded.

    Attributes:
        number: in the order in which files were written; 0 before the database knows of it.
        sha256: of its bytes, hexadecimal.
    """

    number: int
    run_id: str
    unit_id: str
    path: str
    n_rows: int
    n_bytes: int
    sha256: str


@dataclass(frozen=True)
class RunRow:
    """One execution of a sweep.

    Attributes:
        saved_answers, saved_replica_s: answers that were not asked because their cells were decided, and about how many
            seconds one replica would have taken for them.
        name, tags, note, described_at: what people say of it, and when they last did; see `described`.
    """

    id: str
    sweep_name: str
    config: Mapping[str, Any]
    config_hash: str
    status: str
    trigger: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    git_commit: str | None
    environment: Mapping[str, Any]
    cancel_requested: bool
    saved_answers: int = 0
    saved_replica_s: float = 0.0
    name: str = ""
    tags: Sequence[str] = ()
    note: str = ""
    described_at: datetime | None = None


@dataclass(frozen=True)
class Stopped:
    """A cell's early decision.

    Attributes:
        reason: what is surely known of it.
        pictures: after how many, in the order of `hero_ray.results.early.place`; 0 in runs that kept none.
        log_e: natural logarithm of the e-value that showed it.
    """

    reason: str
    pictures: int
    log_e: float


@dataclass(frozen=True)
class CellRow:
    """A cell inside a run, with its progress and (once summarised) its mean costs per sample."""

    run_id: str
    id: str
    model: str
    method: str
    variant: str
    params: Mapping[str, Any]
    retention_ratio: float
    tokens: int | None
    seed: int
    benchmark: str
    flavour: str
    straw_man: bool
    own_count: bool
    spec: Mapping[str, Any]
    status: str
    n_expected: int
    n_done: int
    n_failed: int
    stop_reason: str | None
    summarised_at: datetime | None
    mean_n_text: float | None
    mean_budget_nominal: float | None
    mean_n_selected: float | None
    mean_n_visual_llm: float | None
    mean_equivalent_tokens: float | None
    mean_flops: float | None
    mean_kv_bytes: float | None
    stop_pictures: int | None = None
    stop_log_e: float | None = None
    mean_encode_flops: float | None = None


@dataclass(frozen=True)
class ScoreRow:
    """One answered (or failed) sample of a cell. `image_key` is the cluster of every interval."""

    sample_id: str
    sample_key: str
    image_key: str
    category: str
    text: str
    score: float | None
    scores: Mapping[str, Any]
    question: str
    reference: Any
    extra: Mapping[str, Any]
    error_type: str | None
    error_message: str | None

    def sample(self, benchmark: str) -> Sample:
        """The sample behind this row, as scorers and aggregates take it (its `image_ref` is not kept)."""
        return Sample(
            benchmark, self.sample_key, self.question, self.reference, self.image_key, None, self.category, self.extra
        )


@dataclass(frozen=True)
class MetricRow:
    """One aggregated figure with its interval.

    Attributes:
        metric: key as lmms-eval's.
        value, ci_low, ci_high: in the metric's own unit.
        n, n_clusters: samples and distinct pictures behind it.
        is_main: whether charts use it.
        scale: what the figure is out of.
        interval: how the interval was made, for example "cluster-t".
        flags: what a reader must know of the figure, in words with semicolons between them.
    """

    metric: str
    value: float
    n: int
    category: str = ""
    ci_low: float | None = None
    ci_high: float | None = None
    n_clusters: int | None = None
    is_main: bool = False
    scale: float = 1.0
    interval: str | None = None
    flags: str = ""


@dataclass(frozen=True)
class CellCount:
    """Progress of one cell: how many samples it should have, has answered, and has failed."""

    expected: int
    done: int
    failed: int

    @property
    def missing(self) -> int:
        return max(0, self.expected - self.done - self.failed)


@dataclass(frozen=True)
class PointRow:
    """One point of a frontier: a cell, one metric with its interval, and every cost known for it.

    `flops` and `kv_bytes` are means over the quality run's samples; the profile columns come from a profile run and are
    None without one. Speeds may share an axis only where `certificate_hash` is equal.
    """

    run_id: str
    cell_id: str
    model: str
    method: str
    variant: str
    params: Mapping[str, Any]
    retention_ratio: float
    tokens: int | None
    seed: int
    benchmark: str
    flavour: str
    metric: str
    category: str
    value: float
    ci_low: float | None
    ci_high: float | None
    n: int
    n_clusters: int | None
    n_failed: int
    scale: float
    stop_reason: str | None
    n_selected: float | None
    n_visual_llm: float | None
    equivalent_tokens: float | None
    flops: float | None
    kv_bytes: float | None
    straw_man: bool = False
    own_count: bool = False
    flags: str = ""
    encode_flops: float | None = None
    profile: Mapping[str, Any] = field(default_factory=dict)
