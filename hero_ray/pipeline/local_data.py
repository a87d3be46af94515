"""Ray Data on one machine: without the actors that count for a dashboard, ask for nodes and know where replicas are.

Each of the three takes a worker that came up for a replica, imports Ray Data for itself and lasts as long as Ray does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from hero_ray.pipeline.local_ray import replaced


@contextmanager
def on_one_machine() -> Iterator[None]:
    """Around an execution whose replicas are all here."""
    from ray.data._internal import stats
    from ray.data._internal.execution import streaming_executor
    from ray.data._internal.execution.operators import actor_pool_map_operator

    told = ("register_dataset_to_stats_actor", "update_execution_metrics", "update_iteration_metrics")
    with replaced(
        *((stats._StatsManager, name, staticmethod(_nothing)) for name in told),
        (streaming_executor, "create_cluster_autoscaler", _as_it_is),
        (actor_pool_map_operator, "get_or_create_actor_location_tracker", _no_tracker),
        (actor_pool_map_operator, "get_actor_locations", lambda replicas: {}),  # each has said so itself
    ):
        yield


def _nothing(*given: Any, **more: Any) -> None:
    """Who would count is not there."""


def _no_tracker() -> Any:
    """Who would keep where every replica is; each of them tells it once."""
    return SimpleNamespace(update_actor_location=SimpleNamespace(remote=_nothing))


def _as_it_is(*given: Any, **more: Any) -> Any:
    """What would ask for nodes: this machine has what it has."""
    import ray
    from ray.data._internal.cluster_autoscaler import ClusterAutoscaler
    from ray.data._internal.execution.interfaces import ExecutionResources

    total = ExecutionResources.from_resource_dict(ray.cluster_resources())

    class Fixed(ClusterAutoscaler):  # type: ignore[misc]
        def try_trigger_scaling(self) -> None:
            pass

        def on_executor_shutdown(self) -> None:
            pass

        def get_total_resources(self) -> ExecutionResources:
            return total

    return Fixed()
