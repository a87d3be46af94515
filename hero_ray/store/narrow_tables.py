"""Where answers lie: rows of numbers and a text, and once for all of them what many have in common.

Nobody outside of the writers reads these: the view `predictions` joins them to one row an answer.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, ForeignKeyConstraint, Index, Integer, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from hero_ray.store.base import Base

_LONG = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by INTEGER alone


class CellNumber(Base):
    """A cell of a run in four bytes instead of forty."""

    __tablename__ = "cell_numbers"
    number: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[str]
    cell_id: Mapped[str]

    __table_args__ = (
        UniqueConstraint("run_id", "cell_id"),
        ForeignKeyConstraint(["run_id", "cell_id"], ["run_cells.run_id", "run_cells.cell_id"], ondelete="CASCADE"),
    )


class CellTotal(Base):
    """How many answers and failures are stored of a cell of a run: the sum over its shards, moved with the answers."""

    __tablename__ = "cell_totals"
    cell: Mapped[int] = mapped_column(ForeignKey("cell_numbers.number", ondelete="CASCADE"), primary_key=True)
    shard: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    stored: Mapped[int]
    failed: Mapped[int]


class SampleNumber(Base):
    """A question in a few bytes."""

    __tablename__ = "sample_numbers"
    number: Mapped[int] = mapped_column(_LONG, primary_key=True)
    sample_id: Mapped[str] = mapped_column(ForeignKey("samples.id", ondelete="CASCADE"), unique=True)


class CutTable(Base):
    """What a method left of a picture, once for all answers of a unit that share it."""

    __tablename__ = "cuts"
    number: Mapped[int] = mapped_column(_LONG, primary_key=True, autoincrement=False)
    budget_nominal: Mapped[int | None]
    n_selected: Mapped[int | None]
    n_visual_llm: Mapped[int | None]
    equivalent_tokens: Mapped[float | None]
    visual_per_layer: Mapped[Any | None]
    encode_flops: Mapped[float | None]
    keep_mask: Mapped[bytes | None]
    geometry: Mapped[Any | None]


class OutcomeTable(Base):
    """An answer or a failure. `sample` and `cut` are written before it in the same transaction, and go after it.

    Nor has `cell` a foreign key, which would be looked up (and on PostgreSQL locked) for each answer: the counters of
    the cell, which move in the same transaction, have one.
    """

    __tablename__ = "outcomes"
    cell: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    sample: Mapped[int] = mapped_column(_LONG, primary_key=True, autoincrement=False)
    cut: Mapped[int | None] = mapped_column(_LONG)
    text: Mapped[str]
    score: Mapped[float | None]
    scores: Mapped[Any | None]
    n_text: Mapped[int | None]
    flops: Mapped[float | None]
    kv_bytes: Mapped[int | None] = mapped_column(BigInteger)
    error_type: Mapped[str | None]
    error_message: Mapped[str | None]
    attempts: Mapped[int] = mapped_column(default=1, server_default="1")

    __table_args__ = ({"sqlite_with_rowid": False},)


class RowFileTable(Base):
    """A file with the rows of a unit that waits to be loaded, and what it added to the counters (`row_files`)."""

    __tablename__ = "row_files"
    number: Mapped[int] = mapped_column(_LONG, primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    unit_id: Mapped[str]
    path: Mapped[str]
    n_rows: Mapped[int]
    n_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
    counts: Mapped[Any]
    written_at: Mapped[datetime]
    loaded_at: Mapped[datetime | None]

    __table_args__ = (Index(None, "run_id", "unit_id"),)
