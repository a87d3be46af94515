"""Ray Serve: an ingress that only translates, in front of the model replicas."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

from ray import serve
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle

from hero_ray.core.errors import ConfigError
from hero_ray.serve.api import build_api
from hero_ray.serve.desk import Desk, RaySweepJobs
from hero_ray.serve.engine_types import ChatJob, ChatResult, Piece
from hero_ray.serve.problems import Problem, problem_from, replica_lost
from hero_ray.serve.replica import ongoing, replica_class
from hero_ray.serve.schemas import PruningRequest
from hero_ray.serve.settings import TOKENS_VARIABLE, ServeSettings, Tokens, is_loopback

APP_NAME = "hero-ray"
MODEL_DEPLOYMENT = "ModelReplica"
RETRIES = 1
"""A request whose replica died is given to another one once; it has no side effects."""


class ServeBackend:
    """`Backend` over a Serve handle."""

    def __init__(self, handle: DeploymentHandle, settings: ServeSettings) -> None:
        self._handle, self._settings = handle, settings
        self._lost, self._lost_at = False, -math.inf
        self._waiting = 0
        self._look: asyncio.Task[None] | None = None

    def lost(self, within_s: float) -> bool:
        return self._lost or time.monotonic() - self._lost_at <= within_s

    def _note_loss(self) -> None:
        self._lost, self._lost_at = True, time.monotonic()

    @contextmanager
    def _waits(self) -> Iterator[None]:
        self._waiting += 1
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(self._look_for_replicas())
        try:
            yield
        finally:
            self._waiting -= 1

    async def _look_for_replicas(self) -> None:
        """While someone waits, see every second whether there is a replica to wait for.

        A request that was running when its replica died fails; one that finds no replica is kept in silence by Serve.
        """
        while self._waiting:
            await asyncio.sleep(1)
            if self._waiting and not await asyncio.to_thread(_any_replica):
                self._note_loss()

    def _on(self, model: str) -> DeploymentHandle:
        return self._handle.options(multiplexed_model_id=model)

    async def chat(self, model: str, job: ChatJob) -> ChatResult:
        return _unwrapped(await self._retried(lambda: self._on(model).chat.remote(job)))

    async def explain(
        self, model: str, picture: bytes, question: str, prunings: list[PruningRequest], options: dict[str, Any]
    ) -> dict[str, Any]:
        call = lambda: self._on(model).explain.remote(picture, question, prunings, options)  # noqa: E731
        return _unwrapped(await self._retried(call))

    async def stream(self, model: str, job: ChatJob) -> AsyncIterator[Piece | ChatResult]:
        for attempt in range(RETRIES + 1):
            begun = False
            pieces: Any = self._on(model).options(stream=True).stream.remote(job)
            try:
                with self._waits():
                    async for piece in pieces:
                        begun, self._lost = True, False
                        yield _unwrapped(piece)
                return
            except Problem:
                raise
            except (asyncio.CancelledError, GeneratorExit):
                pieces.cancel()  # nobody reads it any more
                raise
            except Exception as error:
                if _replica_died(error):
                    self._note_loss()
                if begun or attempt == RETRIES or not _replica_died(error):
                    raise _serve_problem(error) from None

    async def ready(self) -> bool:
        return bool(await self._retried(lambda: self._handle.ready.remote(self._settings.models[0])))

    async def _retried(self, call: Any) -> Any:
        for attempt in range(RETRIES + 1):
            answer = call()
            try:
                with self._waits():
                    made = await answer
                self._lost = False
                return made
            except asyncio.CancelledError:
                answer.cancel()  # Serve stops a call when its client leaves, not when we stop waiting
                raise
            except BackPressureError:
                raise _busy() from None
            except Exception as error:
                if _replica_died(error):
                    self._note_loss()
                if attempt == RETRIES or not _replica_died(error):
                    raise _serve_problem(error) from None
        raise AssertionError("unreachable")


def _unwrapped(value: Any) -> Any:
    if isinstance(value, Problem):
        raise value
    return value


def _replica_died(error: BaseException) -> bool:
    from ray.exceptions import RayActorError

    return isinstance(error, RayActorError) or type(error).__name__ in ("ActorDiedError", "ActorUnavailableError")


def _any_replica() -> bool:
    """Whether the controller knows a model replica that runs; True if it cannot be asked."""
    try:
        own = serve.status().applications[serve.get_replica_context().app_name]
        states = own.deployments[MODEL_DEPLOYMENT].replica_states
    except Exception:  # whatever ails the controller is not known to be a lost replica
        return True
    return bool(states.get("RUNNING", 0))  # type: ignore[call-overload]


def _busy() -> Problem:
    headers = {"retry-after": "1"}
    return Problem(429, "too many requests are waiting", "rate_limit_error", code="queue_full", headers=headers)


def _serve_problem(error: BaseException) -> Problem:
    if isinstance(error, BackPressureError):
        return _busy()
    if _replica_died(error):
        return replica_lost()
    return problem_from(error)


class Ingress:
    """Holds the FastAPI application; Serve asks for it once per replica."""

    def __init__(self, settings: ServeSettings, replicas: DeploymentHandle, tokens: Tokens) -> None:
        if not is_loopback(settings.host) and not tokens:
            raise ConfigError(f"refusing to answer without a token: set {TOKENS_VARIABLE} where the service is started")
        self._settings, self._replicas, self._tokens = settings, replicas, tokens

    def __serve_build_asgi_app__(self) -> Any:
        backend = ServeBackend(self._replicas, self._settings)
        desk = Desk(self._settings, RaySweepJobs(self._settings.ray_dashboard))
        return build_api(self._settings, backend, desk, tokens=self._tokens)


def build_app(settings: ServeSettings, tokens: Tokens | None = None) -> serve.Application:
    """The Serve application, from typed settings and the tokens it answers to (those of the environment if None)."""
    limits = settings.limits
    scaling: dict[str, Any] = {"num_replicas": settings.replicas}
    if settings.max_replicas and settings.max_replicas > settings.replicas:
        scaling = {
            "autoscaling_config": {
                "min_replicas": settings.replicas,
                "max_replicas": settings.max_replicas,
                "target_ongoing_requests": max(2, settings.batch_size // 2),
            }
        }
    replicas: Any = serve.deployment(
        replica_class(settings.models_per_replica),
        name=MODEL_DEPLOYMENT,
        ray_actor_options={"num_cpus": settings.cpus_per_replica, "num_gpus": settings.gpus_per_replica},
        max_ongoing_requests=ongoing(settings),
        max_queued_requests=limits.queued,
        health_check_period_s=2,  # a replica that was killed is replaced that much sooner
        **scaling,
    )
    options: Any = {"ray_actor_options": {"num_cpus": 0.1}, "max_ongoing_requests": 4 * limits.queued}
    ingress: Any = serve.deployment(serve.ingress()(Ingress), name="Ingress", **options)
    return ingress.bind(settings, replicas.bind(settings), tokens or Tokens.from_environment())


def app_from_file(args: dict[str, Any]) -> serve.Application:
    """Builder for a Serve config file: `import_path: hero_ray.serve.deployments:app_from_file`, settings in `args`."""
    from hero_ray.serve.settings import build_settings

    return build_app(build_settings({"host": "0.0.0.0"} | args))  # where Serve listens is not ours to know
