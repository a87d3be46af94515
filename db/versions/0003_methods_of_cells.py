"""What the method of a cell says of itself, so that readers need no method: straw man, and a token count of its own.

Known straw men are marked. Stored cells keep their budgets: before this, such methods were planned once per budget.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | Sequence[str] | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

KNOWN = ("random", "spatial", "spatial-pool", "downsample")
"""Those that this version ships; a plug-in's cells are marked when a sweep plans them again."""


def upgrade() -> None:
    op.add_column("cells", sa.Column("straw_man", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("cells", sa.Column("own_count", sa.Boolean(), server_default=sa.false(), nullable=False))
    cells = sa.table("cells", sa.column("method", sa.Text()), sa.column("straw_man", sa.Boolean()))
    op.execute(cells.update().where(cells.c.method.in_(KNOWN)).values(straw_man=True))


def downgrade() -> None:
    op.drop_column("cells", "own_count")
    op.drop_column("cells", "straw_man")
