"""Profile rows grouped by the conditions they were measured under. No Streamlit."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from hero_ray.results.axes import AXES
from hero_ray.results.names import FULL, name_all
from hero_ray.results.shown import palette

Row = dict[str, Any]

CONDITIONS_APART = frozenset({"n", "model", "revision", "hero_ray", "commit", "clock_mhz", "hash"})
"""Entries of a certificate that may differ between comparable speeds: the subject, not the conditions."""

_VARIED = CONDITIONS_APART | {"batch_size"}
"""A batch sweep varies the batch size and nothing else."""

_CARD = (
    ("device_name", "Device"),
    ("driver", "Driver"),
    ("cuda", "CUDA"),
    ("threads", "Threads"),
    ("power_limit_w", "Power limit, W"),
    ("dtype", "Number format"),
    ("attention", "Attention"),
    ("engine", "Engine"),
    ("cache", "KV cache"),
    ("cuda_graphs", "CUDA graphs"),
    ("compiled", "Compiled"),
    ("new_tokens", "Answer length, tokens"),
    ("warmup", "Warm-up runs"),
    ("random_weights", "Random weights"),
    ("torch", "torch"),
    ("transformers", "transformers"),
    ("python", "Python"),
    ("commit", "Commit"),
)


@dataclass(frozen=True)
class Conditions:
    """Rows that may be compared with one another, batch sizes apart.

    Attributes:
        certificate: of the first row.
        rows: with `label` (method and budget) and `series` added; equal measurements shared by several cells once.
    """

    model: str
    certificate: Mapping[str, Any]
    rows: tuple[Row, ...]

    @property
    def name(self) -> str:
        words = [self.model, str(self.certificate.get("device_name") or "unknown device")]
        words += [str(self.certificate[key]) for key in ("dtype", "engine") if self.certificate.get(key)]
        return ", ".join(words)

    @property
    def batch_sizes(self) -> list[int]:
        return sorted({row["batch_size"] for row in self.rows})

    def at(self, batch_size: int) -> list[Row]:
        """Rows of one batch size: full tokens first, then by budget and method."""
        chosen = [row for row in self.rows if row["batch_size"] == batch_size]
        return sorted(chosen, key=lambda r: (r["method"] != FULL, -r["retention_ratio"], palette.rank(r["method"])))

    def card(self) -> list[tuple[str, str]]:
        """The certificate as a person reads it."""
        known = ((title, self.certificate.get(key)) for key, title in _CARD)
        return [(title, str(value)) for title, value in known if value not in (None, "", 0, 0.0, False)]


def conditions(rows: Sequence[Row]) -> list[Conditions]:
    """Groups of comparable rows, the largest first."""
    groups: dict[tuple[str, str], dict[tuple[Any, ...], Row]] = defaultdict(dict)
    for row, name in zip(rows, name_all(map(_cell, rows)), strict=True):
        certificate = row["certificate"] or {}
        shared = {key: value for key, value in certificate.items() if key not in _VARIED}
        apart = json.dumps(shared, sort_keys=True) if shared else str(row["certificate_hash"])
        key = (name.key, row["batch_size"], row["new_tokens"])
        named = row | {"series": name.series, "budget": name.budget, "label": f"{name.series} {name.budget}"}
        groups[row["model"], apart].setdefault(key, named)
    found = [
        Conditions(model, next(iter(members.values()))["certificate"] or {}, tuple(members.values()))
        for (model, _), members in groups.items()
    ]
    return sorted(found, key=lambda group: -len(group.rows))


def _cell(row: Mapping[str, Any]) -> Any:
    return SimpleNamespace(**row | {"tokens": row["cell_tokens"]})


def differing_conditions(certificates: Sequence[Mapping[str, Any]]) -> list[str]:
    """Conditions in which certificates differ, with their values, as text."""
    names = sorted(set().union(*certificates) - CONDITIONS_APART) if certificates else []
    found = []
    for name in names:
        values = sorted({str(certificate.get(name, "unknown")) for certificate in certificates})
        if len(values) > 1:
            found.append(f"{name.replace('_', ' ')} ({', '.join(values)})")
    return found


Unit = tuple[float, str]


def table_rows(rows: Sequence[Row], flops: Unit | None = None, cache: Unit | None = None) -> list[dict[str, Any]]:
    """The columns of HERO's Table VIII and the stages behind them; columns nobody measured are left out.

    Args:
        flops, cache: (factor, name) of the units of computation and of the KV cache; default: what suits these rows.
    """
    flops = flops or AXES["flops"].unit(1e12 * _whole(row) for row in rows)
    cache = cache or AXES["kv"].unit(row["kv_bytes"] for row in rows)
    memory = AXES["memory"].unit(row["peak_memory_bytes"] for row in rows)
    lines = [_line(row, saved(row, _base(row, rows)), flops, cache, memory) for row in rows]
    used = [name for name in (lines[0] if lines else {}) if any(line[name] is not None for line in lines)]
    return [{name: line[name] for name in used} for line in lines]


def _base(row: Row, rows: Sequence[Row]) -> Row | None:
    """The unpruned model's row of the same batch size and answer length."""
    alike = ("batch_size", "new_tokens")
    return next((one for one in rows if one["method"] == FULL and all(one[k] == row[k] for k in alike)), None)


