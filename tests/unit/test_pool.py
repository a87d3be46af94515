"""How many replicas a sweep gets: what is there, what the cluster can grow to, what came in time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import ray
import yaml

from hero_ray.core.errors import CapacityError, ConfigError
from hero_ray.pipeline import cluster, growth
from hero_ray.pipeline.growth import NodeLimits, fits
from tests.golden import make_rendered

ROOT = Path(__file__).resolve().parents[2]
FOUR = NodeLimits(types=((1.0, 4),), workers=4)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A cluster as Ray would show it; `comes` are the replicas that a wait ends with. Returns what was asked for."""

    def make(
        gpus: list[float], can: NodeLimits | None = None, comes: int | None = None, cpus: float = 8.0
    ) -> list[int]:
        asked: list[int] = []

        def wait(per_replica: float, wanted: int, patience_s: float, say: Any) -> int:
            asked.append(wanted)
            return wanted if comes is None else comes

        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        monkeypatch.setattr(cluster, "gpus_of_nodes", lambda: gpus)
        monkeypatch.setattr(cluster, "growth", lambda: can)
        monkeypatch.setattr(cluster, "wait_for_gpus", wait)
        monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": cpus})
        return asked

    return make


def choose(replicas: Any, gpus: float | None, **options: Any) -> cluster.Pool:
    return cluster.choose_pool(replicas, gpus, **{"patience_s": 5.0, **options})


def test_a_cluster_that_cannot_grow_gives_what_it_has(machine: Any) -> None:
    asked = machine([2.0, 2.0])
    assert choose("auto", None, patience_s=0.0).replicas == 4
    assert choose("auto", 0.5, patience_s=0.0).replicas == 8
    assert choose(3, 1.0, patience_s=0.0) == cluster.Pool(3, 1.0, 1.0, threads=2)
    assert asked == []


def test_gpus_of_one_replica_are_on_one_node(machine: Any) -> None:
    machine([1.0, 1.0, 1.0, 1.0])
    with pytest.raises(
        ConfigError,
        match=r"asks for 2 GPU, the cluster has 4, 1 of them on one node",
    ):
        choose(1, 2.0, patience_s=0.0)
    machine([3.0, 3.0])
    assert choose("auto", 2.0, patience_s=0.0).replicas == 2
    assert NodeLimits(((1.0, 8),), 8).fits(2.0) == 0
    assert NodeLimits(((8.0, 2), (1.0, 4)), 3).fits(1.0) == 17, "the largest first, three nodes in all"


def test_without_a_gpu_anywhere_the_cpus_are_used(machine: Any) -> None:
    machine([0.0, 0.0], can=NodeLimits(((0.0, 9),), 9), cpus=4.0)
    assert choose("auto", None) == cluster.Pool(4, 0.75, 0.0, threads=1)
    assert choose(2, None).replicas == 2


def test_auto_asks_a_cluster_at_zero_for_all_it_can_have(machine: Any) -> None:
    asked = machine([0.0], can=FOUR)
    assert choose("auto", None) == cluster.Pool(4, 1.0, 1.0, threads=2)
    assert asked == [4]


def test_auto_asks_for_no_more_nodes_than_there_are_pictures(machine: Any) -> None:
    asked = machine([0.0], can=FOUR)
    assert choose("auto", 1.0, useful=2).replicas == 2
    assert asked == [2]


def test_auto_grows_a_cluster_that_is_partly_there(machine: Any) -> None:
    asked = machine([1.0], can=FOUR)
    assert choose("auto", 1.0).replicas == 4
    assert asked == [4]


def test_an_explicit_gpu_is_asked_for_where_nothing_is_known(machine: Any) -> None:
    asked = machine([0.0], can=None)
    assert choose("auto", 1.0).replicas == 1
    assert choose(3, 0.5).replicas == 3
    assert asked == [1, 3]


