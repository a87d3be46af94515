"""Several nodes on one machine: replicas spread over them, and a node that is lost takes no row with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sweeps import answers, begun_twice, script_environment, small_plan, undisturbed

from hero_ray.store import open_store

pytestmark = [pytest.mark.ray, pytest.mark.slow]

PLAN: dict[str, Any] = {"num_images": 10, "replicas": 2, "model_args": {"work_ms": 15}}
# A process of its own: the session's Ray and a test cluster cannot live in one.
SCRIPT = """
import sys, threading
from contextlib import redirect_stdout
from ray.cluster_utils import Cluster
from sweeps import LOADER, small_plan, when_rows
from test_sweep_nodes import PLAN
from hero_ray.pipeline.run import run
from hero_ray.store import open_store

def lose(cluster, node, store):
    when_rows(store, 20)
    cluster.remove_node(node, allow_graceful=False)

with redirect_stdout(sys.stderr):
    memory = 200 * 2**20
    cluster = Cluster(initialize_head=True, head_node_args={
        "num_cpus": 0, "include_dashboard": False, "object_store_memory": memory})
    cluster.add_node(num_cpus=1, object_store_memory=memory)
    ends = []
    for url in sys.argv[1:]:
        lost = cluster.add_node(num_cpus=1, object_store_memory=memory)
        with open_store(url) as store:
            thread = threading.Thread(target=lose, args=(cluster, lost, store))
            thread.start()
            ends.append(run(small_plan(**PLAN), store, address=cluster.address, loader=LOADER))
            thread.join()
    cluster.shutdown()
for end in ends:
    print(end.run_id, end.status)
"""


def test_a_lost_node_takes_no_row_with_it(tmp_path: Path, postgres_url: str) -> None:
    """One sweep into SQLite, one into PostgreSQL; each loses one of its two nodes."""
    # A lost node is noticed in two seconds instead of twenty.
    environment = script_environment(
        RAY_health_check_initial_delay_ms="1000",
        RAY_health_check_period_ms="500",
        RAY_health_check_failure_threshold="3",
    )
    urls = [f"sqlite:///{tmp_path / 'results.db'}", postgres_url]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *urls],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    wanted = undisturbed(small_plan(**PLAN), tmp_path)
    for url, line in zip(urls, done.stdout.splitlines(), strict=True):
        run_id, status = line.split()
        assert status == "complete"
        with open_store(url) as store:
            assert answers(store, run_id) == wanted
            assert begun_twice(store, run_id) <= 1
