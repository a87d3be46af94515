"""A Ray that is started here does nothing for a stranger, although its ports are open to the network."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.slow]

STRANGER = """
import sys, ray
ray.init(address=sys.argv[1], log_to_driver=False)
@ray.remote
def secrets():
    import os
    return sorted(name for name in os.environ if name.startswith("HERO_RAY"))
print("RAN", ray.get(secrets.remote(), timeout=30))
"""


def asked(address: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if k not in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_ADDRESS")}
    return subprocess.run(
        [sys.executable, "-c", STRANGER, address],
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_a_stranger_without_the_token_runs_nothing(local_ray: None) -> None:
    import ray

    address = ray.get_runtime_context().gcs_address
    for environment in ({"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}):
        done = asked(address, **environment)
        assert done.returncode != 0
        assert "RAN" not in done.stdout
    own = {name: os.environ[name] for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")}
    done = asked(address, **own)
    assert "RAN []" in done.stdout, done.stderr[-2000:]


def test_a_ray_whose_inside_has_moved_starts_unfitted() -> None:
    moved = """
import ray
from hero_ray.pipeline import local_ray
def elsewhere(start):
    def started(node, *given, **more):
        raise AttributeError("'Node' object has no attribute 'get_session_dir_path'")
    return started
local_ray._knowing_its_agents = elsewhere
local_ray.guard()
local_ray.start()
print("CPUS", int(ray.cluster_resources()["CPU"]) > 0)
"""
    done = subprocess.run([sys.executable, "-c", moved], capture_output=True, text=True, timeout=400, check=False)
    assert "CPUS True" in done.stdout, done.stderr[-2000:]


def test_workers_have_the_priority_of_their_driver(local_ray: None) -> None:
    import ray

    assert ray.get(ray.remote(lambda: os.nice(0)).remote()) == os.nice(0)
