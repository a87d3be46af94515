"""`hero-ray profile --clients`: put a service of one's own, or anybody's server, under load and store what it does."""

from __future__ import annotations

import logging
import socket
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from hero_ray.core.config import SweepConfig
from hero_ray.core.errors import ConfigError, ReplicaError
from hero_ray.core.plan import ENDPOINT
from hero_ray.engine.endpoint import is_endpoint
from hero_ray.pipeline.cluster import HERE, connected
from hero_ray.pipeline.facts import model_fact
from hero_ray.pipeline.opening import open_task
from hero_ray.profiling import load, load_cells
from hero_ray.serve.settings import ServeSettings, Tokens, build_settings

RANDOM = ":random"
READY_S = 900.0
"""Seconds for the weights to be read."""


@dataclass(frozen=True)
class LoadRequest:
    """What `profile` was asked to load.

    Attributes:
        config: one model, its methods and budgets, and one benchmark; rounds and warm-up stand in `profile`.
        clients: numbers of clients.
        requests, questions: of a round; different ones among them at most.
        against: address of an unpruned server that an endpoint is held against.
        streamed: ask for answers piece by piece; None: where the server is not ours.
    """

    config: SweepConfig
    clients: tuple[int, ...]
    requests: int = 64
    questions: int = 64
    against: str | None = None
    streamed: bool | None = None


def run(asked: LoadRequest, progress: Callable[[str], None] = lambda message: None) -> list[dict[str, Any]]:
    """Profile records of every cell under every number of clients, the unpruned cell's first.

    Raises:
        ConfigError: not one model and one benchmark, or options that do not belong together.
        EndpointError: a server that cannot be asked what it serves.
        ReplicaError: our own service did not come up.
    """
    config = asked.config
    if len(config.models) != 1 or len(config.tasks) != 1:
        raise ConfigError("a load needs one model and one benchmark: --model hero-tiny --tasks synth-attribute")
    (model,) = config.models
    benchmark = open_task(config.tasks[0])
    if is_endpoint(model):
        return _foreign(asked, model, benchmark, progress)
    if asked.against is not None:
        raise ConfigError("--against goes with an endpoint; our own models are held against `full`, which rides along")
    return _own(asked, model, benchmark, progress)


def _own(asked: LoadRequest, model: str, benchmark: Any, progress: Callable[[str], None]) -> list[dict[str, Any]]:
    config, streamed = asked.config, bool(asked.streamed)
    engine = load_cells.engine_facts(config)
    device = _device(config.model_args)
    scored = not model.endswith(RANDOM)
    fact = model_fact(model, config.model_args, device != "cpu") if scored else None
    family = fact.family if fact else _family(model)
    questions = load.questions_of(benchmark, family, asked.questions)
    settings = service_settings(model, config.model_args, max(asked.clients), device)
    progress(f"starting the service for {model}")
    with running(settings) as url:
        job = _job(asked, load_cells.own_contenders(config, url, streamed), benchmark, questions, scored)
        measured = load.measure(job, progress)
    more = load_cells.of_our_service(
        device,
        dtype=fact.dtype if fact else str(config.model_args.get("dtype") or "default"),
        random_weights=not scored,
        model_args={key: str(value) for key, value in sorted(config.model_args.items())},
        replicas=settings.replicas,
        server_batch=settings.batch_size,
        server_wait_s=settings.batch_wait_s,
        **engine,
    )
    certificate = load_cells.conditions(job, streamed, **more)
    return load_cells.written(
        load.records(job, measured), certificate, model, family, fact.revision if fact else "random"
    )


def _foreign(asked: LoadRequest, model: str, benchmark: Any, progress: Callable[[str], None]) -> list[dict[str, Any]]:
    streamed = True if asked.streamed is None else asked.streamed
    contenders = load_cells.endpoint_contenders(model, asked.config.model_args, asked.against, streamed)
    questions = load.questions_of(benchmark, ENDPOINT, asked.questions)
    job = _job(asked, contenders, benchmark, questions, True)
    measured = load.measure(job, progress)
    certificate = load_cells.conditions(job, streamed, **load_cells.of_servers(contenders))
    return load_cells.written(load.records(job, measured), certificate, *load_cells.origin_of(contenders))


def _job(asked: LoadRequest, contenders: Any, benchmark: Any, questions: Any, scored: bool) -> load.Loading:
    profile = asked.config.profile
    limit = asked.config.max_new_tokens or benchmark.max_new_tokens
    return load.Loading(
        contenders, benchmark, questions, asked.clients, asked.requests, profile.repeats, profile.warmup, limit, scored
    )


def _device(arguments: Mapping[str, Any]) -> str:
    import torch

    return str(arguments.get("device") or ("cuda" if torch.cuda.is_available() else "cpu"))


def _family(model: str) -> str:
    from hero_ray.models.shapes import shape

    return shape(model).family


def service_settings(model: str, arguments: Mapping[str, Any], clients: int, device: str) -> ServeSettings:
    """One replica of one model on a free port of loopback, with room for so many clients' requests."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = int(found.getsockname()[1])
    room = {"queued": max(64, 2 * clients), "queued_work": 1e9, "request_seconds": 600.0}
    gpus = {"gpus_per_replica": 1.0} if device != "cpu" else {}
    # Rounds ask the same questions again; a stranger's pictures are new.
    document = {"models": (model,), "model_args": dict(arguments), "port": port, "limits": room, "kept_mib": 0} | gpus
    return build_settings(document)


@contextmanager
def running(settings: ServeSettings) -> Iterator[str]:
    """Our own service on a Ray of this machine's own, for the duration; yields its base address, up to `/v1`.

    Raises:
        ReplicaError: it did not answer in `READY_S` seconds.
    """
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    with ExitStack() as ending, tempfile.TemporaryDirectory() as folder, connected(HERE):
        from hero_ray.serve.run import end, start

        start(settings.model_copy(update={"db": f"sqlite:///{folder}/results.db"}), Tokens(()))
        try:
            origin = f"http://{settings.host}:{settings.port}"
            _wait(f"{origin}/readyz")
            yield f"{origin}/v1"
        finally:
            end(ending)


def _wait(url: str) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        try:
            opener.open(url, timeout=30).close()
            return
        except OSError:
            time.sleep(0.5)
    raise ReplicaError(f"the service did not read its model in {READY_S:.0f} s; try `hero-ray serve` to see why")
