"""Tables of the figures printed in papers, as shipped; loading them replaces all rows."""

from __future__ import annotations

from sqlalchemy.orm import Mapped, mapped_column

from hero_ray.store.base import Base


class Printed:
    """What every figure printed in a paper has; `line` is its line in the shipped file."""

    line: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    paper: Mapped[str]
    table: Mapped[str]
    note: Mapped[str]


class Published(Printed, Base):
    """A main result printed in a paper."""

    __tablename__ = "published"
    model: Mapped[str]
    method: Mapped[str]
    budget: Mapped[float | None]
    benchmark: Mapped[str]
    category: Mapped[str]
    metric: Mapped[str]
    value: Mapped[float]
    printed: Mapped[str]
    measured_by: Mapped[str]
    plot: Mapped[bool]


class PublishedEfficiency(Printed, Base):
    """A cost figure printed in a paper; hardware and counting rules differ between papers."""

    __tablename__ = "published_efficiency"
    model: Mapped[str]
    method: Mapped[str]
    budget: Mapped[float | None]
    tokens: Mapped[float | None]
    tflops: Mapped[float | None]
    gpu_memory_gb: Mapped[float | None]
    kv_cache_mb: Mapped[float | None]
    decode_tokens_per_s: Mapped[float | None]
    latency_per_token_ms: Mapped[float | None]
    total_time: Mapped[float | None]
    throughput: Mapped[float | None]
    ttft_s: Mapped[float | None]
    hardware: Mapped[str]
    batch_size: Mapped[int | None]
    performance: Mapped[float | None]
    tflops_recomputed: Mapped[float | None]
    kv_mib_recomputed: Mapped[float | None]
    kv_mib_model: Mapped[float | None]


class PublishedAblation(Printed, Base):
    """An ablation figure printed in a paper; a row without a value says where the best setting lies."""

    __tablename__ = "published_ablations"
    variant: Mapped[str]
    parameter: Mapped[str]
    parameter_value: Mapped[str]
    benchmark: Mapped[str]
    category: Mapped[str]
    value: Mapped[float | None]
    printed: Mapped[str]
    plot: Mapped[bool]
