"""What `serve --check` looks at: all that can be known to fail before Ray starts and weights are read."""

from __future__ import annotations

import re
import socket
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hero_ray.core.errors import ConfigError, MissingExtraError, ParameterError, UnknownNameError
from hero_ray.models.registry import SPECS
from hero_ray.serve.settings import ServeSettings, Tokens

EXTRA = ("fastapi", "uvicorn", "prometheus_client")


def check(settings: ServeSettings) -> None:
    """Check packages, tokens, the database's place, the port, and models with their arguments. Nothing is written.

    A hub id that is no registered name is checked for its form only: nothing is fetched.

    Raises:
        MissingExtraError: the service's packages are not installed.
        ConfigError: a malformed token, or a port that cannot be listened on.
        StoreError: the database cannot be where it should be.
        InputError: a model nobody knows, a folder that holds none, or an argument that models do not take.
    """
    for package in EXTRA:
        if find_spec(package) is None:
            raise MissingExtraError(package, "serve")
    Tokens.from_environment()  # a public address asked for them already; here it is also their form
    _check_database(settings.db)
    _check_port(settings.host, settings.port)
    for name in settings.models:
        _check_model(name, settings.model_args)


def _check_database(url: str | None) -> None:
    from hero_ray.store import default_url
    from hero_ray.store.engine import check_sqlite_path, parse_url

    check_sqlite_path(parse_url(url or default_url()), read_only=False, must_exist=False)


def _check_model(name: str, arguments: dict[str, Any]) -> None:
    from hero_ray import models
    from hero_ray.models.job import Target
    from hero_ray.models.loader import RANDOM

    Target.of(arguments.get("device"), arguments.get("dtype"), arguments.get("attention"))
    plain = name.removesuffix(RANDOM)
    if plain not in SPECS and not Path(plain).expanduser().is_dir():
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", plain):
            raise UnknownNameError("model", name, SPECS)
        return
    others = {key: value for key, value in arguments.items() if key not in ("device", "attention", "graphs")}
    try:
        models.load(name, device="meta", **others)
    except TypeError as error:
        raise ParameterError(f"model_args of {name}: {error}") from None


def _check_port(host: str, port: int) -> None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
            listener.bind(address)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; give another --host or --port, or stop what "
            "uses it"
        ) from None
