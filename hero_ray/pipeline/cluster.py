"""Ray: connect or start, and decide how many replicas fit."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal
from urllib.parse import urlsplit

from hero_ray.core.errors import ConfigError

CPU_SHARE = 0.75
"""CPUs an actor without GPU asks for: below one, so that a two-core machine has room for Ray's own tasks."""

HERE = "local"
"""Ray's word for a Ray of one's own; without it Ray attaches to whatever cluster was started on this machine last."""
PATIENCE_S = 30.0
_REMEDY = "Unset RAY_ADDRESS and leave out --address to start a Ray here"


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
    if address_of(address) == HERE:
        _guard_local()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its warnings name Ray's internals, not the sweep
    import ray

    already = ray.is_initialized()
    if not already:
        check_address(address)
        target = address_of(address)
        local: dict[str, Any] = {}
        if target == HERE:
            local = {"include_dashboard": dashboard, "object_store_memory": 256 * 2**20}
        try:
            with _silent_stderr(), _fitted_to_one_machine():
                ray.init(address=target, log_to_driver=False, logging_level=logging.ERROR, **local)
        except (ConnectionError, ValueError, RuntimeError) as problem:
            if target == HERE:
                raise
            first = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
            raise ConfigError(f"{_named(address)}: Ray refuses to connect: {first}. {_REMEDY}") from None
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


def address_of(address: str | None) -> str:
    """The cluster to connect to: what is asked for, else RAY_ADDRESS, else `HERE`."""
    return address or os.environ.get("RAY_ADDRESS") or HERE


def check_address(address: str | None) -> None:
    """Find out within `PATIENCE_S` whether a Ray cluster answers at an address; `ray.init` would try for minutes.

    Raises:
        ConfigError: an address of another kind, or no cluster there; names where the address comes from.
    """
    target = address_of(address)
    ray = sys.modules.get("ray")
    if target in (HERE, "auto") or (ray is not None and ray.is_initialized()):
        return
    if target.startswith(("http://", "https://")):
        raise ConfigError(
            f"{_named(address)} is the address of Ray's Jobs API, not of a cluster. Write HOST:6379 or "
            f"ray://HOST:10001, or submit the sweep there as a job (docs/jobs.md). {_REMEDY}"
        )
    place = urlsplit(target if "://" in target else f"ray://{target}")
    if place.scheme != "ray":
        return  # a provider's own, which Ray hands to that provider's package
    try:
        host, port = place.hostname, place.port or (10001 if "://" in target else None)
    except ValueError:
        host, port = None, None
    if not host or not port:
        raise ConfigError(f"{_named(address)} is no Ray address; write HOST:6379 or ray://HOST:10001. {_REMEDY}")
    if not _answers(host, port):
        raise ConfigError(f"{_named(address)}: no Ray cluster answers at {host}:{port}. {_REMEDY}")


def _named(address: str | None) -> str:
    return f"--address {address}" if address else f"RAY_ADDRESS={os.environ.get('RAY_ADDRESS')}"


def _answers(host: str, port: int) -> bool:
    """Whether something that speaks gRPC, as Ray does, listens there."""
    try:
        socket.create_connection((host, port), timeout=PATIENCE_S / 3).close()
    except OSError:
        return False
    try:
        import grpc
    except ImportError:  # Ray's client and dashboard need it, its core does not
        return True
    if os.environ.get("RAY_USE_TLS") == "1":  # ready only with its certificates
        return True
    shown = f"[{host}]" if ":" in host else host
    with grpc.insecure_channel(f"{shown}:{port}") as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=PATIENCE_S / 3)
        except grpc.FutureTimeoutError:
            return False
    return True


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
