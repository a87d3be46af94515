"""Ctrl-C ends a service without Ray's own last words."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from hero_ray.serve import run
from hero_ray.serve.settings import ServeSettings

pytest.importorskip("ray.serve")
RED = "\x1b[31mray::ServeController.graceful_shutdown() died\x1b[0m\n"


def test_what_ray_prints_while_it_ends_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def noisy(*args: Any) -> None:
        sys.stderr.write(RED)
        sys.stdout.write(RED)

    @contextmanager
    def connected(address: str | None, dashboard: bool = False) -> Iterator[None]:
        yield
        noisy()  # Ray itself goes after Serve

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "connected", connected)
    monkeypatch.setattr(run, "start", lambda settings, tokens: None)
    monkeypatch.setattr("hero_ray.serve.run.time.sleep", interrupted)
    monkeypatch.setattr("ray.serve.shutdown", noisy)
    run.serve_forever(ServeSettings())
    out, err = capsys.readouterr()
    assert (out, err.splitlines()[-1]) == ("", "hero_ray: stopping")
    assert "graceful_shutdown" not in err
    sys.stderr.write("heard again\n")
    assert capsys.readouterr().err == "heard again\n", "both streams are given back"
