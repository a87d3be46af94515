"""Predictions on their way into the database: narrow rows, one bulk insert a unit, and the counts moved with it.

SQLite takes the rows of a unit by one prepared statement each for outcomes and cuts, PostgreSQL by binary COPY:
straight into its tables where all are new, as they nearly always are, else into tables of the connection's own and
from there by one merge.
Either way the counters of the unit's cells move in the same transaction, so that progress costs the same at the first
and at the last answer; `hero-ray db check` recounts them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Select, delete, func, select
from sqlalchemy.exc import IntegrityError

from hero_ray.core.errors import StoreError
from hero_ray.core.text import clean_text
from hero_ray.core.types import Prediction, Sample
from hero_ray.store import merge
from hero_ray.store.engine import dump_json
from hero_ray.store.records import sample_id
from hero_ray.store.samples import sample_numbers
from hero_ray.store.tables import CellNumber, CellTotal, CutTable, OutcomeTable, RowFileTable, SampleNumber
from hero_ray.store.writes import finite, table

CUT = tuple(merge.CUT)
OWN = ("text", "score", "scores", "n_text", "flops", "kv_bytes", "error_type", "error_message", "attempts")
"""What is an answer's own, in the order of its row."""
_FAILURE = OWN.index("error_type")
_UNSEEN = -1
IN_JSON = ("scores", "visual_per_layer", "geometry")
"""Of them the ones written as JSON."""

Key = tuple[str, str]
"""Cell and sample of an answer."""
Rows = list[tuple[Any, ...]]
Counts = dict[int, tuple[int, int]]
"""Cell number -> rows, and failures among them."""


class SeenBefore(Exception):
    """Some rows of a unit are there already: it must be written once more, with a look at them first."""


@dataclass
class Batch:
    """Answers of one run as they are written, in any order.

    Attributes:
        rows: by cell and sample: (place of the cut among `cuts`, *`OWN`).
        cuts: what is in `CUT`.
    """

    run_id: str
    rows: dict[Key, tuple[Any, ...]] = field(default_factory=dict)
    cuts: list[tuple[Any, ...]] = field(default_factory=list)
    _places: dict[Any, int | None] = field(default_factory=dict)
    _texts: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls, run_id: str, predictions: Sequence[Prediction], samples: Sequence[Sample], metrics: Mapping[str, str]
    ) -> Batch:
        """Args: metrics: benchmark -> the metric kept in `predictions.score`."""
        batch = cls(run_id)
        names = {id(sample): sample_id(sample) for sample in samples}  # cells share samples: hash each once
        for each in predictions:
            batch.add(each, names[id(each.sample)], metrics.get(each.sample.benchmark))
        return batch

    @property
    def cells(self) -> set[str]:
        return {cell for cell, _ in self.rows}

    def add(self, prediction: Prediction, sample: str, metric: str | None) -> None:
        """Take a prediction in; a score that is not finite makes it a named failure.

        Args:
            metric: the one kept in `predictions.score`.
        """
        error_type, message, tokens = prediction.error_type, prediction.error_message, prediction.tokens
        score = None if error_type else main_score(prediction.scores, metric)
        if score is not None and not math.isfinite(score):
            score, error_type, message = None, "NonFiniteScoreError", f"the benchmark scored this answer {score}"
        self.put(
            (prediction.cell_id, sample),
            (
                self._cut(prediction),
                clean_text(prediction.text),
                score,
                None if error_type else self._json(prediction.scores),
                tokens and tokens.n_text,
                prediction.flops,
                prediction.kv_bytes,
                error_type,
                clean_text(message)[:2000] if message else None,
                1,
            ),
        )

    def put(self, key: Key, row: tuple[Any, ...]) -> None:
        """Of two outcomes of one sample the answer counts, and of two answers the first."""
        before = self.rows.get(key)
        if before is None or before[1 + _FAILURE] is not None:
            self.rows[key] = row

    def add_row(self, row: Mapping[str, Any]) -> None:
        """Take in a row as the view gives it."""
        texts = {name: None if row[name] is None else dump_json(row[name]) for name in IN_JSON}
        told = {**row, **texts}
        cut, own = (tuple(told[name] for name in names) for names in (CUT, OWN))
        self.add_told((row["cell_id"], row["sample_id"]), cut, own)

    def add_told(self, key: Key, cut: tuple[Any, ...], own: tuple[Any, ...]) -> None:
        """Take in a row whose JSON is text already, in the order of `CUT` and `OWN`."""
        if cut not in self._places:
            self._places[cut] = self._place(cut)
        self.put(key, (self._places[cut], *own))

    def take_in(self, other: Batch) -> None:
        """All rows of another batch of the run."""
        first = len(self.cuts)
        self.cuts += other.cuts
        for key, (place, *own) in other.rows.items():
            self.put(key, (None if place is None else first + place, *own))

    def failed(self) -> Iterator[tuple[Key, bool]]:
        """Of every row, whether it is a failure."""
        return ((key, row[1 + _FAILURE] is not None) for key, row in self.rows.items())

    def _json(self, scores: Mapping[str, Any]) -> str:
        """Most answers of a unit score one of a few things, which are written once; their repr tells 1 from 1.0."""
        key = repr(scores)
        if (text := self._texts.get(key)) is None:
            text = self._texts[key] = dump_json(finite(dict(scores)))
        return text

    def _cut(self, prediction: Prediction) -> int | None:
        tokens, cost, mask = prediction.tokens, prediction.encode_flops, prediction.keep_mask
        told = tokens and (tokens.budget_nominal, tokens.n_selected, tokens.n_visual_llm, tokens.visual_per_layer)
        key = (told, cost, mask, prediction.geometry)
        if (place := self._places.get(key, _UNSEEN)) != _UNSEEN:  # one look: its hash goes over mask and blocks
            return place
        layers = tokens.visual_per_layer if tokens else ()
        geometry = dump_json(list(prediction.geometry)) if prediction.geometry else None
        # Tokens alive per block only where they differ between blocks: they repeat `n_visual_llm` otherwise.
        differing = dump_json(list(layers)) if len(set(layers)) > 1 else None
        counts = (*told[:3], tokens.equivalent_tokens) if tokens and told else (None,) * 4
        place = self._places[key] = self._place((*counts, differing, cost, mask, geometry))
        return place

    def _place(self, cut: tuple[Any, ...]) -> int | None:
        """None for an answer that tells nothing of its tokens."""
        if not any(value is not None for value in cut):
            return None
        self.cuts.append(cut)
        return len(self.cuts) - 1


