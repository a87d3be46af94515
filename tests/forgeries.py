"""A forger with write access who keeps what he alters consistent: figures and means are made anew behind him."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection, text

from hero_ray.pipeline.facts import Plan
from hero_ray.results.close import close_cells
from hero_ray.store import Store

KINDS = ("text", "score", "mask", "cost", "sample", "metric")


@dataclass(frozen=True)
class Forgery:
    """What was altered: `key` is a sample's, or a metric's name; `cell` is "" for a question of all cells."""

    kind: str
    cell: str
    key: str


ROWS = (
    "select o.cell, o.sample, n.cell_id, s.sample_key, s.id as sample_id, p.text, p.score, p.scores, p.keep_mask, o.cut"
    " from outcomes o join cell_numbers n on n.number = o.cell join sample_numbers m on m.number = o.sample"
    " join samples s on s.id = m.sample_id"
    " join predictions p on p.run_id = n.run_id and p.cell_id = n.cell_id and p.sample_id = s.id"
    " where n.run_id = :run order by n.cell_id, s.sample_key"
)


def plant(store: Store, plan: Plan, run_id: str, count: int, seed: int = 0) -> list[Forgery]:
    """Alter so many answers, questions and figures of a run, of the six kinds in turn, never one of them twice."""
    draw = random.Random(seed)
    with store.engine.connect() as connection:
        rows = [dict(row) for row in connection.execute(text(ROWS), {"run": run_id}).mappings()]
    draw.shuffle(rows)
    partly = [
        row for row in rows if row["keep_mask"] and 0 < _bits(row["keep_mask"]).sum() < _bits(row["keep_mask"]).size
    ]
    planted: list[Forgery] = []
    touched: set[Any] = set()

    def free(choice: list[dict[str, Any]]) -> dict[str, Any]:
        row = next(row for row in choice if row["sample_id"] not in touched)
        touched.add(row["sample_id"])
        return row

    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        if kind == "metric":
            continue
        row = free(partly if kind == "mask" else rows)
        store.transaction(_CHANGES[kind], row)
        planted.append(Forgery(kind, "" if kind == "sample" else row["cell_id"], row["sample_key"]))
    close_cells(store, run_id, plan.cells, plan.benchmarks)  # the forger's figures fit his rows
    cells = sorted({row["cell_id"] for row in rows})
    for number in range(count // len(KINDS)):
        planted.append(store.transaction(_metric, run_id, cells[number]))
    return planted


def _bits(mask: bytes) -> np.ndarray:
    return np.unpackbits(np.frombuffer(bytes(mask), dtype=np.uint8))


def _update(connection: Connection, row: dict[str, Any], **values: Any) -> None:
    named = ", ".join(f"{name} = :{name}" for name in values)
    where = {"cell": row["cell"], "sample": row["sample"]}
    connection.execute(text(f"update outcomes set {named} where cell = :cell and sample = :sample"), where | values)


def _text(connection: Connection, row: dict[str, Any]) -> None:
    _update(connection, row, text="no" if row["text"] != "no" else "yes")


def _score(connection: Connection, row: dict[str, Any]) -> None:
    scores = json.loads(row["scores"]) if isinstance(row["scores"], str) else row["scores"]
    other = 1.0 - float(row["score"])
    forged = {name: other if isinstance(value, float) else value for name, value in scores.items()}
    _update(connection, row, score=other, scores=json.dumps(forged))


def _mask(connection: Connection, row: dict[str, Any]) -> None:
    """As many tokens, one of them another, for this answer alone."""
    bits = _bits(row["keep_mask"])
    kept, dropped = np.flatnonzero(bits)[0], np.flatnonzero(bits == 0)[0]
    bits[kept], bits[dropped] = 0, 1
    columns = "budget_nominal, n_selected, n_visual_llm, equivalent_tokens, visual_per_layer, encode_flops, geometry"
    number = connection.execute(text("select max(number) + 1 from cuts")).scalar_one()
    connection.execute(
        text(
            f"insert into cuts (number, keep_mask, {columns}) select :n, :mask, {columns} from cuts where number = :old"
        ),
        {"n": number, "mask": np.packbits(bits).tobytes(), "old": row["cut"]},
    )
    _update(connection, row, cut=number)


def _cost(connection: Connection, row: dict[str, Any]) -> None:
    where = {"cell": row["cell"], "sample": row["sample"]}
    connection.execute(text("update outcomes set flops = flops * 0.5 where cell = :cell and sample = :sample"), where)


def _sample(connection: Connection, row: dict[str, Any]) -> None:
    statement = text("update samples set question = question || ' Really?' where id = :id")
    connection.execute(statement, {"id": row["sample_id"]})


def _metric(connection: Connection, run_id: str, cell_id: str) -> Forgery:
    where = {"run": run_id, "cell": cell_id}
    mine = "run_id = :run and cell_id = :cell and is_main and category = ''"
    name = connection.execute(text(f"select metric from metrics where {mine}"), where).scalar_one()
    connection.execute(text(f"update metrics set value = value * 0.9 + 0.1001 where {mine}"), where)
    return Forgery("metric", cell_id, name)


_CHANGES = {"text": _text, "score": _score, "mask": _mask, "cost": _cost, "sample": _sample}
