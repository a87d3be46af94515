"""Replicas on declared GPUs of several nodes: one a card, two a card, four a replica, MIG slices by name, a sweep."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sweeps import answers, script_environment, small_plan, undisturbed

from hero_ray.store import open_store

pytestmark = [pytest.mark.ray, pytest.mark.slow]

PLAN: dict[str, Any] = {"num_images": 12, "replicas": 4, "model_args": {"work_ms": 60}}
GPUS = (1, 1, 1, 2)
SLICES = ("MIG-1e0c", "MIG-2b7f", "MIG-3c11", "MIG-4d22")
# A process of its own: the session's Ray and a test cluster cannot live in one.
SCRIPT = """
import json, os, sys
from contextlib import redirect_stdout
import ray
from ray.cluster_utils import Cluster
from sweeps import LOADER, small_plan
from test_placement_on_ray import GPUS, PLAN, SLICES
from hero_ray.core.errors import ConfigError
from hero_ray.pipeline import cluster
from hero_ray.pipeline.run import run
from hero_ray.store import open_store

class Replica:
    def where(self):
        return ray.get_runtime_context().get_node_id(), os.environ.get("CUDA_VISIBLE_DEVICES")

def spread(pool):
    kind = ray.remote(num_cpus=pool.num_cpus / 10, num_gpus=pool.num_gpus)(Replica)
    replicas = [kind.remote() for _ in range(pool.replicas)]
    return ray.get([replica.where.remote() for replica in replicas], timeout=300)

found = {}
os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(SLICES)  # of every node: Ray gives out as many as a node declares
with redirect_stdout(sys.stderr):
    memory = 150 * 2**20
    nodes = Cluster(initialize_head=True, head_node_args={
        "num_cpus": 0, "num_gpus": 0, "include_dashboard": False, "object_store_memory": memory})
    for gpus in GPUS:
        nodes.add_node(num_cpus=1, num_gpus=gpus, object_store_memory=memory)
    with cluster.connected(nodes.address):
        found["whole"] = spread(cluster.choose_pool("auto", None))
        found["halves"] = spread(cluster.choose_pool("auto", 0.5))
    with open_store(sys.argv[1]) as store:
        ended = run(small_plan(**PLAN), store, address=nodes.address, loader=LOADER)
    found["sweep"] = [ended.run_id, ended.status]
    nodes.add_node(num_cpus=1, num_gpus=4, object_store_memory=memory)
    with cluster.connected(nodes.address):
        found["four"] = spread(cluster.choose_pool("auto", 4.0))
        try:
            cluster.choose_pool("auto", 8.0)
        except ConfigError as error:
            found["eight"] = str(error)
    nodes.shutdown()
print(json.dumps(found))
"""


def test_replicas_find_their_gpus(tmp_path: Path) -> None:
    environment = script_environment()
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    url = f"sqlite:///{tmp_path / 'results.db'}"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, url],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    for name, each in (("whole", 1), ("halves", 2)):
        seen: dict[str, Counter[str]] = {}
        for node, visible in found[name]:
            seen.setdefault(node, Counter())[visible] += 1
        one, both = Counter({SLICES[0]: each}), Counter(dict.fromkeys(SLICES[:2], each))
        assert sorted(seen.values(), key=len) == [one, one, one, both], name
    ((_, visible),) = found["four"]
    assert sorted(visible.split(",")) == sorted(SLICES)  # one replica, and all cards of one node are its own
    assert "the cluster has 9, 4 of them on one node, and a replica stays on one" in found["eight"]
    run_id, status = found["sweep"]
    assert status == "complete"
    with open_store(url) as store:
        assert answers(store, run_id) == undisturbed(small_plan(**PLAN), tmp_path)
