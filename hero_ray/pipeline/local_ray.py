"""A Ray of this machine's own: guarded by a token, without what one machine does not need, told no secret of ours."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from hero_ray.core.secret import NAMES


@contextmanager
def starting() -> Iterator[None]:
    """Around the `ray.init` that starts one."""
    with _silent_stderr(), _fitted_to_one_machine(), _kept_back(NAMES):
        yield


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
def _kept_back(names: tuple[str, ...]) -> Iterator[None]:
    """Take variables out of the environment for a while: what a Ray starts later inherits the one it started in."""
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ |= kept


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
