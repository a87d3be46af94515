"""Answers without a foreign key: it was looked up, and on PostgreSQL locked, once for each of them.

The counters that move in the same transaction have one to the same numbers.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0009"
down_revision: str | Sequence[str] | None = "0008"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

KEY = "fk_outcomes_cell"
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.drop_constraint(op.f(KEY), "outcomes", type_="foreignkey")
    else:
        rebuild()


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.create_foreign_key(op.f(KEY), "outcomes", "cell_numbers", ["cell"], ["number"], ondelete="CASCADE")
    else:
        rebuild(sa.ForeignKeyConstraint(["cell"], ["cell_numbers.number"], name=op.f(KEY), ondelete="CASCADE"))


def rebuild(*constraints: sa.ForeignKeyConstraint) -> None:
    """SQLite changes constraints of a new table alone; the view names the old one, so it makes room meanwhile."""
    bind = op.get_bind()
    view = bind.exec_driver_sql("SELECT sql FROM sqlite_master WHERE name = 'predictions'").scalar_one()
    op.execute("DROP VIEW predictions")
    op.create_table(
        "outcomes_0009",
        sa.Column("cell", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sample", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("cut", sa.Integer(), nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("scores", JSON, nullable=True),
        sa.Column("n_text", sa.Integer(), nullable=True),
        sa.Column("flops", sa.Double(), nullable=True),
        sa.Column("kv_bytes", sa.BigInteger(), nullable=True),
        sa.Column("error_type", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="1", nullable=False),
        *constraints,
        sa.PrimaryKeyConstraint("cell", "sample", name=op.f("pk_outcomes")),
        sqlite_with_rowid=False,
    )
    op.execute("INSERT INTO outcomes_0009 SELECT * FROM outcomes ORDER BY cell, sample")
    op.drop_table("outcomes")
    op.rename_table("outcomes_0009", "outcomes")
    op.execute(view)
