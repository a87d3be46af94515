"""Files of answers for tests of imports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hero_ray.results.exchange import readers
from hero_ray.results.exchange.into_store import import_task
from hero_ray.store import Store

Lines = list[dict[str, Any]]


def lines(path: Path, rows: Lines) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def sample(document: int, said: str = "Yes", **more: Any) -> dict[str, Any]:
    return {"doc_id": document, "target": "yes", "filtered_resps": [said], "input": f"Is there a {document}?", **more}


def figures(store: Store, path: Path, **options: Any) -> dict[str, float]:
    """Metric -> figure of an import as the file says."""
    run_id, _, _ = import_task(store, readers.read(path, **options), as_is=True)
    return {row.metric: row.value for rows in store.metrics(run_id).values() for row in rows}
