"""When and how surely a cell was decided early and what that saved; flags of figures; FLOPs before the LLM."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | Sequence[str] | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("predictions", sa.Column("encode_flops", sa.Double(), nullable=True))
    op.add_column("run_cells", sa.Column("mean_encode_flops", sa.Double(), nullable=True))
    op.add_column("run_cells", sa.Column("stop_pictures", sa.Integer(), nullable=True))
    op.add_column("run_cells", sa.Column("stop_log_e", sa.Double(), nullable=True))
    op.add_column("metrics", sa.Column("flags", sa.Text(), server_default="", nullable=False))
    op.add_column("runs", sa.Column("saved_answers", sa.Integer(), server_default="0", nullable=False))
    op.add_column("runs", sa.Column("saved_replica_s", sa.Double(), server_default="0", nullable=False))


def downgrade() -> None:
    op.drop_column("metrics", "flags")
    op.drop_column("runs", "saved_replica_s")
    op.drop_column("runs", "saved_answers")
    op.drop_column("run_cells", "stop_log_e")
    op.drop_column("run_cells", "stop_pictures")
    op.drop_column("run_cells", "mean_encode_flops")
    op.drop_column("predictions", "encode_flops")
