"""Ray comes up, and its workers import what they will run, while the sweep is still being planned."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from hero_ray.core.config import SweepConfig
from hero_ray.core.errors import StoreError
from hero_ray.core.secret import NAMES
from hero_ray.engine.endpoint import is_endpoint
from hero_ray.pipeline import cluster
from hero_ray.pipeline.finished import COMPLETE
from hero_ray.pipeline.hardware import cuda_here
from hero_ray.store import open_store
from hero_ray.store.engine import parse_url, sqlite_path

MODULES = ("hero_ray.pipeline.preloading",)
"""What workers import before they are asked for anything."""
MOST_CPUS = 16
"""Ray keeps a worker for every CPU; on more than these most would import for nothing."""


@contextmanager
def head_start(config: SweepConfig, url: str, address: str | None, fresh: bool = False) -> Iterator[Callable[[], None]]:
    """Gives what starts Ray, to be called once the sweep's names are known to be good; does nothing where Ray is not
    started here or will most likely not be needed. What was started is gone at the end.

    Args:
        url: of the results. fresh: whatever is finished there is not gone on with.
    """
    with cluster.coming_up(preloaded(config)) as begin:
        yield begin if cluster.address_of(address) == cluster.HERE and worthwhile(config, url, fresh) else lambda: None


def worthwhile(config: SweepConfig, url: str, fresh: bool = False) -> bool:
    """Whether a sweep most likely has something to answer: none of its name is finished in the database.

    Never with one of our secrets in the environment: while Ray starts they are taken out, and the plan may need them.
    """
    if any(name in os.environ for name in NAMES):
        return False
    file = sqlite_path(parse_url(url))
    if fresh or file is None:  # a server may be long in answering
        return fresh
    if not file.exists():
        return True
    try:
        with open_store(url, read_only=True) as store:
            return not any(run.sweep_name == config.name and run.status == COMPLETE for run in store.runs())
    except StoreError:  # its schema is older, or it is told of when the sweep opens it
        return False


def preloaded(config: SweepConfig) -> Sequence[str]:
    """What workers import as they come up, where about as many become replicas as Ray starts, and none needs a GPU."""
    cpus = os.cpu_count() or 1
    enough = config.replicas == "auto" or 2 * int(config.replicas) >= cpus
    local = not all(map(is_endpoint, config.models))
    return MODULES if local and enough and cpus <= MOST_CPUS and not config.gpus_per_replica and not cuda_here() else ()
