"""Answers as narrow rows behind a view, counters that move with them, and units of which nothing is missing.

`predictions` is read as before. Its rows lie in `outcomes`, under numbers instead of hashes; what all questions about a
picture have in common under one method lies once in `cuts`.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0005"
down_revision: str | Sequence[str] | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
CUT = {
    "budget_nominal": sa.Integer(),
    "n_selected": sa.Integer(),
    "n_visual_llm": sa.Integer(),
    "equivalent_tokens": sa.Double(),
    "visual_per_layer": JSON,
    "encode_flops": sa.Double(),
    "keep_mask": sa.LargeBinary(),
    "geometry": JSON,
}
OWN = {
    "text": sa.Text(),
    "score": sa.Double(),
    "scores": JSON,
    "n_text": sa.Integer(),
    "flops": sa.Double(),
    "kv_bytes": sa.BigInteger(),
    "error_type": sa.Text(),
    "error_message": sa.Text(),
}
WIDE = (
    *("run_id", "cell_id", "sample_id", "text", "score", "scores", "n_text", "budget_nominal", "n_selected"),
    *("n_visual_llm", "equivalent_tokens", "visual_per_layer", "flops", "encode_flops", "kv_bytes", "keep_mask"),
    *("geometry", "error_type", "error_message", "attempts"),
)
PLACE = {
    **{name: f"k.{name}" for name in CUT},
    **{name: f"o.{name}" for name in (*OWN, "attempts")},
    "run_id": "c.run_id",
    "cell_id": "c.cell_id",
    "sample_id": "s.sample_id",
}
VIEW = (
    f"CREATE VIEW predictions AS SELECT {', '.join(f'{PLACE[name]} AS {name}' for name in WIDE)} FROM outcomes o "
    "JOIN cell_numbers c ON c.number = o.cell JOIN sample_numbers s ON s.number = o.sample "
    "LEFT JOIN cuts k ON k.number = o.cut"
)
CHUNK = 5000
BLOCK = 2**16


def upgrade() -> None:
    tables()
    op.execute("INSERT INTO cell_numbers (run_id, cell_id) SELECT run_id, cell_id FROM run_cells")
    op.execute("INSERT INTO sample_numbers (sample_id) SELECT id FROM samples")
    narrow(op.get_bind())
    op.execute(
        "INSERT INTO cell_totals (cell, shard, stored, failed) "
        "SELECT cell, 0, count(*), count(error_type) FROM outcomes GROUP BY cell"
    )
    op.drop_table("predictions")
    op.execute(VIEW)
    op.add_column("unit_attempts", sa.Column("settled", sa.Integer(), nullable=True))


def tables() -> None:
    def cells(name: str) -> sa.ForeignKeyConstraint:
        targets = ["run_cells.run_id", "run_cells.cell_id"]
        return sa.ForeignKeyConstraint(["run_id", "cell_id"], targets, name=op.f(name), ondelete="CASCADE")

    op.create_table(
        "cell_numbers",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("cell_id", sa.Text(), nullable=False),
        cells("fk_cell_numbers_run_id_cell_id"),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_cell_numbers")),
        sa.UniqueConstraint("run_id", "cell_id", name=op.f("uq_cell_numbers_run_id_cell_id")),
    )
    op.create_table(
        "cell_totals",
        sa.Column("cell", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("shard", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("stored", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["cell"], ["cell_numbers.number"], name=op.f("fk_cell_totals_cell"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("cell", "shard", name=op.f("pk_cell_totals")),
    )
    op.create_table(
        "sample_numbers",
        sa.Column("number", LONG, nullable=False),
        sa.Column("sample_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["sample_id"], ["samples.id"], name=op.f("fk_sample_numbers_sample_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_sample_numbers")),
        sa.UniqueConstraint("sample_id", name=op.f("uq_sample_numbers_sample_id")),
    )
    op.create_table(
        "cuts",
        sa.Column("number", LONG, autoincrement=False, nullable=False),
        *(sa.Column(name, kind, nullable=True) for name, kind in CUT.items()),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_cuts")),
    )
    op.create_table(
        "outcomes",
        sa.Column("cell", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sample", LONG, autoincrement=False, nullable=False),
        sa.Column("cut", LONG, nullable=True),
        *(sa.Column(name, kind, nullable=name != "text") for name, kind in OWN.items()),
        sa.Column("attempts", sa.Integer(), server_default="1", nullable=False),
        sa.ForeignKeyConstraint(["cell"], ["cell_numbers.number"], name=op.f("fk_outcomes_cell"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("cell", "sample", name=op.f("pk_outcomes")),
        sqlite_with_rowid=False,
    )


def narrow(connection: sa.Connection) -> None:
    """Every old row, in the order of the new ones; JSON is carried as the database's own text."""
    cells = numbers(connection, "cell_numbers", "run_id", "cell_id")
    samples = numbers(connection, "sample_numbers", "sample_id")
    postgres = connection.dialect.name == "postgresql"
    read = [f"{n}::text AS {n}" if postgres and kind is JSON else n for n, kind in (CUT | OWN).items()]
    query = f"SELECT run_id, cell_id, sample_id, attempts, {', '.join(read)} FROM predictions ORDER BY run_id, cell_id"
    old = connection.execute(sa.text(query), execution_options={"yield_per": CHUNK})
    last = 0
    for chunk in old.mappings().partitions(CHUNK):
        cuts: dict[tuple[Any, ...], int] = {}  # equal ones of a chunk are one
        rows = []
        for row in chunk:
            cut = tuple(row[name] for name in CUT)
            number = None
            if any(value not in (None, "null") for value in cut):
                number = cuts.setdefault(cut, last + len(cuts) + 1)
            where = {"cell": cells[row["run_id"], row["cell_id"]], "sample": samples[(row["sample_id"],)]}
            rows.append({**{n: row[n] for n in (*OWN, "attempts")}, **where, "cut": number})
        put(connection, "cuts", [{"number": n, **dict(zip(CUT, cut, strict=True))} for cut, n in cuts.items()])
        put(connection, "outcomes", rows)
        last += len(cuts)
    if postgres:
        connection.execute(sa.text(f"CREATE SEQUENCE cut_blocks MINVALUE 0 START {last // BLOCK + 1}"))


