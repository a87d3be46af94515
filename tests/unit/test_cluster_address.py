"""Where a sweep connects to: told in one line, within half a minute, before anything is written."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hero_ray.cli import main
from hero_ray.core.errors import ConfigError
from hero_ray.pipeline import cluster
from hero_ray.pipeline.cluster import check_address


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(cluster, "PATIENCE_S", 3.0)
    if "ray" in sys.modules:  # other tests of this process may have one running
        monkeypatch.setattr(sys.modules["ray"], "is_initialized", lambda: False)


@pytest.fixture
def dead() -> int:
    """A port that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture
def mute() -> Iterator[int]:
    """A port whose listener never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


@pytest.mark.parametrize("kind", ["HTTP", "HTTPS"])
def test_the_jobs_api_is_no_cluster(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's own job documentation sets RAY_ADDRESS so."""
    monkeypatch.setenv("RAY_ADDRESS", f"{kind.lower()}://127.0.0.1:8265")
    with pytest.raises(ConfigError, match=r"RAY_ADDRESS=http.*Jobs API.*HOST:6379.*docs/jobs\.md.*Unset RAY_ADDRESS"):
        check_address(None)
    with pytest.raises(ConfigError, match="--address http://head:8265"):
        check_address("http://head:8265")


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "localhost:{}"])
def test_nobody_there(form: str, dead: int, mute: int) -> None:
    for port in (dead, mute):
        with pytest.raises(ConfigError, match=f"no Ray cluster answers at .*:{port}"):
            check_address(form.format(port))


@pytest.mark.parametrize("address", ["head", "head:port", ":6379", "head:99999", "ray://"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ConfigError, match="is no Ray address; write HOST:6379"):
        check_address(address)


def test_who_answers_is_let_through() -> None:
    grpc = pytest.importorskip("grpc")
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    check_address(f"127.0.0.1:{port}")
    check_address(f"ray://127.0.0.1:{port}")
    server.stop(0).wait()
    for address in (None, "local", "auto"):
        check_address(address)


def test_a_sweep_says_it_in_one_line_and_writes_nothing(
    tmp_path: Path, dead: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hero_ray.store import open_store

    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{dead}")
    with pytest.raises(SystemExit) as stopped:
        main(["sweep", "--limit", "1", "--methods", "full", "--tasks", "synth-exist", "--db", str(tmp_path / "a.db")])
    assert stopped.value.code == 2
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith(f"error: RAY_ADDRESS=127.0.0.1:{dead}: no Ray cluster answers")
    with open_store(str(tmp_path / "a.db"), read_only=True) as store:
        assert store.runs() == []
