"""Counters that move with the answers, and units of which nothing is missing: progress and resume count nothing."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0005"
down_revision: str | Sequence[str] | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "cell_totals",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("cell_id", sa.Text(), nullable=False),
        sa.Column("shard", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("stored", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id", "cell_id"],
            ["run_cells.run_id", "run_cells.cell_id"],
            name=op.f("fk_cell_totals_run_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("run_id", "cell_id", "shard", name=op.f("pk_cell_totals")),
    )
    op.execute(
        "INSERT INTO cell_totals (run_id, cell_id, shard, stored, failed) "
        "SELECT run_id, cell_id, 0, count(*), count(error_type) FROM predictions GROUP BY run_id, cell_id"
    )
    op.add_column("unit_attempts", sa.Column("settled", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("unit_attempts", "settled")
    op.drop_table("cell_totals")