def test_what_cannot_come_is_said_at_once(machine: Any) -> None:
    asked = machine([0.0], can=FOUR)
    with pytest.raises(ConfigError, match=r"5 replicas of 1 GPU do not fit 0 GPU, nor what .* grow to; at most 4 do"):
        choose(5, 1.0)
    with pytest.raises(ConfigError, match="asks for 2 GPU, the cluster has 0 and none of its node types has so many"):
        choose("auto", 2.0)
    assert asked == []


def test_what_came_in_time_is_used_and_nothing_is_an_error(machine: Any) -> None:
    machine([0.0], can=FOUR, comes=3)
    told: list[str] = []
    assert choose(4, 1.0, say=told.append).replicas == 3
    assert told == ["going on with 3 of 4 replicas: the other nodes did not come within 5 s"]
    machine([0.0], can=FOUR, comes=0)
    with pytest.raises(CapacityError, match="waited 5 s for 4 GPUs and none came"):
        choose(4, 1.0)


@pytest.mark.parametrize("text", ["soon", "-1", "inf", "nan"])
def test_the_wait_is_a_number_of_seconds(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("HERO_RAY_GPU_WAIT_S", text)
    assert cluster.patience(None) == 0.0, "a Ray of this machine's own has all it will ever have"
    with pytest.raises(ConfigError, match=r"HERO_RAY_GPU_WAIT_S is .* give seconds"):
        cluster.patience("auto")


def test_the_wait_on_a_cluster_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HERO_RAY_GPU_WAIT_S", raising=False)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    assert cluster.patience(None) == cluster.NODES_PATIENCE_S
    monkeypatch.setenv("HERO_RAY_GPU_WAIT_S", "2.5")
    assert cluster.patience(None) == 2.5


def test_node_types_come_from_the_launcher_s_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The file that `ray up` leaves in the head's home; onprem's names no resources, so nothing is known."""
    from ray.autoscaler._private.util import prepare_config

    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr(growth, "LAUNCHED", tmp_path / "ray_bootstrap_config.yaml")
    assert growth.growth() is None
    for name, expected in {"aws": FOUR, "onprem": None}.items():
        document = yaml.safe_load((ROOT / "cluster" / "launcher" / f"{name}.yaml").read_text(encoding="utf-8"))
        growth.LAUNCHED.write_text(yaml.safe_dump(prepare_config(document)), encoding="utf-8")
        assert growth.growth() == expected
    growth.LAUNCHED.write_text("no: configuration", encoding="utf-8")
    assert growth.growth() is None


def test_node_types_come_from_the_raycluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As Ray derives them from the object, read with the head's own account; other pods know nothing."""
    pytest.importorskip("requests")
    from ray.autoscaler._private.kuberay.node_provider import KubernetesHttpApiClient

    found = next(one for one in make_rendered.built("overlays/gpu") if one["kind"] == "RayCluster")
    for name, value in {"KUBERNETES_SERVICE_HOST": "x", "RAY_CLUSTER_NAME": "hero-ray"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RAY_CLUSTER_NAMESPACE", "hero-ray")
    monkeypatch.setattr(growth, "ACCOUNT", tmp_path)
    monkeypatch.setattr(KubernetesHttpApiClient, "__init__", lambda self, namespace: None)
    monkeypatch.setattr(KubernetesHttpApiClient, "get", lambda self, path: {"rayclusters/hero-ray": found}[path])
    assert growth.growth() is None
    (tmp_path / "token").touch()
    assert growth.growth() == FOUR
    del found["spec"]["enableInTreeAutoscaling"]
    assert growth.growth() is None
    make_rendered.built.cache_clear()


def test_fractions_add_up() -> None:
    assert fits([1.0, 1.0], 0.1) == 20
    assert fits([], 1.0) == 0


@pytest.mark.parametrize(("asked", "threads"), [("1", 1), ("2", 2), ("64", 8), ("", 8), ("0", 8), ("2,1", 8)])
def test_fewer_threads_are_taken_where_the_environment_says_so(
    machine: Any, monkeypatch: pytest.MonkeyPatch, asked: str, threads: int
) -> None:
    machine([0.0])
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert choose(1, 0.0).threads == threads
