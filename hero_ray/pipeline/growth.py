"""What a cluster can grow to, and the wait until it has.

Ray tells no driver which nodes its autoscaler may start. The autoscaler's own configuration does: on the head of a
launched cluster it lies in a file, under KubeRay Ray's own code derives it from the RayCluster. A driver elsewhere
knows nothing, and can still ask.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LAUNCHED = Path("~/ray_bootstrap_config.yaml")
"""Where Ray's launcher leaves the cluster's configuration in the head's container."""
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
LOOK_S = 1.0


def fits(gpus: Iterable[float], per_replica: float) -> int:
    """Replicas that fit nodes of so many GPUs each: a replica's GPUs are of one node."""
    return sum(int(count / per_replica + 1e-9) for count in gpus)


@dataclass(frozen=True)
class NodeLimits:
    """The workers a cluster can have.

    Attributes:
        types: (GPUs of a node, nodes of this type at most).
        workers: nodes of all types together, at most.
    """

    types: tuple[tuple[float, int], ...]
    workers: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> NodeLimits | None:
        """From an autoscaler's configuration; None where it does not tell a node's resources (machines one owns)."""
        found, most = [], int(config.get("max_workers", 0))
        for name, node in config["available_node_types"].items():
            if name == config.get("head_node_type") and not node.get("max_workers"):
                continue
            if not node.get("resources"):
                return None
            found.append((float(node["resources"].get("GPU", 0)), int(node.get("max_workers", most))))
        return cls(tuple(found), most)

    def fits(self, per_replica: float) -> int:
        """Replicas that fit the cluster at its largest."""
        nodes = [gpus for gpus, most in self.types for _ in range(min(most, self.workers))]
        return fits(sorted(nodes, reverse=True)[: self.workers], per_replica)


def growth() -> NodeLimits | None:
    """What the cluster whose head this process runs on can grow to; None if that is not to be known here."""
    with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):  # whatever Ray's next form of it is
        config = _raycluster() if "KUBERNETES_SERVICE_HOST" in os.environ else _launched()
        return NodeLimits.of(config) if config else None
    return None


def _launched() -> Mapping[str, Any] | None:
    import yaml

    path = LAUNCHED.expanduser()
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None


def _raycluster() -> Mapping[str, Any] | None:
    """Read with the account of the pod, which only the head of an autoscaled cluster has."""
    if not (ACCOUNT / "token").is_file():
        return None
    import requests
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
    from ray.autoscaler._private.kuberay.node_provider import KubernetesHttpApiClient

    name, namespace = os.environ["RAY_CLUSTER_NAME"], os.environ["RAY_CLUSTER_NAMESPACE"]
    try:
        cluster = KubernetesHttpApiClient(namespace).get(f"rayclusters/{name}")
    except requests.RequestException:
        return None
    if not cluster["spec"].get("enableInTreeAutoscaling"):
        return None
    config: dict[str, Any] = _derive_autoscaling_config_from_ray_cr(cluster)
    return config


def gpus_of_nodes() -> list[float]:
    """GPUs of each node that is there."""
    import ray

    return [float(node["Resources"].get("GPU", 0)) for node in ray.nodes() if node["Alive"]]


def wait_for_gpus(
    per_replica: float, wanted: int, patience_s: float, say: Callable[[str], None], look_s: float = LOOK_S
) -> int:
    """Ask the autoscaler for replicas' GPUs and wait; returns how many replicas fit what came.

    What is asked with goes when this ends, or with the process: a request by `request_resources` would outlive a killed
    sweep and keep its nodes for ever.
    """
    from ray.util.placement_group import placement_group, remove_placement_group

    ends, told = time.monotonic() + patience_s, -1.0
    asked = [placement_group([{"GPU": per_replica}]) for _ in range(wanted)]
    try:
        while True:
            nodes = gpus_of_nodes()
            if fits(nodes, per_replica) >= wanted or time.monotonic() >= ends:
                return fits(nodes, per_replica)
            if sum(nodes) != told:
                told = sum(nodes)
                left = max(0.0, ends - time.monotonic())
                say(f"waiting for {wanted * per_replica:g} GPUs, {told:g} there (at most {left:.0f} s more)")
            time.sleep(look_s)
    finally:
        for group in asked:
            remove_placement_group(group)
