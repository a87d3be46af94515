"""Start the service and wait."""

from __future__ import annotations

import io
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout

from hero_ray.core.errors import MissingExtraError
from hero_ray.core.secret import FOLDER, for_workers, written
from hero_ray.pipeline.cluster import HERE, address_of, connected
from hero_ray.results.database import open_results
from hero_ray.serve.settings import TOKENS_VARIABLE, ServeSettings, Tokens
from hero_ray.store import default_url
from hero_ray.store.engine import absolute_url, holds_secret, parse_url


def start(settings: ServeSettings, tokens: Tokens | None = None) -> None:
    """Deploy on the connected Ray; returns when the first model answers."""
    try:
        from ray import serve

        from hero_ray.serve.deployments import APP_NAME, build_app
    except ImportError as error:
        raise MissingExtraError(error.name or "ray[serve]", "serve") from None
    settings = settings.model_copy(update={"db": absolute_url(settings.db or default_url())})
    open_results(settings.db).close()  # a first start makes the tables, so that reading finds some
    if settings.ray_dashboard is None and "RAY_API_SERVER_ADDRESS" not in os.environ:
        settings = settings.model_copy(update=_own_ray())
    timeout = settings.limits.request_seconds + 30  # ours answers first, in OpenAI's shape
    serve.start(http_options={"host": settings.host, "port": settings.port, "request_timeout_s": timeout})
    serve.run(build_app(settings, tokens), name=APP_NAME, route_prefix="/")


def _own_ray() -> dict[str, str]:
    """Where the Ray of this service takes jobs and where they find it.

    A worker process guesses the default port, and Ray tells a job the cluster that was started last on its machine:
    both may be another Ray's. The driver knows.
    """
    import ray

    found = ray.init(ignore_reinit_error=True, logging_level=logging.ERROR).dashboard_url
    own = {"ray_address": ray.get_runtime_context().gcs_address}
    return own | ({"ray_dashboard": f"http://{found}"} if found else {})


@contextmanager
def _secrets_of_jobs(settings: ServeSettings, address: str | None) -> Iterator[None]:
    """While a Ray of this machine's own runs, keep what the jobs of sweeps need in files of this account alone.

    They are told the folder; Ray's environment has none of the secrets. A cluster's nodes have their own.
    """
    url, values = absolute_url(settings.db or default_url()), for_workers()
    if holds_secret(parse_url(url)):
        values["HERO_RAY_DB"] = url
    if address_of(address) != HERE or not values:
        yield
        return
    before = os.environ.get(FOLDER)
    with written(values) as folder:
        os.environ[FOLDER] = str(folder)
        try:
            yield
        finally:
            os.environ.pop(FOLDER)
            if before is not None:
                os.environ[FOLDER] = before


def end(ending: ExitStack) -> None:
    """Take the service down in silence until `ending` is left, which should be when Ray is gone.

    Ray tells in red of actors that it ends itself (`graceful_shutdown`); an error of ours is raised all the same.
    """
    from ray import serve

    ending.enter_context(redirect_stderr(io.StringIO()))
    ending.enter_context(redirect_stdout(io.StringIO()))
    serve.shutdown()


def serve_forever(settings: ServeSettings, address: str | None = None) -> None:
    """Start, tell where, and wait for Ctrl-C."""
    tokens = Tokens.from_environment()
    os.environ.pop(TOKENS_VARIABLE, None)  # before Ray starts: workers and the jobs of sweeps inherit what is left
    with (
        ExitStack() as ending,
        _secrets_of_jobs(settings, address),
        connected(address, dashboard=True),
    ):  # sweeps over HTTP are Ray jobs, which live in Ray's dashboard
        start(settings, tokens)
        sys.stderr.write(
            f"hero_ray serves {', '.join(settings.models)} on http://{settings.host}:{settings.port} "
            "(API under /v1, docs under /docs); Ctrl-C stops it\n"
        )
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            sys.stderr.write("hero_ray: stopping\n")
            end(ending)
