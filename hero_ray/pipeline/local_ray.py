"""A Ray of this machine's own: guarded by a token, without what one machine does not need, told no secret of ours."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from hero_ray.core.errors import RayStartError
from hero_ray.core.secret import NAMES

log = logging.getLogger(__name__)

PRELOADED = "RAY_preload_python_modules"
"""Ray's own setting: what every worker imports as it comes up."""
STORE_BYTES = 256 * 2**20
AGENT_PORTS = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
AGENT_PORTS_FROM, AGENT_PORTS_TO = 20_000, 32_000
PATIENCE_S = 90.0
"""For Ray's own node to come up."""


def start(dashboard: bool = False, preload: Sequence[str] = (), heard: bool = False) -> None:
    """Start one and connect to it.

    Args:
        dashboard: with Ray's dashboard, on loopback; its Jobs API needs it.
        preload: modules that its workers import while they have nothing to do yet.
        heard: what this process writes to stderr meanwhile comes through, from other threads too.

    Raises:
        RayStartError: it did not come up; Ray itself raises bare exceptions then.
    """
    import ray

    options: dict[str, Any] = {"include_dashboard": dashboard, "object_store_memory": STORE_BYTES}
    begin = partial(ray.init, address="local", log_to_driver=False, logging_level=logging.ERROR, **options)
    try:
        with _silent_stderr(heard), _kept_back(NAMES), _preloading(preload):
            try:
                with _fitted_to_one_machine(dashboard):
                    begin()
            except (AttributeError, ImportError, TypeError) as moved:  # Ray's inside may change with any release
                log.debug("a Ray that was not fitted to one machine: %s", moved)
                ray.shutdown()
                begin()
        if dashboard:
            _until_jobs_are_taken()
    except Exception as problem:
        ray.shutdown()  # half of it may be there
        raise RayStartError(_not_started(problem)) from problem


def _not_started(problem: Exception) -> str:
    first = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
    load = f", whose load is {os.getloadavg()[0]:.0f} on {os.cpu_count()} CPUs" if hasattr(os, "getloadavg") else ""
    return (
        f"Ray did not start on this machine{load}: {first} Run the same command again when less else runs here, or "
        "start Ray by hand (`ray start --head`) and give its address with --address 127.0.0.1:6379"
    )


