"""Questions and pictures on their way into the database; every unit brings its own and mostly finds them there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Column, Connection, bindparam, select

from hero_ray.core.text import clean_text
from hero_ray.core.types import Sample
from hero_ray.store.engine import dump_json
from hero_ray.store.records import ImageRecord, sample_id
from hero_ray.store.tables import SampleNumber, SampleTable
from hero_ray.store.writes import table

AT_ONCE = 500


def add_samples(
    connection: Connection, samples: Iterable[Sample], images: Iterable[ImageRecord] = ()
) -> dict[str, int]:
    """Store questions and thumbnails that are not there yet, in a fixed order (two writers cannot deadlock).

    Returns:
        Sample id -> the number under which its answers are kept.
    """
    pictures = {clean_text(image.hash): asdict(image) for image in images}
    _add(connection, "images", [pictures[key] | {"hash": key} for key in sorted(pictures)])
    named = {sample_id(sample): sample for sample in samples}
    keys, found = sorted(named), dict[str, int]()
    for start in range(0, len(keys), AT_ONCE):
        some = keys[start : start + AT_ONCE]
        there = sample_numbers(connection, some)
        if fresh := [key for key in some if key not in there]:
            _add(connection, "samples", [_in_text(sample_row(key, named[key])) for key in fresh])
            there |= _number(connection, fresh)
        found |= there
    return found


def sample_numbers(connection: Connection, sample_ids: Sequence[str]) -> dict[str, int]:
    """Sample id -> the number under which its answers are kept, of those that are there."""
    if not sample_ids:
        return {}
    marks, given = _places(connection, [tuple(sample_ids)])
    query = f"SELECT sample_id, number FROM sample_numbers WHERE sample_id IN {marks}"
    return {row[0]: row[1] for row in connection.exec_driver_sql(query, given)}


def by_number(connection: Connection, numbers: Sequence[int]) -> dict[int, tuple[str, Sample]]:
    """Number -> id and sample (without its `image_ref`), as scorers and aggregates take it."""
    s = table(SampleTable).c
    columns = (s.id, s.benchmark, s.sample_key, s.question, s.reference, s.image_hash, s.category, s.extra)
    return {
        number: (identity, Sample(name, key, question, wanted, picture, None, category, extra or {}))
        for number, identity, name, key, question, wanted, picture, category, extra in columns_by_number(
            connection, numbers, columns
        )
    }


def columns_by_number(connection: Connection, numbers: Sequence[int], columns: Sequence[Column[Any]]) -> Iterator[Any]:
    """(number, columns of its question, ...) of each number that is there, in any order."""
    number, ordered = table(SampleNumber).c.number, sorted(numbers)
    joined = select(number, *columns).join_from(table(SampleTable), table(SampleNumber))
    within = joined.where(number.between(bindparam("first"), bindparam("last")))
    for start in range(0, len(ordered), AT_ONCE):
        mine = ordered[start : start + AT_ONCE]
        if mine[-1] - mine[0] < 2 * len(mine):  # mostly they lie close: a list would be written and read at each call
            wanted, rows = set(mine), connection.execute(within, {"first": mine[0], "last": mine[-1]})
            yield from (row for row in rows.all() if row[0] in wanted)
        else:
            yield from connection.execute(joined.where(number.in_(mine)))


def sample_row(key: str, sample: Sample) -> dict[str, Any]:
    """A question as its row."""
    return {
        "id": key,
        "benchmark": sample.benchmark,
        "sample_key": clean_text(sample.key),
        "question": clean_text(sample.question),
        "reference": sample.references,
        "category": clean_text(sample.category),
        "image_hash": clean_text(sample.image_key),
        "extra": dict(sample.extra),
    }


def _number(connection: Connection, keys: Sequence[str]) -> dict[str, int]:
    """Number samples; what another writer numbered meanwhile keeps its number."""
    places, given = _places(connection, [(key,) for key in keys])
    query = f"INSERT INTO sample_numbers (sample_id) VALUES {places} ON CONFLICT DO NOTHING RETURNING sample_id, number"
    made = {row[0]: row[1] for row in connection.exec_driver_sql(query, given)}
    return made | sample_numbers(connection, [key for key in keys if key not in made])


def _in_text(row: dict[str, Any]) -> dict[str, Any]:
    return row | {name: dump_json(row[name]) for name in ("reference", "extra")}


def _add(connection: Connection, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows that are not there yet, their JSON as text."""
    for start in range(0, len(rows), AT_ONCE):
        places, given = _places(connection, [tuple(row.values()) for row in rows[start : start + AT_ONCE]])
        columns = ", ".join(rows[0])
        connection.exec_driver_sql(f"INSERT INTO {name} ({columns}) VALUES {places} ON CONFLICT DO NOTHING", given)


def _places(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> tuple[str, tuple[Any, ...]]:
    """Places of rows in a statement, and what goes there. SQLAlchemy would build the statement anew for every unit."""
    mark = "?" if connection.dialect.name == "sqlite" else "%s"
    row = f"({', '.join([mark] * len(rows[0]))})"
    return ", ".join([row] * len(rows)), tuple(value for each in rows for value in each)
