"""Every table of the results database, the same on SQLite and PostgreSQL.

A change here needs an Alembic revision under `db/versions`; a test compares the two.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, ForeignKeyConstraint, false
from sqlalchemy.orm import Mapped, mapped_column

from hero_ray.store.base import VIEW, Base
from hero_ray.store.narrow_tables import CellNumber as CellNumber
from hero_ray.store.narrow_tables import CellTotal as CellTotal
from hero_ray.store.narrow_tables import CutTable as CutTable
from hero_ray.store.narrow_tables import OutcomeTable as OutcomeTable
from hero_ray.store.narrow_tables import RowFileTable as RowFileTable
from hero_ray.store.narrow_tables import SampleNumber as SampleNumber
from hero_ray.store.printed_tables import Published as Published
from hero_ray.store.printed_tables import PublishedAblation as PublishedAblation
from hero_ray.store.printed_tables import PublishedEfficiency as PublishedEfficiency


class Run(Base):
    """One execution of a sweep."""

    __tablename__ = "runs"
    id: Mapped[str] = mapped_column(primary_key=True)
    sweep_name: Mapped[str]
    config: Mapped[dict[str, Any]]
    config_hash: Mapped[str] = mapped_column(index=True)
    status: Mapped[str]
    trigger: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(index=True)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    git_commit: Mapped[str | None]
    environment: Mapped[dict[str, Any]]
    cancel_requested: Mapped[bool] = mapped_column(default=False, server_default=false())
    saved_answers: Mapped[int] = mapped_column(default=0, server_default="0")
    saved_replica_s: Mapped[float] = mapped_column(default=0.0, server_default="0")
    name: Mapped[str] = mapped_column(default="", server_default="")
    tags: Mapped[Any] = mapped_column(default=list, server_default="[]")
    note: Mapped[str] = mapped_column(default="", server_default="")
    described_at: Mapped[datetime | None]


class CellTable(Base):
    """One point of a sweep, shared by every run that measures it."""

    __tablename__ = "cells"
    id: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str]
    method: Mapped[str]
    variant: Mapped[str]
    params: Mapped[dict[str, Any]]
    retention_ratio: Mapped[float]
    tokens: Mapped[int | None]
    seed: Mapped[int] = mapped_column(default=0, server_default="0")
    benchmark: Mapped[str] = mapped_column(index=True)
    flavour: Mapped[str]
    spec: Mapped[dict[str, Any]]
    straw_man: Mapped[bool] = mapped_column(default=False, server_default=false())
    own_count: Mapped[bool] = mapped_column(default=False, server_default=false())


class RunCell(Base):
    """A cell inside a run: progress, and mean costs once summarised (to group 10^6 predictions takes 0.7 s)."""

    __tablename__ = "run_cells"
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    cell_id: Mapped[str] = mapped_column(ForeignKey("cells.id"), primary_key=True, index=True)
    position: Mapped[int] = mapped_column(default=0, server_default="0")
    status: Mapped[str]
    n_expected: Mapped[int]
    n_done: Mapped[int] = mapped_column(default=0, server_default="0")
    n_failed: Mapped[int] = mapped_column(default=0, server_default="0")
    stop_reason: Mapped[str | None]
    stop_pictures: Mapped[int | None]
    stop_log_e: Mapped[float | None]
    summarised_at: Mapped[datetime | None]
    mean_n_text: Mapped[float | None]
    mean_budget_nominal: Mapped[float | None]
    mean_n_selected: Mapped[float | None]
    mean_n_visual_llm: Mapped[float | None]
    mean_equivalent_tokens: Mapped[float | None]
    mean_flops: Mapped[float | None]
    mean_encode_flops: Mapped[float | None]
    mean_kv_bytes: Mapped[float | None]


class SampleTable(Base):
    """One question; `image_hash` is the cluster of every interval."""

    __tablename__ = "samples"
    id: Mapped[str] = mapped_column(primary_key=True)
    benchmark: Mapped[str] = mapped_column(index=True)
    sample_key: Mapped[str]
    question: Mapped[str]
    reference: Mapped[Any | None]
    category: Mapped[str] = mapped_column(default="", server_default="")
    image_hash: Mapped[str] = mapped_column(index=True)
    extra: Mapped[Any | None]


class ImageTable(Base):
    """A picture's size and a small copy of it (WebP or JPEG bytes)."""

    __tablename__ = "images"
    hash: Mapped[str] = mapped_column(primary_key=True)
    width: Mapped[int]
    height: Mapped[int]
    thumbnail: Mapped[bytes | None]


class PredictionTable(Base):
    """The outcome of one sample in one cell of one run; a failure is a row too.

    A view for readers over `narrow_tables`; `bulk` writes what is behind it.
    """

    __tablename__ = "predictions"
    run_id: Mapped[str] = mapped_column(primary_key=True)
    cell_id: Mapped[str] = mapped_column(primary_key=True)
    sample_id: Mapped[str] = mapped_column(primary_key=True)
    text: Mapped[str]
    score: Mapped[float | None]
    scores: Mapped[Any | None]
    n_text: Mapped[int | None]
    budget_nominal: Mapped[int | None]
    n_selected: Mapped[int | None]
    n_visual_llm: Mapped[int | None]
    equivalent_tokens: Mapped[float | None]
    visual_per_layer: Mapped[Any | None]
    flops: Mapped[float | None]
    encode_flops: Mapped[float | None]
    kv_bytes: Mapped[int | None] = mapped_column(BigInteger)
    keep_mask: Mapped[bytes | None]
    geometry: Mapped[Any | None]
    error_type: Mapped[str | None]
    error_message: Mapped[str | None]
    attempts: Mapped[int]

    __table_args__ = ({"info": {VIEW: True}},)