class Coming:
    """A Ray of this machine's own that comes up in a thread while its owner does other things.

    The thread stays as long as Ray does: Linux ends Ray's processes with the thread that started them, not with the
    process.
    """

    def __init__(self, preload: Sequence[str] = ()) -> None:
        self._preload = preload
        self._up, self._over = threading.Event(), threading.Event()
        self._problem: BaseException | None = None
        self._thread = threading.Thread(target=self._live, name="ray", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Until it is up.

        Raises:
            RayStartError: it did not come up.
        """
        self._up.wait()
        if self._problem is not None:
            raise self._problem

    def end(self) -> None:
        """Have it shut down; does not wait for that."""
        self._over.set()

    def join(self) -> None:
        """Wait until it is gone."""
        self.end()
        self._thread.join()

    def _live(self) -> None:
        import ray

        try:
            start(preload=self._preload, heard=True)
        except BaseException as problem:
            self._problem = problem
            return
        finally:
            self._up.set()
        self._over.wait()
        ray.shutdown()


def guard() -> None:
    """Have the Ray that is started here refuse strangers: its ports listen on every interface of the machine.

    Before `import ray`. The token is made for this process and its children and stands in no file; a remote cluster
    brings its own setting.
    """
    if "ray" in sys.modules and "RAY_AUTH_MODE" not in os.environ:
        return  # it has read its mode already; its own default for a local cluster is a token, too
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if os.environ["RAY_AUTH_MODE"] == "token":
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


@contextmanager
def replaced(*places: tuple[Any, str, Any]) -> Iterator[None]:
    """Put other things at (owner, name) for a while, where the installed version has something there."""
    known = [(owner, name, vars(owner)[name]) for owner, name, _ in places if name in vars(owner)]
    for owner, name, value in places:
        if name in vars(owner):
            setattr(owner, name, value)
    try:
        yield
    finally:
        for owner, name, value in known:
            setattr(owner, name, value)


@contextmanager
def _fitted_to_one_machine(dashboard: bool) -> Iterator[None]:
    """Start a Ray of this machine's own with what `ray start` has options for and `ray.init` has none.

    Its agents get ports that are free: one default is a fixed port, so the second Ray of a machine, ours or another's,
    would have no agent and refuse every job. No cluster grows here and no log is sent to the driver: the two processes
    for that are spared, 2 of the 12 CPU seconds that a start costs. Without its dashboard Ray would still start the
    dashboard's process and wait for it.
    """
    from ray._private import node, parameter, services, utils

    ports = dict(zip(AGENT_PORTS, _free_ports(), strict=True))
    without: dict[str, Any] = {"include_log_monitor": False, "no_monitor": True}  # annotated as texts, read as flags
    places: list[tuple[Any, str, Any]] = [
        (parameter, "RayParams", partial(parameter.RayParams, **without | ports)),
        (node.Node, "start_raylet", _knowing_its_agents(node.Node.start_raylet)),
        (services, "get_node", partial(_patiently, services.get_node)),
    ]
    if not dashboard:
        places.append((services, "start_api_server", lambda *given, **more: (None, None)))  # as where it fails to start
        # It imports all that a dashboard needs to find out whether it is there. Where it is not, Ray's agent leaves out
        # what serves one.
        places.append((utils, "get_dashboard_dependency_error", lambda: ImportError("not asked for")))
    with replaced(*places):
        yield


def _free_ports() -> list[int]:
    """A port for each of Ray's agents, from where neither the kernel nor Ray's workers take theirs."""
    found: list[int] = []
    while len(found) < len(AGENT_PORTS):
        port = AGENT_PORTS_FROM + secrets.randbelow(AGENT_PORTS_TO - AGENT_PORTS_FROM)
        with socket.socket() as tried, suppress(OSError):
            tried.bind(("", port))
            found += [port] if port not in found else []
    return found


def _knowing_its_agents(start: Callable[..., Any]) -> Callable[..., Any]:
    """Have Ray's node find at once what its agents would tell it: their ports, in files.

    They need seconds to come up, and it waits for them; after 15 s, which a busy machine needs more than, it dies.
    """

    def started(node: Any, *given: Any, **more: Any) -> Any:
        for name in AGENT_PORTS:
            file = Path(node.get_session_dir_path()) / f"{name}_{node.node_id}"
            file.write_text(str(getattr(node._ray_params, name)), encoding="ascii")
        return start(node, *given, **more)

    return started


def _until_jobs_are_taken() -> None:
    """Jobs are started by the agent that the node was told of before it came up."""
    from ray._private import worker

    node: Any = worker._global_node
    place = (node.node_ip_address, node.dashboard_agent_listen_port)
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            socket.create_connection(place, timeout=1).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def _patiently(ask: Callable[..., Any], *given: Any, patience_s: float = PATIENCE_S) -> Any:
    """Ray gives its own node 30 s to come up, which a busy machine needs more than; until then it is no error."""
    end = time.monotonic() + patience_s
    while True:
        try:
            return ask(*given)
        except RuntimeError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


@contextmanager
def _preloading(modules: Sequence[str]) -> Iterator[None]:
    """Name what workers import as they come up, unless the user has named something."""
    mine = bool(modules) and PRELOADED not in os.environ
    if mine:
        os.environ[PRELOADED] = ",".join(modules)
    try:
        yield
    finally:
        if mine:
            os.environ.pop(PRELOADED, None)


@contextmanager
def _kept_back(names: tuple[str, ...]) -> Iterator[None]:
    """Take variables out of the environment for a while: what a Ray starts later inherits the one it started in."""
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ |= kept


@contextmanager
def _silent_stderr(heard: bool) -> Iterator[None]:
    """Hold back what Ray's C++ core prints while it starts; failures to start are exceptions all the same.

    Args:
        heard: leave Python's own `sys.stderr` its way out.
    """
    kept, stream = os.dup(2), sys.stderr
    try:
        aside = heard and stream.fileno() == 2
    except (OSError, ValueError):  # a stream of someone's own
        aside = False
    with open(os.devnull, "wb") as nowhere:
        if aside:
            stream.flush()
            sys.stderr = open(kept, "w", buffering=1, encoding=stream.encoding, errors="replace", closefd=False)  # noqa: SIM115
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        if aside:
            sys.stderr.flush()
            sys.stderr = stream
        os.close(kept)
