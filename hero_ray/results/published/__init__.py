"""Numbers printed in the HERO, HiRED and PTP papers, as data, with what is known of their making.

Transcribed from arXiv 2509.13067 (HERO), 2408.10945 (HiRED) and PTP; `README.md` beside the files lists what was
checked and what contradicts itself. Printed digits are kept; a value on which text and table disagree stays off charts.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hero_ray.store import Store

CONFLICT = "text-conflict"
BENCHMARKS: Mapping[str, str] = {
    "vqav2": "vqav2_val",
    "vizwiz": "vizwiz_vqa_val",
    "gqa": "gqa",
    "sqa": "scienceqa_img",
    "chartqa": "chartqa",
    "textvqa": "textvqa_val",
    "docvqa": "docvqa_val",
    "ocrbench": "ocrbench",
    "mme": "mme",
    "mmb": "mmbench_en_dev",
    "pope": "pope",
    "mmstar": "mmstar",
    "rwqa": "realworldqa",
    "ai2d": "ai2d",
    "mmvet": "mmvet",
    "seed": "seedbench",
}
"""Names in the files -> this project's benchmark names."""

_ZOO_COLUMNS = frozenset({"vqav2", "vizwiz", "gqa", "mmb"})
"""Columns of HERO's unpruned row that equal the LLaVA model zoo for both sizes."""


