"""Try it through a running service (`POST /v1/explain`) instead of a model in this process. No Streamlit, no torch."""

from __future__ import annotations

import base64
import io
import json
import urllib.error
import urllib.request
from typing import Any

from PIL import Image

from dashboard.trial import TriedAnswer
from hero_ray.core.errors import HeroRayError
from hero_ray.results import masks
from hero_ray.results.shown import palette

TIMEOUT_S = 120


def ask(
    url: str, token: str | None, model: str, picture: Image.Image, question: str, method: str, ratio: float
) -> tuple[TriedAnswer, TriedAnswer]:
    """Both answers of one call, full tokens first; the service encodes the picture once for them.

    Raises:
        HeroRayError: the service cannot be reached, or refuses; the text is its own.
    """
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    body = {
        "model": model,
        "image": "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode(),
        "question": question,
        "pruning": [{"method": "full"}, {"method": method, "retention_ratio": ratio}],
        "max_tokens": 24,
        "scores": False,
    }
    found = _post(f"{url.rstrip('/')}/v1/explain", token, body)
    full, pruned = (_answer(row, found, picture) for row in found["results"])
    return full, pruned


def _post(address: str, token: str | None, body: dict[str, Any]) -> dict[str, Any]:
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(address, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as problem:
        raise HeroRayError(f"the service answered {problem.code}: {_reason(problem)}") from None
    except (OSError, ValueError) as problem:
        raise HeroRayError(f"the service at {address} cannot be used: {problem}") from None


def _reason(problem: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(problem)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return problem.reason


def _answer(row: dict[str, Any], found: dict[str, Any], picture: Image.Image) -> TriedAnswer:
    tokens, ledger = row["tokens"], row["ledger"]
    geometry = (*row["grid"], *row["side"])
    keep = base64.b64decode(row["keep"])
    colour = palette.look(row["method"]).colour
    panels = masks.panels(picture, picture.size, keep, geometry, found["family"], colour)
    parts = ("tflops_model", "tflops_encoder", "tflops_decode")
    return TriedAnswer(
        method=row["method"],
        text=row["answer"],
        budget=tokens["budget_nominal"],
        kept=tokens["n_selected"],
        n_visual_llm=tokens["n_visual_llm"],
        equivalent_tokens=ledger["equivalent_tokens"],
        flops=1e12 * sum(ledger[name] or 0.0 for name in parts),
        kv_bytes=row["kv_bytes"],
        seconds=(found["encode_ms"] + sum(row["timings_ms"].values())) / 1e3,
        panels=tuple(panels),
        note=row["note"],
    )
