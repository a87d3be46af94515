"""What Tune runs for one trial: a question to the bench. Imports nothing heavy, so that trial processes start fast."""

from __future__ import annotations

from typing import Any


def measured(config: dict[str, Any], bench: Any) -> None:
    """Have the bench measure one point, and report its figures."""
    import ray
    from ray import tune

    tune.report(ray.get(bench.measure.remote(config)))
