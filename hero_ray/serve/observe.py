"""Logs with request ids and Prometheus metrics. Nothing of prompts, pictures or tokens is logged."""

from __future__ import annotations

import json
import logging
import sys
import time
from contextvars import ContextVar
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

REQUEST: ContextVar[str] = ContextVar("hero_ray request id", default="")
"""Id of the request that is being answered, here or for the ingress by a replica."""
LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The service's own counters, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "hero_ray_requests", "Requests by route and status.", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "hero_ray_request_seconds",
            "Time to answer by route.",
            ["route"],
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.stages = Histogram(
            "hero_ray_stage_seconds",
            "Time of a chat answer by stage: prepare (decode, encode, select) and generate.",
            ["stage"],
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.kept = Counter("hero_ray_visual_tokens_kept", "Visual tokens kept.", ["model"], registry=self.registry)
        self.dropped = Counter(
            "hero_ray_visual_tokens_dropped", "Visual tokens dropped.", ["model"], registry=self.registry
        )
        self.queue = Gauge("hero_ray_requests_in_flight", "Requests being answered.", registry=self.registry)
        self.batch = Histogram(
            "hero_ray_batch_size",
            "Requests answered together.",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=self.registry,
        )

    def text(self) -> bytes:
        """Prometheus exposition format."""
        return generate_latest(self.registry)

    def count_tokens(self, model: str, visual: dict[str, Any]) -> None:
        """Note how many visual tokens an answer kept and dropped."""
        if visual:
            self.kept.labels(model).inc(visual["kept"])
            self.dropped.labels(model).inc(max(0, visual["full"] - visual["kept"]))


def access_logger() -> logging.Logger:
    """A logger that writes one JSON object a line to stderr."""
    logger = logging.getLogger("hero_ray.serve")
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    return logger


def access_line(request_id: str, method: str, route: str, status: int, started: float, **more: Any) -> str:
    """One request as a JSON line; the route is the pattern, not the path that was sent."""
    record = {
        "time": time.time(),
        "request_id": request_id,
        "method": method,
        "route": route,
        "status": status,
        "ms": round(1e3 * (time.perf_counter() - started), 2),
        **more,
    }
    return json.dumps(record)