def main_score(scores: Mapping[str, Any], metric: str | None) -> float | None:
    """A sample's figure for charts and paired tests.

    `metric` names it; without, or where the scorer has no such key, the first number among `scores` is taken. A
    composite entry counts by its own "score".
    """
    ordered = (scores[metric],) if metric is not None and metric in scores else scores.values()
    for value in ordered:
        if type(value) is float:
            return value
        value = value.get("score") if isinstance(value, Mapping) else value
        if value is not None and not isinstance(value, str) and hasattr(value, "__float__"):
            return float(value)
    return None


def write(
    connection: Connection,
    batch: Batch,
    cells: Mapping[str, int],
    samples: Mapping[str, int],
    careful: bool = True,
    counted: bool = False,
) -> None:
    """Upsert on (cell, sample): a committed answer stays as it is, a failure gives way to a later outcome.

    Args:
        cells, samples: numbers by id.
        careful: look at what is there. Spared where hardly ever anything is; then `SeenBefore` tells of it.
        counted: the counters moved already, when these rows were written to a file.

    Raises:
        StoreError: a cell that is none of the run's.
        SeenBefore: not careful, and some rows are there. Nothing may be committed.
    """
    if not batch.rows:
        return
    refuse_strangers(batch, cells)
    first = merge.first_cut(connection, len(batch.cuts))
    rows = [
        (cells[cell], samples[sample], None if row[0] is None else first + row[0], *row[1:])
        for (cell, sample), row in batch.rows.items()
    ]
    rows.sort(key=itemgetter(0, 1))  # in one order, so that two writers of the same cannot deadlock
    cuts = [(number, *cut) for number, cut in enumerate(batch.cuts, first)]
    sqlite = connection.dialect.name == "sqlite"
    if careful and not sqlite:
        merge.arrive(connection, cuts, rows, counted)
        return
    before = _stored(connection, rows) if careful and not counted else {}
    if sqlite:
        _add_to_sqlite(connection, cuts, rows, careful)
    else:
        _add_to_postgresql(connection, cuts, rows)
    if counted:
        return
    after = _stored(connection, rows) if careful else _counted(rows)
    none = (0, 0)
    moved = [(c, n - before.get(c, none)[0], bad - before.get(c, none)[1]) for c, (n, bad) in after.items()]
    merge.move(connection, moved)