class UnitAttempt(Base):
    """How often a unit was begun, committed before the work: one that kills its process must not be begun forever.

    `settled` is the number of its questions once nothing of it is missing.
    """

    __tablename__ = "unit_attempts"
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    unit_id: Mapped[str] = mapped_column(primary_key=True)
    attempts: Mapped[int]
    begun_at: Mapped[datetime]
    settled: Mapped[int | None]


class Lease(Base):
    """Who works on a run, and until when that claim holds without a heartbeat."""

    __tablename__ = "leases"
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    holder: Mapped[str]
    acquired_at: Mapped[datetime]
    expires_at: Mapped[datetime]


class EndingTable(Base):
    """What a sweep printed at its end, and the hash of all it was made from; worked out again once that differs."""

    __tablename__ = "endings"
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    made_from: Mapped[str]
    shown: Mapped[dict[str, Any]]


class MetricTable(Base):
    """One aggregated figure of a cell with its interval; `category` "" is the whole benchmark."""

    __tablename__ = "metrics"
    run_id: Mapped[str] = mapped_column(primary_key=True)
    cell_id: Mapped[str] = mapped_column(primary_key=True)
    metric: Mapped[str] = mapped_column(primary_key=True)
    category: Mapped[str] = mapped_column(primary_key=True, default="")
    value: Mapped[float]
    ci_low: Mapped[float | None]
    ci_high: Mapped[float | None]
    n: Mapped[int]
    n_clusters: Mapped[int | None]
    is_main: Mapped[bool] = mapped_column(default=False, server_default=false())
    scale: Mapped[float] = mapped_column(default=1.0, server_default="1.0")
    interval: Mapped[str | None]
    flags: Mapped[str] = mapped_column(default="", server_default="")

    __table_args__ = (
        ForeignKeyConstraint(["run_id", "cell_id"], ["run_cells.run_id", "run_cells.cell_id"], ondelete="CASCADE"),
    )


class Profile(Base):
    """Speed and memory of whole requests, with the certificate that says under what conditions."""

    __tablename__ = "profiles"
    run_id: Mapped[str] = mapped_column(primary_key=True)
    cell_id: Mapped[str] = mapped_column(primary_key=True)
    batch_size: Mapped[int] = mapped_column(primary_key=True)
    new_tokens: Mapped[int] = mapped_column(primary_key=True)
    tokens: Mapped[float | None]
    tflops_paper: Mapped[float | None]
    tflops_model: Mapped[float | None]
    tflops_encoder: Mapped[float | None]
    tflops_scoring: Mapped[float | None]
    kv_bytes: Mapped[float | None]
    peak_memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    encode_ms: Mapped[float | None]
    select_ms: Mapped[float | None]
    prefill_ms: Mapped[float | None]
    ttft_ms_p50: Mapped[float | None]
    ttft_ms_p95: Mapped[float | None]
    tpot_ms_p50: Mapped[float | None]
    decode_tokens_per_s: Mapped[float | None]
    n: Mapped[int | None]
    certificate: Mapped[Any | None]
    certificate_hash: Mapped[str]
    details: Mapped[Any | None]

    __table_args__ = (
        ForeignKeyConstraint(["run_id", "cell_id"], ["run_cells.run_id", "run_cells.cell_id"], ondelete="CASCADE"),
    )


class StudyTable(Base):
    """One execution of a study: what was asked and the figures found; pictures lie in files."""

    __tablename__ = "studies"
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(index=True)
    model: Mapped[str]
    request: Mapped[dict[str, Any]]
    result: Mapped[dict[str, Any]]
    git_commit: Mapped[str | None]
    created_at: Mapped[datetime]


class VerificationTable(Base):
    """What asking some stored answers of a run again found; `content` is a hash of the rows it was held against."""

    __tablename__ = "verifications"
    id: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime]
    verdict: Mapped[str]
    fraction: Mapped[float]
    seed: Mapped[str]
    pictures: Mapped[int]
    drawn: Mapped[int]
    answers: Mapped[int]
    bit_equal: Mapped[int]
    equal_text: Mapped[int]
    differs: Mapped[int]
    unasked: Mapped[int]
    recounted: Mapped[int]
    content: Mapped[str]
    git_commit: Mapped[str | None]
    report: Mapped[dict[str, Any]]


class Alert(Base):
    """Something a person should look at: a regression, a failed nightly run."""

    __tablename__ = "alerts"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    run_id: Mapped[str | None] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), index=True)
    cell_id: Mapped[str | None]
    kind: Mapped[str]
    severity: Mapped[str]
    message: Mapped[str]
    details: Mapped[Any | None]
    created_at: Mapped[datetime]
    acknowledged_at: Mapped[datetime | None]
