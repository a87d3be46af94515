"""Ctrl-C ends a service without Ray's own last words."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from hero_ray.serve import load, run
from hero_ray.serve.settings import ServeSettings

pytest.importorskip("ray.serve")
RED = "\x1b[31mray::ServeController.graceful_shutdown() died\x1b[0m\n"


def noisy(*args: Any) -> None:
    sys.stderr.write(RED)
    sys.stdout.write(RED)


@pytest.fixture(autouse=True)
def loud(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ray that talks while it goes, and a service that is there at once."""

    @contextmanager
    def connected(address: str | None, dashboard: bool = False) -> Iterator[None]:
        yield
        noisy()  # Ray itself goes after Serve

    for module in (run, load):
        monkeypatch.setattr(module, "connected", connected)
    monkeypatch.setattr(run, "start", lambda settings, tokens: None)
    monkeypatch.setattr("ray.serve.shutdown", noisy)


def test_what_ray_prints_while_it_ends_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hero_ray.serve.run.time.sleep", interrupted)
    run.serve_forever(ServeSettings())
    out, err = capsys.readouterr()
    assert (out, err.splitlines()[-1]) == ("", "hero_ray: stopping")
    assert "graceful_shutdown" not in err
    sys.stderr.write("heard again\n")
    assert capsys.readouterr().err == "heard again\n", "both streams are given back"


def test_a_service_that_was_only_loaded_ends_as_silently(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(load, "_wait", lambda url: None)
    with load.running(ServeSettings(port=8123)) as url:
        assert url == "http://127.0.0.1:8123/v1"
    sys.stderr.write("heard again\n")
    assert capsys.readouterr() == ("", "heard again\n")
    with pytest.raises(RuntimeError), load.running(ServeSettings()):
        raise RuntimeError("an error of ours")
