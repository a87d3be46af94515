"""The batch-invariance certificate of a run's models: made once, kept with the run, copied where nothing changed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from hero_ray.core.plan import ModelFact
from hero_ray.store import Store
from hero_ray.store.records import RunRow

if TYPE_CHECKING:
    from hero_ray.models.base import Adapter

log = logging.getLogger(__name__)

KEY = "invariance"
SAMPLES, NEW_TOKENS = 4, 16
MACHINE = ("processor", "gpus", "driver")
RUNS_LOOKED_AT = 50


def settled(store: Store, run_id: str, fact: ModelFact) -> bool:
    """Whether a run has a model's certificate, copied from an earlier run of the same model on a like machine."""
    run = store.run(run_id)
    if fact.name in certificates(run):
        return True
    for other in store.runs(limit=RUNS_LOOKED_AT):
        found = certificates(other).get(fact.name, {})
        alike = (found.get("revision"), found.get("dtype")) == (fact.revision, fact.dtype)
        if alike and _surroundings(other) == _surroundings(run):
            store.add_environment(run_id, KEY, {fact.name: found})
            return True
    return False


def certify_run(store: Store, run_id: str, model: str, adapter: Adapter) -> None:
    """Run a few prompts alone and batched, and store how many answers changed. Never fails a sweep.

    Adapters without a decoder of ours (a foreign model) have nothing to certify.
    """
    if adapter.decoder is None:
        return
    from hero_ray.models.invariance import certify

    try:
        found: dict[str, Any] = asdict(certify(adapter, SAMPLES, NEW_TOKENS))
    except Exception as error:  # the certificate tells about answers; it must not cost them
        log.warning("no batch-invariance certificate for %s: %s", model, error)
        found = {"error": f"{type(error).__name__}: {error}"[:500]}
    store.add_environment(run_id, KEY, {model: found})


def certificates(run: RunRow) -> dict[str, dict[str, Any]]:
    """Model -> certificate, as stored."""
    return dict(run.environment.get(KEY) or {})


def describe(model: str, found: Mapping[str, Any]) -> str:
    """One line for people."""
    if "error" in found:
        return f"{model}: not certified, {found['error']}"
    changed = {name: found[name] for name in ("batched", "neighbours", "shared")}
    verdict = "do not depend on the batch" if not any(changed.values()) else "depend on the batch"
    shares = ", ".join(f"{share:.0%} {name}" for name, share in changed.items())
    return f"{model} in {found['dtype']} on {found['device']}: answers {verdict} ({found['samples']} tried: {shares})"


def _surroundings(run: RunRow) -> list[Any]:
    packages = dict(run.environment.get("packages") or {})
    versions = [packages.get(name) for name in ("torch", "transformers")]
    return [*(run.environment.get(name) for name in MACHINE), *versions, run.config.get("model_args")]
