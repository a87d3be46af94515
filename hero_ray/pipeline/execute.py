"""One Ray Data execution per model: rows are units, actors are models, results go to SQL inside the actor."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from itertools import accumulate, pairwise
from typing import Any

from hero_ray.core.errors import HeroRayError, ReplicaError
from hero_ray.core.plan import Unit
from hero_ray.pipeline.cluster import Pool
from hero_ray.pipeline.local_data import on_one_machine
from hero_ray.pipeline.orders import UnitOutcome, WorkerJob, pack_unit

MAX_BLOCK_UNITS = 16
MAX_FIRST_UNITS, MAX_GROWN_SHARE = 4, 0.04
"""Where cells stop once they are decided: a look counts pictures up to the first that is still in a block, so blocks
grow with what was given out before them, as the looks grow apart."""
IN_FLIGHT = 2
"""Blocks a replica holds at once: one at work, one waiting, so that a slow unit delays few others."""


class Replica:
    """What Ray Data makes of a `UnitWorker`: it is imported, with torch, where it runs and not by the driver."""

    def __init__(self, job: WorkerJob) -> None:
        from hero_ray.pipeline.worker import UnitWorker

        self._worker = UnitWorker(job)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        return self._worker(batch)


def block_sizes(num_units: int, replicas: int, deciding: bool = False) -> list[int]:
    """Units per block in the order they are given out: half a replica's share of what is left, one at the end.

    Large blocks spare Ray's cost per block (15 ms), small last ones let all replicas end together (guided
    self-scheduling, Polychronopoulos and Kuck 1987). Longest units come first: on very many replicas a block of them
    would outlast all others, so none is more than an eighth of a replica's units.

    Args:
        deciding: small first ones too, for what is decided by them need not be asked in the others.
    """
    sizes, left = [], num_units
    eighth = num_units // (8 * replicas)
    while left:
        known = max(MAX_FIRST_UNITS, int(MAX_GROWN_SHARE * (num_units - left)) if deciding else eighth)
        sizes.append(max(1, min(MAX_BLOCK_UNITS, known, left // (2 * replicas))))
        left -= sizes[-1]
    return sizes


def execute(
    units: Sequence[Unit], job: WorkerJob, pool: Pool, deadline_s: float, *, one_machine: bool = False
) -> Iterator[UnitOutcome]:
    """Evaluate units on a fixed pool of actors, yielding outcomes as blocks finish.

    The order of results is Ray's. A dead actor is restarted and its block given again; what its units had
    committed is skipped there.

    Args:
        one_machine: no node can come, and nobody looks at Ray's dashboard.
    """
    import pyarrow
    from ray import data
    from ray.data import ActorPoolStrategy, DataContext

    DataContext.get_current().execution_options.preserve_order = False
    DataContext.get_current().raise_original_map_exception = True
    DataContext.get_current().execution_no_progress_timeout_s = int(max(1800, 2 * deadline_s))
    starts = accumulate(block_sizes(len(units), pool.replicas, job.until_decided), initial=0)
    # Those of one block at a time: all of a large sweep are tens of MB.
    blocks = [pyarrow.table({"unit": [pack_unit(unit) for unit in units[a:b]]}) for a, b in pairwise(starts)]
    # Not from_arrow: it has tasks measure the blocks, and a replica then waits for a process that is not theirs.
    # Not map_batches: with GPUs it refuses a batch that is the whole block, and by a number it would join our blocks.
    dataset = data.from_blocks(blocks).map_batches_internal(
        Replica,
        fn_constructor_kwargs={"job": job},
        compute=ActorPoolStrategy(size=min(pool.replicas, len(units)), max_tasks_in_flight_per_actor=IN_FLIGHT),
        batch_size=None,
        num_cpus=pool.num_cpus,
        num_gpus=pool.num_gpus or None,
    )
    with on_one_machine() if one_machine else nullcontext(), named_failures():
        # Closed here when nobody asks further: Ray Data tells of its end, too.
        batches: Any = iter(dataset.iter_batches(batch_size=None, prefetch_batches=0))
        with closing(batches):
            for batch in batches:
                for text in batch["outcome"]:
                    yield UnitOutcome(**json.loads(text))


_RAY_DATAS_WORDS = re.compile(r"\n?Failed to .* after \d+/\d+ attempts \(total backoff .*", re.DOTALL)
"""What Ray Data writes into the message of an exception that a replica raised, ours or another's: how to try again."""


@contextmanager
def named_failures() -> Iterator[None]:
    """Turn what Ray wraps around a replica's failure back into the failure.

    Raises:
        HeroRayError: the one the replica raised, or ReplicaError with the kind and the words of what it raised.
    """
    from ray.exceptions import RayError

    try:
        yield
    except RayError as error:
        raised = getattr(error, "cause", None)
        cause = raised
        while cause is not None and not isinstance(cause, HeroRayError):
            cause = cause.__cause__
        if cause is not None:
            cause.args = tuple(_said(word) for word in cause.args)
            raise cause from None
        raise ReplicaError(f"a replica failed: {_told(error, raised)}") from error


def _said(word: Any) -> Any:
    return _RAY_DATAS_WORDS.sub("", word) if isinstance(word, str) else word


def _told(error: Exception, raised: BaseException | None) -> str:
    """Kind and words of a failure, in one line.

    Of what a replica raised while it started Ray gives the text alone, behind the name of its class.
    """
    if raised is not None:
        words = " ".join(str(word) for word in map(_said, raised.args) if word != "")
        return " ".join(f"{type(raised).__name__}: {words}".rstrip(": ").split())
    lines = [line.strip() for line in _said(str(error)).splitlines() if line.strip()]
    return re.sub(r"^hero_ray\.[\w.]+: ", "", lines[-1]) if lines else type(error).__name__