@dataclass(frozen=True)
class Sizes:
    """Language model sizes and the token counts the papers use (`text`: text tokens they add)."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    full_tokens: int
    text: int

    def tflops(self, n: float) -> float:
        """HERO Eq. 7 over all layers: projections 8nd², attention 4n²d, gated MLP 6ndm."""
        d, m = self.hidden, self.intermediate
        return self.layers * (8 * n * d * d + 4 * n * n * d + 6 * n * d * m) / 1e12

    def kv_mib(self, n: float, kv_heads: int | None = None) -> float:
        """Keys and values of `n` tokens in two-byte numbers; one key-value head per query head unless told."""
        width = self.hidden // self.heads * (self.heads if kv_heads is None else kv_heads)
        return 2 * self.layers * width * 2 * n / 2**20


SIZES: Mapping[str, Sizes] = {
    "llava-next-7b": Sizes(32, 4096, 11008, 32, 32, 2612, 61),
    "llava-next-13b": Sizes(40, 5120, 13824, 40, 40, 2612, 61),
    "internvl2-2b": Sizes(24, 2048, 8192, 16, 8, 1792, 0),
    "internvl2-8b": Sizes(32, 4096, 14336, 32, 8, 1792, 0),
}


@cache
def _file(name: str) -> tuple[dict[str, str], ...]:
    text = files(__name__).joinpath(f"{name}.csv").read_text(encoding="utf-8")
    return tuple(csv.DictReader(text.splitlines()))


def _number(text: str) -> float | None:
    return float(text) if text else None


def measured_by(row: Mapping[str, str]) -> str:
    """Who made a figure: `authors` (a paper on its own method), `copied` (inferred, no paper says so) or `unstated`.

    HERO's baselines stand at 50/25 % (PruMerge+ at 55 %) beside its own 40/20 %, with gaps where their own papers have
    gaps; four columns of its unpruned row equal the LLaVA model zoo.
    """
    paper, method = row["paper"], row["method"]
    if method == paper:
        return "authors"
    if paper == "hero" and row["table"] == "IV" and (method != "full" or row["benchmark"] in _ZOO_COLUMNS):
        return "copied"
    return "unstated"


def results() -> list[dict[str, Any]]:
    """Main results, one record per printed value; `plot` is False where text contradicts a table."""
    return [
        {
            "line": line,
            **{key: row[key] for key in ("paper", "table", "model", "method", "benchmark", "metric", "note")},
            "budget": _number(row["budget"]),
            "category": row["split_or_category"],
            "value": float(row["value"]),
            "printed": row["value"],
            "measured_by": measured_by(row),
            "plot": row["table"] != CONFLICT,
        }
        for line, row in enumerate(_file("results"), start=2)
    ]


_EFFICIENCY_TEXT = frozenset({"paper", "table", "model", "method", "hardware", "note"})


def efficiency() -> list[dict[str, Any]]:
    """Cost figures, with FLOPs and cache recomputed from the printed token count beside them.

    `kv_mib_recomputed` follows the papers (a key-value head per query head); `kv_mib_model` counts the heads the model
    really has, half of that on InternVL2-2B.
    """
    records = []
    for line, row in enumerate(_file("efficiency"), start=2):
        record: dict[str, Any] = {"line": line}
        record |= {key: text if key in _EFFICIENCY_TEXT else _number(text) for key, text in row.items()}
        record["batch_size"] = None if record["batch_size"] is None else int(record["batch_size"])
        sizes, n = SIZES[row["model"]], record["tokens"]
        record["tflops_recomputed"] = None if n is None else sizes.tflops(n)
        record["kv_mib_recomputed"] = None if n is None else sizes.kv_mib(n)
        record["kv_mib_model"] = None if n is None else sizes.kv_mib(n, sizes.kv_heads)
        records.append(record)
    return records


_ABLATION_KEYS = ("paper", "table", "variant", "parameter", "parameter_value", "benchmark", "category")


def ablations() -> list[dict[str, Any]]:
    """Ablation figures; a record without a value says where the best setting lies, in `parameter_value`."""
    return [
        {
            "line": line,
            **{key: row[key] for key in _ABLATION_KEYS},
            "value": _number(row["value"]),
            "printed": row["value"],
            "plot": row["table"] != CONFLICT and "conflicts with Table" not in row["note"],
            "note": row["note"],
        }
        for line, row in enumerate(_file("ablations"), start=2)
    ]


def mme_scale(paper: str) -> str:
    """Which MME a paper prints: PTP's is perception + cognition (out of 2800), HERO's perception (out of 2000)."""
    return "mme_perception_plus_cognition" if paper == "ptp" else "mme_perception"


@dataclass(frozen=True)
class OverlayPoint:
    """A printed result as a chart overlays it.

    Attributes:
        benchmark: this project's name.
        metric: scale of `value`; MME's two scales differ here and must not share an axis.
        share: value / what it is out of.
        tokens: visual tokens the printed budget means on the paper's full count; None where no budget is printed.
        tflops, kv_mib: recomputed from `tokens` (and the text tokens the paper adds) by the papers' formulas.
    """

    paper: str
    table: str
    model: str
    method: str
    budget: float | None
    benchmark: str
    metric: str
    value: float
    share: float
    measured_by: str
    tokens: int | None
    tflops: float | None
    kv_mib: float | None
    note: str


def overlay(model: str | None = None, benchmark: str | None = None) -> list[OverlayPoint]:
    """Printed results that may be charted: no conflicting text, no averages, no relative gaps."""
    found = []
    for row in results():
        usable = row["plot"] and row["metric"] in ("score_0_100", "mme_points")
        name = BENCHMARKS.get(row["benchmark"])
        if usable and name and model in (None, row["model"]) and benchmark in (None, name):
            found.append(_point(row, name))
    return found


def _point(row: Mapping[str, Any], benchmark: str) -> OverlayPoint:
    sizes, budget = SIZES[row["model"]], row["budget"]
    tokens = None if budget is None else math.floor(budget * sizes.full_tokens + 1e-9)
    total = None if tokens is None else tokens + sizes.text
    metric = mme_scale(row["paper"]) if row["metric"] == "mme_points" else row["metric"]
    out_of = {"mme_perception": 2000.0, "mme_perception_plus_cognition": 2800.0}.get(metric, 100.0)
    return OverlayPoint(
        **{key: row[key] for key in ("paper", "table", "model", "method", "budget", "value", "measured_by", "note")},
        benchmark=benchmark,
        metric=metric,
        share=row["value"] / out_of,
        tokens=tokens,
        tflops=None if total is None else sizes.tflops(total),
        kv_mib=None if total is None else sizes.kv_mib(total),
    )


def load(store: Store) -> dict[str, int]:
    """Bring the three tables of a database to what this version ships; returns rows per table."""
    from sqlalchemy import Connection

    from hero_ray.store.tables import Published, PublishedAblation, PublishedEfficiency
    from hero_ray.store.writes import replace_rows, table

    contents = ((Published, results()), (PublishedEfficiency, efficiency()), (PublishedAblation, ablations()))

    def change(connection: Connection) -> None:
        for model, rows in contents:
            target = table(model)
            connection.execute(target.delete().where(target.c.line > len(rows) + 1))
            replace_rows(connection, model, rows)

    store.transaction(change)
    return {table(model).name: len(rows) for model, rows in contents}
