"""Units whose rows lie in files, and what they must be in the database afterwards."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import select

from hero_ray.pipeline import row_files as files
from hero_ray.pipeline.row_files import RowWriter
from hero_ray.store import ImageRecord, Store
from hero_ray.store.tables import PredictionTable
from tests import stored as data

CELLS = [data.cell("hero"), data.cell("random"), data.cell("full")]
UNITS = {f"unit{i}": [data.sample(4 * i + j, image=i) for j in range(4)] for i in range(6)}
QUESTIONS = 24


def begin(store: Store) -> None:
    data.begin(store, cells=CELLS, samples=QUESTIONS)


def writer(store: Store, folder: Path) -> RowWriter:
    files.begin(store, "run1", folder, print)
    return RowWriter(store, "run1", folder, {})


def written(store: Store, folder: Path) -> list[Path]:
    """One answer a cell and question of every unit, in a file each."""
    own = writer(store, folder)
    for unit, samples in UNITS.items():
        store.begin_unit("run1", unit)
        picture = [ImageRecord(samples[0].image_key, 640, 480, b"webp")]
        own.write(unit, 1, [data.answer(c, s) for c in CELLS for s in samples], picture, len(samples))
    return sorted(folder.rglob("*.parquet"))


def everything(store: Store) -> list[tuple[object, ...]]:
    """All that predictions say, equal on both databases."""
    view = PredictionTable.__table__
    with store.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(select(view).order_by(view.c.cell_id, view.c.sample_id))]
