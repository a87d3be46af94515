"""Ray: connect or start, and decide how many replicas fit."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from hero_ray.core.errors import CapacityError, ConfigError
from hero_ray.pipeline import local_ray
from hero_ray.pipeline.growth import NodeLimits, fits, gpus_of_nodes, growth, wait_for_gpus

CPU_SHARE = 0.75
"""CPUs an actor without GPU asks for: below one, so that a two-core machine has room for Ray's own tasks."""
NODES_PATIENCE_S = 900.0
"""Seconds to wait for nodes: a GPU node boots and pulls an image of several GB."""

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


_coming: local_ray.Coming | None = None


@contextmanager
def coming_up(preload: Sequence[str] = ()) -> Iterator[Callable[[], None]]:
    """Gives what begins to start a Ray here, in a thread, for the next `connected`; it is gone at the end.

    Args:
        preload: modules that its workers import while they have nothing to do yet.
    """

    def begin() -> None:
        global _coming
        prepare(HERE)
        import ray

        if not ray.is_initialized():
            _coming = local_ray.Coming(preload)

    global _coming
    try:
        yield begin
    finally:
        begun, _coming = _coming, None
        if begun is not None:
            begun.join()


def prepare(target: str) -> None:
    """Set what Ray reads as it is imported."""
    if target == HERE:
        local_ray.guard()
        # Ray's workers give way to everything else (nice 15): on a busy machine a replica would hardly be let run.
        os.environ.setdefault("RAY_worker_niceness", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Threads that wait must not spin: on a busy machine they keep the one they wait for from running.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its warnings name Ray's internals, not the sweep


@contextmanager
def connected(address: str | None, dashboard: bool = False) -> Iterator[None]:
    """A Ray connection for the duration; a local one is started and shut down, an existing one is left running.

    Args:
        dashboard: start Ray's dashboard, on loopback, with a local Ray; its Jobs API needs it.

    Raises:
        ConfigError: no cluster is at the address, or it refuses.
        RayStartError: no Ray came up here.
    """
    target, begun = address_of(address), _coming
    prepare(target)
    import ray

    if begun is not None:
        begun.wait()
    already = ray.is_initialized()
    if not already:
        check_address(address)
        if target == HERE:
            local_ray.start(dashboard)
        else:
            _connect(target, address)
    quiet()
    try:
        yield
    finally:
        if begun is not None:
            begun.end()
        elif not already:
            ray.shutdown()


def _connect(target: str, address: str | None) -> None:
    import ray

    try:
        ray.init(address=target, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as problem:
        first = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
        raise ConfigError(f"{_named(address)}: Ray refuses to connect: {first}. {_REMEDY}") from None


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
    # Never through a proxy of the environment: Ray does not go through one either.
    with grpc.insecure_channel(f"{shown}:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=PATIENCE_S / 3)
        except grpc.FutureTimeoutError:
            return False
    return True


def quiet() -> None:
    """Keep Ray Data's own chatter out of the sweep's progress lines."""
    from ray.data import DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # failures come out as one named error
    logging.getLogger("ray").setLevel(logging.CRITICAL)


def choose_pool(
    replicas: int | Literal["auto"],
    gpus_per_replica: float | None,
    *,
    useful: int | None = None,
    patience_s: float = 0.0,
    say: Callable[[str], None] = lambda text: None,
) -> Pool:
    """Size the pool from what the cluster has, or can grow to.

    Args:
        useful: replicas beyond which `auto` asks for no node: there is no work for more.
        patience_s: how long nodes with GPUs are waited for, at most; 0 for a cluster that cannot grow.
        say: told what is waited for.

    Raises:
        ConfigError: more GPU asked for than the cluster has and can have.
        CapacityError: none of the nodes came in time.
    """
    import ray

    nodes = gpus_of_nodes()
    can = growth() if patience_s else None
    per_replica = gpus_per_replica
    if per_replica is None:
        per_replica = 1.0 if any(nodes) or (can and can.fits(1.0)) else 0.0
    if per_replica:
        count = _gpu_replicas(replicas, per_replica, nodes, can, useful, patience_s, say)
    cpus = ray.cluster_resources().get("CPU", 1.0)
    if not per_replica:
        count = max(1, int(cpus)) if replicas == "auto" else int(replicas)
    share = min(1.0 if per_replica else CPU_SHARE, cpus / (count + 0.5))
    return Pool(count, round(share, 3), per_replica, threads=_threads(int(cpus // count)))


def _threads(share: int) -> int:
    """Threads of a replica: its share of the CPUs, or fewer where OMP_NUM_THREADS says so."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(share, int(asked)) if asked.isdigit() and int(asked) else share)


def _gpu_replicas(
    replicas: int | Literal["auto"],
    per_replica: float,
    nodes: list[float],
    can: NodeLimits | None,
    useful: int | None,
    patience_s: float,
    say: Callable[[str], None],
) -> int:
    there = fits(nodes, per_replica)
    known = there if not patience_s else max(there, can.fits(per_replica)) if can else None
    if known == 0:
        raise ConfigError(
            f"each replica asks for {per_replica:g} GPU, the cluster has {sum(nodes):g}"
            + (f", {max(nodes):g} of them on one node, and a replica stays on one" if sum(nodes) >= per_replica else "")
            + (" and none of its node types has so many" if patience_s else "")
            + "; lower --gpus-per-replica"
        )
    if replicas == "auto":
        most = known if known is not None else there
        wanted = max(1, there, min(most, useful or most))
    else:
        wanted = int(replicas)
        if known is not None and wanted > known:
            raise ConfigError(
                f"{wanted} replicas of {per_replica:g} GPU do not fit {sum(nodes):g} GPU"
                + (", nor what the cluster can grow to" if patience_s else "")
                + f"; at most {known} do"
            )
    if there >= wanted:
        return wanted
    came = wait_for_gpus(per_replica, wanted, patience_s, say)
    if not came:
        raise CapacityError(
            f"waited {patience_s:g} s for {wanted * per_replica:g} GPUs and none came; `ray status` on the head says "
            "why (quota, spot capacity, no such node type). The same command goes on once they can be had"
        )
    if came < wanted:
        say(f"going on with {came} of {wanted} replicas: the other nodes did not come within {patience_s:g} s")
    return min(came, wanted)


def patience(address: str | None) -> float:
    """Seconds that nodes are waited for: none on a Ray of this machine's own, `HERO_RAY_GPU_WAIT_S` on a cluster.

    Raises:
        ConfigError: not a number of seconds.
    """
    if address_of(address) == HERE:
        return 0.0
    text = os.environ.get("HERO_RAY_GPU_WAIT_S") or str(NODES_PATIENCE_S)
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ConfigError(f"HERO_RAY_GPU_WAIT_S is {text!r}; give seconds, for example 900")
    return seconds
