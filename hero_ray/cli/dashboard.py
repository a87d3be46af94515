"""Verb `dashboard`: start the Streamlit app over one results database."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hero_ray.cli import app
from hero_ray.cli.options import Db

if TYPE_CHECKING:
    from hero_ray.store import Store


def folder() -> Path:
    """Where the app lies.

    Raises:
        MissingExtraError: this installation came without the app.
    """
    from hero_ray.core import shipped
    from hero_ray.core.errors import MissingExtraError

    place = shipped.folder("dashboard")
    if not (place / "app.py").is_file():
        raise MissingExtraError("dashboard", "dashboard")
    return place


def require_packages() -> None:
    """Check that the dashboard's extra is there.

    Raises:
        MissingExtraError: it is not.
    """
    from importlib.util import find_spec

    from hero_ray.core.errors import MissingExtraError

    for package in ("streamlit", "plotly"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "dashboard")


def write_bundle(store: Store, run_id: str, target: Path) -> dict[str, Any]:
    """Write the share bundle of a run; returns what the verb prints for scripts.

    Raises:
        InputError: the folder cannot be written.
    """
    from hero_ray.core.errors import InputError

    require_packages()
    sys.path.insert(0, str(folder().parent))
    bundle = importlib.import_module("dashboard.bundle")
    run = store.run(run_id)
    try:
        written = bundle.write(store, [run], target)
    except OSError as problem:
        raise InputError(f"cannot write bundle {target}: {problem.strerror}") from None
    record = {"path": written.index, "files": written.files, "bytes": written.bytes, "flips": written.flips}
    return {"run_id": run.id, **record}


def command(address: str, port: int) -> list[str]:
    """Streamlit with this app's settings: no telemetry, no browser opened, no stack traces shown to visitors."""
    settings = {
        "server.address": address,
        "server.port": port,
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "server.maxUploadSize": 20,
        "browser.gatherUsageStats": "false",
        "client.showErrorDetails": "none",
        "client.toolbarMode": "minimal",
        "runner.magicEnabled": "false",
        "theme.light.primaryColor": "#405EB8",
        "theme.dark.primaryColor": "#4F6BC6",
    }
    flags = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    return [sys.executable, "-m", "streamlit", "run", str(folder() / "entry" / "app.py"), *flags]


def environment(db: str | None, allow_cancel: bool) -> dict[str, str]:
    """Variables the app reads, and the path it is imported from."""
    found = dict(os.environ)
    path = [str(folder().parent), found.get("PYTHONPATH", "")]
    found["PYTHONPATH"] = os.pathsep.join(part for part in path if part)
    found["PYTHONSAFEPATH"] = "1"  # `python -m` would look for `dashboard` in the visitor's folder first
    if db:
        found["HERO_RAY_DB"] = db
    if allow_cancel:
        found["HERO_RAY_DASHBOARD_CANCEL"] = "1"
    return found


@app.command()
def dashboard(
    db: Db = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port to listen on.")] = 8501,
    allow_cancel: Annotated[
        bool, typer.Option("--allow-cancel", help="Let visitors stop sweeps and name runs.")
    ] = False,
) -> None:
    """Open the results in a browser: frontier, tables, flips, speed, runs. Only reads, unless allowed more."""
    from hero_ray.serve.settings import is_loopback
    from hero_ray.store import default_url
    from hero_ray.store.engine import parse_url, shown

    require_packages()
    url = parse_url(db or default_url())
    sys.stderr.write(f"hero_ray dashboard of {shown(url)} on http://{host}:{port}\n")
    if not is_loopback(host):
        sys.stderr.write(
            f"warning: the dashboard has no login: whoever reaches {host}:{port} sees questions, pictures and answers"
            f"{', stops sweeps, names runs' if allow_cancel else ''} and asks the model of Try it; put a proxy with a "
            "login before it (SECURITY.md)\n"
        )
    sys.stderr.flush()
    # In this process's place: whoever stops it stops the server, and no child is left holding the port.
    os.execve(sys.executable, command(host, port), environment(db, allow_cancel))
