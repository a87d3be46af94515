"""Ray: connect or start, and decide how many replicas fit."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from hero_ray.core.errors import ConfigError

CPU_SHARE = 0.75
"""CPUs an actor without GPU asks for: below one, so that a two-core machine has room for Ray's own tasks."""


@dataclass(frozen=True)
class Pool:
    """A fixed-size actor pool."""

    replicas: int
    num_cpus: float
    num_gpus: float
    threads: int


@contextmanager
def connected(address: str | None, dashboard: bool = False) -> Iterator[None]:
    """A Ray connection for the duration; a local one is started and shut down, an existing one is left running.

    Args:
        dashboard: start Ray's dashboard, on loopback, with a local Ray; its Jobs API needs it.
    """
    if address is None and "RAY_ADDRESS" not in os.environ:
        _guard_local()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its warnings name Ray's internals, not the sweep
    import ray

    already = ray.is_initialized()
    if not already:
        target = address or os.environ.get("RAY_ADDRESS")
        local: dict[str, Any] = {} if target else {"include_dashboard": dashboard, "object_store_memory": 256 * 2**20}
        with _silent_stderr(), _fitted_to_one_machine():
            # "local": without it Ray attaches to whatever cluster was started on this machine last.
            ray.init(address=target or "local", log_to_driver=False, logging_level=logging.ERROR, **local)
    quiet()
    try:
        yield
    finally:
        if not already:
            ray.shutdown()


def _guard_local() -> None:
    """Have the Ray that is started here refuse strangers: its ports listen on every interface of the machine.

    Before `import ray`. The token is made for this process and its children and stands in no file; a remote cluster
    brings its own setting.
    """
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if os.environ["RAY_AUTH_MODE"] == "token":
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


@contextmanager
def _fitted_to_one_machine() -> Iterator[None]:
    """Start a Ray of this machine's own with what `ray start` has options for and `ray.init` has none.

    Its agent chooses its port: the default is one fixed port, so the second Ray of a machine, ours or another's, would
    have no agent and refuse every job. No cluster grows here and no log is sent to the driver: the two processes for
    that are spared, 2 of the 12 CPU seconds that a start costs.
    """
    from ray._private import parameter

    known = parameter.RayParams
    without: dict[str, Any] = {"include_log_monitor": False, "no_monitor": True}  # annotated as texts, read as flags
    made = partial(known, dashboard_agent_listen_port=0, **without)
    setattr(parameter, "RayParams", made)  # noqa: B010
    try:
        yield
    finally:
        setattr(parameter, "RayParams", known)  # noqa: B010


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Hold back what Ray's C++ core prints while it starts; failures to start are exceptions all the same."""
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def quiet() -> None:
    """Keep Ray Data's own chatter out of the sweep's progress lines."""
    from ray.data import DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # failures come out as one named error
    logging.getLogger("ray").setLevel(logging.CRITICAL)


def choose_pool(replicas: int | Literal["auto"], gpus_per_replica: float | None) -> Pool:
    """Size the pool from the cluster's resources.

    Raises:
        ConfigError: more GPU per replica asked for than the cluster has.
    """
    import ray

    total = ray.cluster_resources()
    cpus, gpus = total.get("CPU", 1.0), total.get("GPU", 0.0)
    per_replica = gpus_per_replica if gpus_per_replica is not None else (1.0 if gpus else 0.0)
    if per_replica > gpus:
        raise ConfigError(
            f"each replica asks for {per_replica:g} GPU, the cluster has {gpus:g}; lower --gpus-per-replica"
        )
    fit = int(gpus / per_replica + 1e-9) if per_replica else max(1, int(cpus))
    count = fit if replicas == "auto" else int(replicas)
    if count > fit and per_replica:
        raise ConfigError(f"{count} replicas of {per_replica:g} GPU do not fit {gpus:g} GPU; at most {fit} do")
    share = min(CPU_SHARE, cpus / (count + 0.5)) if not per_replica else min(1.0, cpus / (count + 0.5))
    return Pool(count, round(share, 3), per_replica, threads=max(1, int(cpus // count)))