def numbers(connection: sa.Connection, table: str, *keys: str) -> dict[tuple[str, ...], int]:
    found = connection.exec_driver_sql(f"SELECT number, {', '.join(keys)} FROM {table}")
    return {tuple(row[1:]): row[0] for row in found}


def put(connection: sa.Connection, table: str, rows: list[dict[str, Any]]) -> None:
    if rows:
        postgres = connection.dialect.name == "postgresql"
        kinds = CUT | OWN
        values = [f"CAST(:{n} AS jsonb)" if postgres and kinds.get(n) is JSON else f":{n}" for n in rows[0]]
        connection.execute(sa.text(f"INSERT INTO {table} ({', '.join(rows[0])}) VALUES ({', '.join(values)})"), rows)


def wide() -> Iterator[sa.Column[Any]]:
    for name in WIDE:
        kind = (CUT | OWN).get(name, sa.Integer() if name == "attempts" else sa.Text())
        needed = name in ("run_id", "cell_id", "sample_id", "text", "attempts")
        yield sa.Column(name, kind, nullable=not needed, server_default="1" if name == "attempts" else None)


def downgrade() -> None:
    op.drop_column("unit_attempts", "settled")
    op.execute("DROP VIEW predictions")
    op.execute(VIEW.replace("VIEW predictions", "VIEW narrow"))
    op.create_table(
        "predictions",
        *wide(),
        sa.ForeignKeyConstraint(
            ["run_id", "cell_id"],
            ["run_cells.run_id", "run_cells.cell_id"],
            name=op.f("fk_predictions_run_id_cell_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["sample_id"], ["samples.id"], name=op.f("fk_predictions_sample_id")),
        sa.PrimaryKeyConstraint("run_id", "cell_id", "sample_id", name=op.f("pk_predictions")),
    )
    op.create_index(op.f("ix_predictions_sample_id"), "predictions", ["sample_id"])
    op.execute(f"INSERT INTO predictions ({', '.join(WIDE)}) SELECT {', '.join(WIDE)} FROM narrow")
    op.execute("DROP VIEW narrow")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP SEQUENCE cut_blocks")
    for name in ("outcomes", "cuts", "sample_numbers", "cell_totals", "cell_numbers"):
        op.drop_table(name)