def _add_to_sqlite(connection: Connection, cuts: Rows, rows: Rows, careful: bool) -> None:
    if cuts:
        connection.exec_driver_sql(merge.SQLITE_CUTS, cuts)
    found = connection.exec_driver_sql(merge.SQLITE_UPSERT if careful else merge.SQLITE_FRESH, rows)
    if not careful and found.rowcount < len(rows):
        raise SeenBefore


def _add_to_postgresql(connection: Connection, cuts: Rows, rows: Rows) -> None:
    try:
        merge.add_new(connection, cuts, rows)
    except IntegrityError:
        raise SeenBefore from None


def refuse_strangers(batch: Batch, cells: Mapping[str, int]) -> None:
    """Raises StoreError for a cell that is none of the run's."""
    if strangers := batch.cells - cells.keys():
        raise StoreError(f"cell {min(strangers)} is no cell of run {batch.run_id}; plan it before answers are stored")


def write_rows(connection: Connection, rows: Iterable[Mapping[str, Any]]) -> None:
    """Upsert rows as the view gives them, whatever their runs."""
    batches: dict[str, Batch] = {}
    for row in rows:
        batches.setdefault(row["run_id"], Batch(row["run_id"])).add_row(row)
    for run_id, batch in batches.items():
        samples = sample_numbers(connection, sorted({sample for _, sample in batch.rows}))
        write(connection, batch, cell_numbers(connection, run_id), samples)


def cell_numbers(connection: Connection, run_id: str) -> dict[str, int]:
    """Cell id -> the number under which its answers in a run are kept."""
    n = table(CellNumber).c
    return {
        row.cell_id: row.number for row in connection.execute(select(n.cell_id, n.number).where(n.run_id == run_id))
    }


def _counted(rows: Sequence[tuple[Any, ...]]) -> Counts:
    found: Counts = {}
    for row in rows:
        n, failed = found.get(row[0], (0, 0))
        found[row[0]] = n + 1, failed + (row[3 + _FAILURE] is not None)
    return found


def _stored(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> Counts:
    """What is there of the cells and samples of a unit."""
    o = table(OutcomeTable).c
    mine = o.cell.in_(sorted({row[0] for row in rows})) & o.sample.in_(sorted({row[1] for row in rows}))
    statement = select(o.cell, func.count(), func.count(o.error_type)).where(mine).group_by(o.cell)
    return {cell: (n, failed) for cell, n, failed in connection.execute(statement)}


def asked() -> Select[tuple[str]]:
    """Ids of the samples that any outcome belongs to."""
    n = table(SampleNumber).c
    return select(n.sample_id).where(n.number.in_(select(table(OutcomeTable).c.sample)))


def forget(connection: Connection, run_ids: Sequence[str]) -> int:
    """Remove all answers of some runs and the cuts that nobody else has; how many answers there were.

    Answers in row files are forgotten too, and not counted; the files stay.
    """
    outcomes, cuts, numbers = table(OutcomeTable), table(CutTable), table(CellNumber).c
    mine = select(numbers.number).where(numbers.run_id.in_(run_ids))
    connection.execute(delete(table(CellTotal)).where(table(CellTotal).c.cell.in_(mine)))
    connection.execute(delete(table(RowFileTable)).where(table(RowFileTable).c.run_id.in_(run_ids)))
    gone = connection.execute(delete(outcomes).where(outcomes.c.cell.in_(mine))).rowcount
    used = select(outcomes.c.cut).where(outcomes.c.cut.is_not(None))
    connection.execute(delete(cuts).where(cuts.c.number.not_in(used)))
    return int(gone)
