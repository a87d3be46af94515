"""Speeds of an endpoint's cells, from the times of their own answers.

Nothing can be timed alone on a machine that is somebody else's: the figures hold for this server under this many
clients, and the certificate says so, so that they never share an axis with anything else.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hero_ray.core.plan import digest
from hero_ray.core.types import Cell
from hero_ray.engine.endpoint import KEY, PREFIX
from hero_ray.store import Store


def endpoint_speeds(store: Store, run_id: str, cells: Sequence[Cell], arguments: Mapping[str, Any]) -> None:
    """Store time to first token, time per token and tokens per second of cells that have answers."""
    for cell in cells:
        told = [row.scores[KEY] for row in store.cell_scores(run_id, cell.id) if KEY in row.scores]
        if told:
            store.write_profile(run_id, cell.id, speeds(told) | {"certificate": certificate(cell, arguments)})


def speeds(told: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Figures over answers; what needs the server's count of tokens is None where it gives none."""
    first = np.array([one["ttft_ms"] for one in told])
    known = [one for one in told if (one["completion_tokens"] or 0) > 1]
    step = [(one["total_ms"] - one["ttft_ms"]) / (one["completion_tokens"] - 1) for one in known]
    prompts = [one["prompt_tokens"] for one in told if one["prompt_tokens"] is not None]
    per_token = float(np.median(step)) if step else None
    return {
        "batch_size": 1,
        "new_tokens": 0,
        "n": len(told),
        "ttft_ms_p50": float(np.median(first)),
        "ttft_ms_p95": float(np.percentile(first, 95)),
        "tpot_ms_p50": per_token,
        "decode_tokens_per_s": 1000 / per_token if per_token else None,
        "prompt_tokens_mean": float(np.mean(prompts)) if prompts else None,
        "completion_tokens": int(sum(one["completion_tokens"] or 0 for one in told)),
        "repeated_requests": int(sum(one["attempts"] - 1 for one in told)),
    }


def certificate(cell: Cell, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The conditions: which server, asked how, on which day."""
    conditions = {
        "kind": "endpoint",
        "device_name": cell.model.removeprefix(PREFIX),
        "served": arguments.get("served", ""),
        "flag": arguments.get("flag", ""),
        **({"fields": arguments["fields"]} if arguments.get("fields") else {}),
        "clients": int(arguments.get("clients", 1)),
        "rate": float(arguments.get("rate", 0)),
        "day": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    return conditions | {"hash": digest(conditions)}
