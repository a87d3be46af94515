"""The results database: tables, idempotent writes, named read queries.

`open_store(url)` is the door. SQLite serves one machine, PostgreSQL several; nothing above this room writes SQL.
"""

from hero_ray.store.engine import default_url
from hero_ray.store.records import (
    CellCount,
    CellRow,
    ImageRecord,
    MetricRow,
    PointRow,
    RunRow,
    ScoreRow,
    sample_id,
)
from hero_ray.store.store import Store, open_store

__all__ = [
    "CellCount",
    "CellRow",
    "ImageRecord",
    "MetricRow",
    "PointRow",
    "RunRow",
    "ScoreRow",
    "Store",
    "default_url",
    "open_store",
    "sample_id",
]
