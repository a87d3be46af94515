"""A name, tags and a note that people give a run."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0007"
down_revision: str | Sequence[str] | None = "0006"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.add_column("runs", sa.Column("name", sa.Text(), server_default="", nullable=False))
    op.add_column("runs", sa.Column("tags", JSON, server_default="[]", nullable=False))
    op.add_column("runs", sa.Column("note", sa.Text(), server_default="", nullable=False))
    op.add_column("runs", sa.Column("described_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    for column in ("described_at", "note", "tags", "name"):
        op.drop_column("runs", column)
