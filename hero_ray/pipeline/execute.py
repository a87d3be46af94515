"""One Ray Data execution per model: rows are units, actors are models, results go to SQL inside the actor."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hero_ray.errors import HeroRayError, ReplicaError
from hero_ray.pipeline.cluster import Pool
from hero_ray.pipeline.worker import UnitOutcome, UnitWorker, WorkerJob, pack_unit
from hero_ray.plan import Unit

MAX_BLOCK_UNITS = 16
BLOCKS_PER_REPLICA = 8


def block_size(num_units: int, replicas: int) -> int:
    """Units per block: several blocks a replica so that the last one is short, but not one row a block (15 ms each)."""
    return max(1, min(MAX_BLOCK_UNITS, math.ceil(num_units / (replicas * BLOCKS_PER_REPLICA))))


def execute(units: Sequence[Unit], job: WorkerJob, pool: Pool, deadline_s: float) -> Iterator[UnitOutcome]:
    """Evaluate units on a fixed pool of actors, yielding outcomes as blocks finish.

    The order of results is Ray's. A dead actor is restarted and its block given again; what its units had
    committed is skipped there.
    """
    from ray import data
    from ray.data import ActorPoolStrategy, DataContext

    DataContext.get_current().execution_options.preserve_order = False
    DataContext.get_current().raise_original_map_exception = True
    DataContext.get_current().execution_no_progress_timeout_s = int(max(1800, 2 * deadline_s))
    rows = [{"unit": pack_unit(unit)} for unit in units]
    size = block_size(len(rows), pool.replicas)
    dataset = data.from_items(rows, override_num_blocks=math.ceil(len(rows) / size)).map_batches(
        UnitWorker,
        fn_constructor_kwargs={"job": job},
        compute=ActorPoolStrategy(size=min(pool.replicas, len(rows))),
        batch_size=size,
        num_cpus=pool.num_cpus,
        num_gpus=pool.num_gpus or None,
    )
    with named_failures():
        for batch in dataset.iter_batches(batch_size=None, prefetch_batches=0):
            for text in batch["outcome"]:
                yield UnitOutcome(**json.loads(text))


@contextmanager
def named_failures() -> Iterator[None]:
    """Turn what Ray wraps around a replica's failure back into the failure.

    Raises:
        HeroRayError: the one the replica raised, or ReplicaError with Ray's last words.
    """
    from ray.exceptions import RayError

    try:
        yield
    except RayError as error:
        cause = getattr(error, "cause", None)
        while cause is not None and not isinstance(cause, HeroRayError):
            cause = cause.__cause__
        if cause is not None:
            raise cause from None
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise ReplicaError(f"a replica failed: {lines[-1] if lines else type(error).__name__}") from error
