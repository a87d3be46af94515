"""A cluster scaled to zero: Ray's own autoscaler on its fake provider of nodes brings GPUs, in part, or never."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from sweeps import script_environment

from tests.machine import free_port

pytestmark = [pytest.mark.ray, pytest.mark.slow]

BIN = Path(sys.executable).parent
HEAD = "ray.head.default"
SCRIPT = """
import json, sys
from hero_ray.core.errors import HeroRayError
from hero_ray.pipeline import cluster
from hero_ray.pipeline.run import run
from hero_ray.store import open_store
from sweeps import LOADER, small_plan

address, database = sys.argv[1:]

def ask(replicas, gpus, patience_s, known=True):
    told = []
    if not known:
        cluster.growth = lambda: None
    try:
        pool = cluster.choose_pool(replicas, gpus, patience_s=patience_s, say=told.append)
        return {"replicas": pool.replicas, "gpus": pool.num_gpus, "told": told}
    except HeroRayError as error:
        return {"error": type(error).__name__, "text": str(error), "told": told}

found = {}
with cluster.connected(address):
    found["too many"] = ask(5, 1.0, 60)
    found["auto"] = ask("auto", None, 120)
with open_store(database) as store:
    ended = run(small_plan(num_images=4, replicas="auto", gpus_per_replica=1.0), store, address=address, loader=LOADER)
    found["sweep"] = [ended.status, ended.answered]
with cluster.connected(address):
    found["in part"] = ask(4, 1.0, 8, known=False)
    found["never"] = ask(1, 2.0, 8, known=False)
print(json.dumps(found))
"""


def configuration(port: int) -> dict[str, Any]:
    """What `ray.cluster_utils.AutoscalingCluster` gives its head: a CPU head, two workers with a GPU at most."""
    empty = ("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands")
    empty += ("head_start_ray_commands", "worker_start_ray_commands", "cluster_synced_files")
    return {
        "cluster_name": "fake",
        "max_workers": 2,
        "upscaling_speed": 100.0,
        "idle_timeout_minutes": 5.0,
        "provider": {"type": "fake_multinode", "gcs_address": f"127.0.0.1:{port}", "launch_multiple": True},
        "available_node_types": {
            HEAD: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "gpu": {
                "resources": {"CPU": 1, "GPU": 1, "object_store_memory": 150_000_000},
                "node_config": {},
                "min_workers": 0,
                "max_workers": 2,
            },
        },
        "head_node_type": HEAD,
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
        "rsync_exclude": [],
        "rsync_filter": [],
        **{name: [] for name in empty},
    }


@pytest.fixture
def scaled_to_zero(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Address of the head and the home its drivers see. AutoscalingCluster itself begins and ends with `ray stop
    --force`, which would take every other Ray of this machine along, and reads a file that Ray's wheel lacks."""
    port, home = free_port(), tmp_path / "home"
    sockets = Path(tempfile.mkdtemp(prefix="hr"))  # their paths are limited to 107 characters
    home.mkdir()
    file = home / "ray_bootstrap_config.yaml"
    file.write_text(yaml.safe_dump(configuration(port)), encoding="utf-8")
    words = [str(BIN / "ray"), "start", "--head", "--block", f"--port={port}", f"--autoscaling-config={file}",
             "--num-cpus=0", "--object-store-memory=150000000", "--include-dashboard=false", "--disable-usage-stats",
             f"--dashboard-agent-listen-port={free_port()}", f"--metrics-export-port={free_port()}",
             f"--ray-client-server-port={free_port()}", "--node-ip-address=127.0.0.1",
             f"--temp-dir={sockets}"]  # fmt: skip
    environment = script_environment(AUTOSCALER_UPDATE_INTERVAL_S="1", RAY_FAKE_CLUSTER="1", HOME=str(home))
    with (tmp_path / "head.log").open("wb") as log:
        head = subprocess.Popen(words, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        yield f"127.0.0.1:{port}", home
    finally:
        ours = [psutil.Process(head.pid), *psutil.Process(head.pid).children(recursive=True)]
        ours += [one for one in psutil.process_iter(["cmdline"]) if f":{port}" in " ".join(one.info["cmdline"] or [])]
        for one in ours:
            try:
                one.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue
        head.wait(10)
        shutil.rmtree(sockets, ignore_errors=True)


def test_gpus_come_from_zero_or_are_said_not_to(scaled_to_zero: tuple[str, Path], tmp_path: Path) -> None:
    address, home = scaled_to_zero
    done = None
    deadline = time.monotonic() + 60
    while done is None or ("Failed to connect" in done.stderr and time.monotonic() < deadline):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, address, f"sqlite:///{tmp_path / 'results.db'}"],
            cwd=Path(__file__).parents[2],
            env=script_environment(HOME=str(home)),
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-3000:] + (tmp_path / "head.log").read_text(encoding="utf-8")[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["too many"]["error"] == "ConfigError"
    assert "at most 2 do" in found["too many"]["text"]
    assert (found["auto"]["replicas"], found["auto"]["gpus"]) == (2, 1.0)
    assert found["auto"]["told"][0].startswith("waiting for 2 GPUs, 0 there (at most ")
    assert found["sweep"][0] == "complete"
    assert found["sweep"][1] > 0
    assert found["in part"]["replicas"] == 2
    assert found["in part"]["told"][0].startswith("waiting for 4 GPUs, 2 there")
    assert found["in part"]["told"][-1].startswith("going on with 2 of 4 replicas")
    assert found["never"]["error"] == "CapacityError"
    assert "waited 8 s for 2 GPUs and none came" in found["never"]["text"]
    assert os.environ.get("RAY_ADDRESS") is None
