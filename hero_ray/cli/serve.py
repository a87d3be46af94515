"""Verb `serve`: the HTTP service on this machine or on a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hero_ray.cli import app
from hero_ray.cli.options import Engine
from hero_ray.cli.show import Answer, show


@app.command()
def serve(
    config: Annotated[Path | None, typer.Argument(help="YAML of service settings.")] = None,
    model: Annotated[str | None, typer.Option("--model", "--models", help="Comma-separated model names.")] = None,
    engine: Engine = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; others than loopback need a token.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; default 8000.")] = None,
    replicas: Annotated[int | None, typer.Option(help="Model replicas.")] = None,
    gpus_per_replica: Annotated[float | None, typer.Option(help="GPUs per replica.")] = None,
    db: Annotated[str | None, typer.Option(help="Results database for sweeps and frontiers.")] = None,
    address: Annotated[str | None, typer.Option(help="Ray cluster; else one is started here.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Validate settings, models, port and tokens; stop.")] = False,
) -> None:
    """Serve models over HTTP in OpenAI's form, with `pruning` in the body; also /v1/explain, sweeps and results.

    Tokens come from HERO_RAY_TOKENS=role:secret,... with the roles read, infer and admin.
    """
    from hero_ray.serve.settings import build_settings

    document = _read(config) if config else {}
    options = {"host": host, "port": port, "replicas": replicas, "gpus_per_replica": gpus_per_replica, "db": db}
    document |= {key: value for key, value in options.items() if value is not None}
    if model:
        document["models"] = [name.strip() for name in model.split(",") if name.strip()]
    if engine is not None:
        document["model_args"] = {**(document.get("model_args") or {}), "engine": engine}
    settings = build_settings(document)
    if check:
        from hero_ray.serve.check import check as check_settings

        check_settings(settings)
        said = f"settings are valid: {', '.join(settings.models)} on {settings.host}:{settings.port}"
        where = {"models": list(settings.models), "host": settings.host, "port": settings.port}
        show(Answer([said], record={"valid": True, **where}))
        return
    from hero_ray.serve.run import serve_forever

    serve_forever(settings, address)


def _read(path: Path) -> dict[str, Any]:
    import yaml

    from hero_ray.core.errors import ConfigError

    if not path.is_file():
        raise ConfigError(f"no settings file at {str(path)!r}")
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{str(path)!r} is not valid YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(document, dict | None):
        raise ConfigError(f"{str(path)!r} must hold a mapping of settings, not {type(document).__name__}")
    return document or {}
