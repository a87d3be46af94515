"""Several nodes on one machine: replicas spread over them, and a node that is lost takes no row with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sweeps import answers, begun_twice, small_plan, undisturbed

from hero_ray.store import open_store

pytestmark = [pytest.mark.ray, pytest.mark.slow]

# A process of its own: the session's Ray and a test cluster cannot live in one.
SCRIPT = """
import sys, threading, time
from contextlib import redirect_stdout
from ray.cluster_utils import Cluster
from sweeps import LOADER, small_plan, when_rows
from hero_ray.pipeline.run import run
from hero_ray.store import open_store

with redirect_stdout(sys.stderr):
    cluster = Cluster(initialize_head=True, head_node_args={
        "num_cpus": 0, "include_dashboard": False, "object_store_memory": 200 * 2**20})
    nodes = [cluster.add_node(num_cpus=1, object_store_memory=200 * 2**20) for _ in range(2)]
    store = open_store(sys.argv[1])

    def lose_a_node():
        when_rows(store, 20)
        cluster.remove_node(nodes[0], allow_graceful=False)

    thread = threading.Thread(target=lose_a_node)
    thread.start()
    plan = small_plan(num_images=10, model_args={"work_ms": 15})
    disturbed = run(plan, store, address=cluster.address, loader=LOADER)
    thread.join()
    cluster.shutdown()
print(disturbed.run_id, disturbed.status)
"""


def test_a_lost_node_takes_no_row_with_it(store_url: str, tmp_path: Path) -> None:
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), os.environ["PYTHONPATH"]])}
    environment.pop("RAY_ADDRESS", None)
    # A lost node is noticed in two seconds instead of twenty.
    environment |= {"RAY_health_check_initial_delay_ms": "1000", "RAY_health_check_period_ms": "500"}
    environment |= {"RAY_health_check_failure_threshold": "3"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, store_url],
        cwd=here.parents[1],
        env=environment,
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    run_id, status = done.stdout.split()
    assert status == "complete"
    plan = small_plan(num_images=10, model_args={"work_ms": 15})
    with open_store(store_url) as store:
        assert answers(store, run_id) == undisturbed(plan, tmp_path)
        assert begun_twice(store, run_id) <= 1