_SAVED = {"tokens": "Tokens", "flops": "FLOPs", "kv": "KV", "ttft": "TTFT"}


def saved(row: Row, full: Row | None) -> dict[str, Any]:
    """Percent of the unpruned model's costs that are saved, by column; None where one is not known."""
    held = [
        {"tokens": one["tokens"], "flops": _whole(one) or None, "kv": one["kv_bytes"], "ttft": one["ttft_ms_p50"]}
        for one in (row, full or row)
    ]
    found = {key: AXES[key].saved(*(each[key] for each in held)) if full is not None else None for key in _SAVED}
    return {f"{_SAVED[key]} saved, %": None if value is None else round(value, 0) for key, value in found.items()}


def _whole(row: Row) -> float:
    return float(sum(row[f"tflops_{part}"] or 0.0 for part in ("model", "encoder", "scoring")))


def _line(row: Row, less: Row, flops: Unit, cache: Unit, memory: Unit) -> dict[str, Any]:
    tera = 1e12 / flops[0]
    return {
        "Method": row["series"],
        "Budget": row["budget"],
        "Tokens": _round(row["tokens"], 1),
        f"Encode and prefill, {flops[1]}": _round(_whole(row), 1, tera) if _whole(row) else None,
        f"KV cache, {cache[1]}": _round(row["kv_bytes"], 1, 1 / cache[0]),
        f"Memory, {memory[1]}": _round(row["peak_memory_bytes"], 1, 1 / memory[0]),
        "TTFT, ms": _round(row["ttft_ms_p50"], 2),
        **less,
        "Encode, ms": _round(row["encode_ms"], 2),
        "Select, ms": _round(row["select_ms"], 2),
        "Prefill, ms": _round(row["prefill_ms"], 2),
        "TTFT p95, ms": _round(row["ttft_ms_p95"], 2),
        "Per token, ms": _round(row["tpot_ms_p50"], 2),
        "Decode, tokens/s": _round(row["decode_tokens_per_s"], 0),
        f"Prefill, {flops[1]}": _round(row["tflops_model"], 1, tera),
        f"{PAPERS_COUNT}, {flops[1]}": _round(row["tflops_paper"], 1, tera),
        "n": row["n"],
    }


PAPERS_COUNT = "Prefill as HERO's Eq. 7 counts"
USUAL = 8
"""Columns that a screen of 1440 pixels holds."""


def _round(value: float | None, digits: int, factor: float = 1.0) -> float | None:
    return None if value is None else round(factor * value, digits)
