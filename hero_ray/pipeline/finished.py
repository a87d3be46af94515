"""Which run a plan belongs to, and whether anything of it is left to do; costs neither torch nor Ray."""

from __future__ import annotations

from dataclasses import dataclass, field

from hero_ray.core.errors import ConfigError
from hero_ray.pipeline.facts import Plan
from hero_ray.store import RunRow, Store

COMPLETE, RUNNING, INTERRUPTED, FAILED, CANCELLED = "complete", "running", "interrupted", "failed", "cancelled"


@dataclass
class RunOutcome:
    """What one execution did, for the last line and for tests."""

    run_id: str
    status: str
    already_complete: bool = False
    seconds: float = 0.0
    answered: int = 0
    counters: dict[str, int] = field(default_factory=dict)


def earlier(plan: Plan, store: Store, fresh: bool = False, run_id: str | None = None) -> RunRow | None:
    """The run that an execution of this plan would go on with; None if it would begin one.

    Raises:
        ConfigError: `run_id` names a run of another plan.
    """
    if run_id is None:
        return None if fresh else store.find_run(plan.hash)
    found = next((row for row in store.runs() if row.id == run_id), None)
    if found is not None and found.config_hash != plan.hash:
        from hero_ray.pipeline import predecessor

        why = predecessor.explain(plan, store, found)
        raise ConfigError(f"run {run_id} was planned otherwise ({why}); give another --run-id, or its own request")
    return found


def already(found: RunRow | None, retry_failed: bool = False) -> RunOutcome | None:
    """What there is to say of a run with nothing left to do; None if there is."""
    if found is None or found.status != COMPLETE or retry_failed:
        return None
    return RunOutcome(found.id, COMPLETE, already_complete=True)
