"""Results to and from other tools' files: lmms-eval (both ways), VLMEvalKit and our own (in).

`records`, `readers`, `lmms_export` and `rescore` are pure functions over plain records; `from_runs` and `into_store`
tie them to the results database.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hero_ray.store import Store


def write_run(store: Store, run_id: str, folder: str | Path, samples: bool = False) -> list[Path]:
    """lmms-eval's results files of a run, one folder per model setting; with `samples` also one line per answer."""
    from hero_ray.results.exchange import from_runs

    return from_runs.write_run(store, run_id, folder, samples)
