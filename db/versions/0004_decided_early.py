"""When and how surely a cell was decided early and what that saved; what a reader must know of a figure."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | Sequence[str] | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("run_cells", sa.Column("stop_pictures", sa.Integer(), nullable=True))
    op.add_column("run_cells", sa.Column("stop_log_e", sa.Float(), nullable=True))
    op.add_column("metrics", sa.Column("flags", sa.String(), server_default="", nullable=False))
    op.add_column("runs", sa.Column("saved_answers", sa.Integer(), server_default="0", nullable=False))
    op.add_column("runs", sa.Column("saved_replica_s", sa.Float(), server_default="0", nullable=False))


def downgrade() -> None:
    op.drop_column("metrics", "flags")
    op.drop_column("runs", "saved_replica_s")
    op.drop_column("runs", "saved_answers")
    op.drop_column("run_cells", "stop_log_e")
    op.drop_column("run_cells", "stop_pictures")
