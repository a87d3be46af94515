"""Runs, cells, samples, predictions, metrics, profiles, published figures and alerts."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0001"
down_revision: str | Sequence[str] | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


JSON_TYPE = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "cells",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("variant", sa.Text(), nullable=False),
        sa.Column("params", JSON_TYPE, nullable=False),
        sa.Column("retention_ratio", sa.Double(), nullable=False),
        sa.Column("tokens", sa.Integer(), nullable=True),
        sa.Column("seed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("benchmark", sa.Text(), nullable=False),
        sa.Column("flavour", sa.Text(), nullable=False),
        sa.Column("spec", JSON_TYPE, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_cells"),
    )
    op.create_index("ix_cells_benchmark", "cells", ["benchmark"])
    op.create_table(
        "images",
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("thumbnail", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("hash", name="pk_images"),
    )
    op.create_table(
        "published",
        sa.Column("line", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("paper", sa.Text(), nullable=False),
        sa.Column("table", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("budget", sa.Double(), nullable=True),
        sa.Column("benchmark", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("printed", sa.Text(), nullable=False),
        sa.Column("measured_by", sa.Text(), nullable=False),
        sa.Column("plot", sa.Boolean(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("line", name="pk_published"),
    )
    op.create_table(
        "published_ablations",
        sa.Column("line", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("paper", sa.Text(), nullable=False),
        sa.Column("table", sa.Text(), nullable=False),
        sa.Column("variant", sa.Text(), nullable=False),
        sa.Column("parameter", sa.Text(), nullable=False),
        sa.Column("parameter_value", sa.Text(), nullable=False),
        sa.Column("benchmark", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("printed", sa.Text(), nullable=False),
        sa.Column("plot", sa.Boolean(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("line", name="pk_published_ablations"),
    )
    op.create_table(
        "published_efficiency",
        sa.Column("line", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("paper", sa.Text(), nullable=False),
        sa.Column("table", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("budget", sa.Double(), nullable=True),
        sa.Column("tokens", sa.Double(), nullable=True),
        sa.Column("tflops", sa.Double(), nullable=True),
        sa.Column("gpu_memory_gb", sa.Double(), nullable=True),
        sa.Column("kv_cache_mb", sa.Double(), nullable=True),
        sa.Column("decode_tokens_per_s", sa.Double(), nullable=True),
        sa.Column("latency_per_token_ms", sa.Double(), nullable=True),
        sa.Column("total_time", sa.Double(), nullable=True),
        sa.Column("throughput", sa.Double(), nullable=True),
        sa.Column("ttft_s", sa.Double(), nullable=True),
        sa.Column("hardware", sa.Text(), nullable=False),
        sa.Column("batch_size", sa.Integer(), nullable=True),
        sa.Column("performance", sa.Double(), nullable=True),
        sa.Column("tflops_recomputed", sa.Double(), nullable=True),
        sa.Column("kv_mib_recomputed", sa.Double(), nullable=True),
        sa.Column("kv_mib_model", sa.Double(), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("line", name="pk_published_efficiency"),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("sweep_name", sa.Text(), nullable=False),
        sa.Column("config", JSON_TYPE, nullable=False),
        sa.Column("config_hash", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("git_commit", sa.Text(), nullable=True),
        sa.Column("environment", JSON_TYPE, nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
    )
    op.create_index("ix_runs_config_hash", "runs", ["config_hash"])
    op.create_index("ix_runs_created_at", "runs", ["created_at"])
    op.create_table(
        "samples",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("benchmark", sa.Text(), nullable=False),
        sa.Column("sample_key", sa.Text(), nullable=False),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("reference", JSON_TYPE, nullable=True),
        sa.Column("category", sa.Text(), server_default="", nullable=False),
        sa.Column("image_hash", sa.Text(), nullable=False),
        sa.Column("extra", JSON_TYPE, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_samples"),
    )
    op.create_index("ix_samples_benchmark", "samples", ["benchmark"])
    op.create_index("ix_samples_image_hash", "samples", ["image_hash"])
    op.create_table(
        "alerts",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("cell_id", sa.Text(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("details", JSON_TYPE, nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("acknowledged_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_alerts_run_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_alerts"),
    )
    op.create_index("ix_alerts_run_id", "alerts", ["run_id"])
    op.create_table(
        "leases",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("acquired_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_leases_run_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", name="pk_leases"),
    )
    op.create_table(
        "run_cells",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("cell_id", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), server_default="0", nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("n_expected", sa.Integer(), nullable=False),
        sa.Column("n_done", sa.Integer(), server_default="0", nullable=False),
        sa.Column("n_failed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("stop_reason", sa.Text(), nullable=True),
        sa.Column("summarised_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("mean_n_text", sa.Double(), nullable=True),
        sa.Column("mean_budget_nominal", sa.Double(), nullable=True),
        sa.Column("mean_n_selected", sa.Double(), nullable=True),
        sa.Column("mean_n_visual_llm", sa.Double(), nullable=True),
        sa.Column("mean_equivalent_tokens", sa.Double(), nullable=True),
        sa.Column("mean_flops", sa.Double(), nullable=True),
        sa.Column("mean_kv_bytes", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["cell_id"], ["cells.id"], name="fk_run_cells_cell_id"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_run_cells_run_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "cell_id", name="pk_run_cells"),
    )
    op.create_index("ix_run_cells_cell_id", "run_cells", ["cell_id"])
    op.create_table(
        "unit_attempts",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("unit_id", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("begun_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_unit_attempts_run_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "unit_id", name="pk_unit_attempts"),
    )
    op.create_table(
        "metrics",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("cell_id", sa.Text(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("ci_low", sa.Double(), nullable=True),
        sa.Column("ci_high", sa.Double(), nullable=True),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("n_clusters", sa.Integer(), nullable=True),
        sa.Column("is_main", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("scale", sa.Double(), server_default="1.0", nullable=False),
        sa.Column("interval", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["run_id", "cell_id"],
            ["run_cells.run_id", "run_cells.cell_id"],
            name="fk_metrics_run_id_cell_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("run_id", "cell_id", "metric", "category", name="pk_metrics"),
    )
    op.create_table(
        "predictions",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("cell_id", sa.Text(), nullable=False),
        sa.Column("sample_id", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("scores", JSON_TYPE, nullable=True),
        sa.Column("n_text", sa.Integer(), nullable=True),
        sa.Column("budget_nominal", sa.Integer(), nullable=True),
        sa.Column("n_selected", sa.Integer(), nullable=True),
        sa.Column("n_visual_llm", sa.Integer(), nullable=True),
        sa.Column("equivalent_tokens", sa.Double(), nullable=True),
        sa.Column("visual_per_layer", JSON_TYPE, nullable=True),
        sa.Column("flops", sa.Double(), nullable=True),
        sa.Column("kv_bytes", sa.BigInteger(), nullable=True),
        sa.Column("keep_mask", sa.LargeBinary(), nullable=True),
        sa.Column("geometry", JSON_TYPE, nullable=True),
        sa.Column("error_type", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="1", nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id", "cell_id"],
            ["run_cells.run_id", "run_cells.cell_id"],
            name="fk_predictions_run_id_cell_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["sample_id"], ["samples.id"], name="fk_predictions_sample_id"),
        sa.PrimaryKeyConstraint("run_id", "cell_id", "sample_id", name="pk_predictions"),
    )
    op.create_index("ix_predictions_sample_id", "predictions", ["sample_id"])
    op.create_table(
        "profiles",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("cell_id", sa.Text(), nullable=False),
        sa.Column("batch_size", sa.Integer(), nullable=False),
        sa.Column("new_tokens", sa.Integer(), nullable=False),
        sa.Column("tokens", sa.Double(), nullable=True),
        sa.Column("tflops_paper", sa.Double(), nullable=True),
        sa.Column("tflops_model", sa.Double(), nullable=True),
        sa.Column("tflops_encoder", sa.Double(), nullable=True),
        sa.Column("tflops_scoring", sa.Double(), nullable=True),
        sa.Column("kv_bytes", sa.Double(), nullable=True),
        sa.Column("peak_memory_bytes", sa.BigInteger(), nullable=True),
        sa.Column("encode_ms", sa.Double(), nullable=True),
        sa.Column("select_ms", sa.Double(), nullable=True),
        sa.Column("prefill_ms", sa.Double(), nullable=True),
        sa.Column("ttft_ms_p50", sa.Double(), nullable=True),
        sa.Column("ttft_ms_p95", sa.Double(), nullable=True),
        sa.Column("tpot_ms_p50", sa.Double(), nullable=True),
        sa.Column("decode_tokens_per_s", sa.Double(), nullable=True),
        sa.Column("n", sa.Integer(), nullable=True),
        sa.Column("certificate", JSON_TYPE, nullable=True),
        sa.Column("certificate_hash", sa.Text(), nullable=False),
        sa.Column("details", JSON_TYPE, nullable=True),
        sa.ForeignKeyConstraint(
            ["run_id", "cell_id"],
            ["run_cells.run_id", "run_cells.cell_id"],
            name="fk_profiles_run_id_cell_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("run_id", "cell_id", "batch_size", "new_tokens", name="pk_profiles"),
    )


def downgrade() -> None:
    op.drop_table("profiles")
    op.drop_table("predictions")
    op.drop_table("metrics")
    op.drop_table("unit_attempts")
    op.drop_table("run_cells")
    op.drop_table("leases")
    op.drop_table("alerts")
    op.drop_table("samples")
    op.drop_table("runs")
    op.drop_table("published_efficiency")
    op.drop_table("published_ablations")
    op.drop_table("published")
    op.drop_table("images")
    op.drop_table("cells")
