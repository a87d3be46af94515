"""A Ray of this machine's own: what starts it early, and what is said when it does not come up."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hero_ray.cli import main
from hero_ray.core.config import SweepConfig, build
from hero_ray.core.errors import ConfigError
from hero_ray.core.secret import NAMES
from hero_ray.pipeline import cluster, head_start, local_ray
from hero_ray.store import open_store

TIMED_OUT = "The current node timed out during startup. This could happen because the GCS has become overloaded."
ALOUD = """
import os, sys
from hero_ray.pipeline.local_ray import _silent_stderr
with _silent_stderr(sys.argv[1] == "heard"):
    os.write(2, b"of C++\\n")
    print("of Python", file=sys.stderr)
print("afterwards", file=sys.stderr)
"""


@pytest.fixture
def overloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def init(**options: Any) -> None:
        raise Exception(TIMED_OUT)  # as Ray does

    for name in (*NAMES, "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)


@pytest.mark.parametrize("early", [False, True], ids=["in turn", "early"])
def test_a_ray_that_does_not_come_up_is_one_line(
    overloaded: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, early: bool
) -> None:
    if not early:
        monkeypatch.setattr(head_start, "worthwhile", lambda *asked: False)
    with pytest.raises(SystemExit) as end:
        main(
            [
                *("sweep", "--tasks", "synth-exist", "--limit", "2", "--methods", "full", "--no-profile"),
                *("--db", f"sqlite:///{tmp_path}/results.db"),
            ]
        )
    said = capsys.readouterr().err.splitlines()
    assert end.value.code == 1
    assert said[-1].startswith("error: Ray did not start on this machine")
    assert TIMED_OUT in said[-1]
    assert "--address" in said[-1]
    assert cluster._coming is None


def test_a_service_without_ray_is_one_line_too(
    overloaded: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["serve", "--model", "hero-tiny", "--db", f"sqlite:///{tmp_path}/results.db"])
    assert end.value.code == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: Ray did not start on this machine")


def test_a_node_may_take_longer_than_ray_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def ask(number: int) -> str:
        asked.append(number)
        if len(asked) < 3:
            raise RuntimeError("no such node yet")
        return "there"

    monkeypatch.setattr(local_ray.time, "sleep", lambda seconds: None)
    assert local_ray._patiently(ask, 7) == "there"
    assert asked == [7, 7, 7]
    asked.clear()
    with pytest.raises(RuntimeError, match="no such node yet"):
        local_ray._patiently(ask, 7, patience_s=-1.0)


def test_a_node_is_told_the_ports_of_its_agents(tmp_path: Path) -> None:
    ports = local_ray._free_ports()
    assert len(set(ports)) == len(local_ray.AGENT_PORTS)
    given = SimpleNamespace(**dict(zip(local_ray.AGENT_PORTS, ports, strict=True)))
    node = SimpleNamespace(get_session_dir_path=lambda: str(tmp_path), node_id="abc", _ray_params=given)
    assert local_ray._knowing_its_agents(lambda node, *more: more)(node, 1) == (1,)
    assert {path.name: int(path.read_text()) for path in tmp_path.iterdir()} == {
        f"{name}_abc": port for name, port in vars(given).items()
    }


def test_what_was_replaced_comes_back() -> None:
    class Owner:
        @staticmethod
        def there() -> str:
            return "first"

    with local_ray.replaced((Owner, "there", staticmethod(lambda: "second")), (Owner, "of another version", 1)):
        assert Owner.there() == "second"
    assert Owner.there() == "first"
    assert not hasattr(Owner, "of another version")


def test_the_thread_that_started_ray_outlives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux ends a thread's children with it."""
    told: list[Any] = []
    monkeypatch.setattr(local_ray, "start", lambda **given: told.append((threading.current_thread(), given)))
    monkeypatch.setattr("ray.is_initialized", lambda: bool(told))
    monkeypatch.setattr("ray.shutdown", lambda: told.append(threading.current_thread()))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with cluster.coming_up(["json"]) as begin:
        begin()
        with cluster.connected(None):
            (starter, given), *others = told
            assert (given, others) == ({"preload": ["json"], "heard": True}, [])
            assert starter.is_alive()
            assert starter is not threading.main_thread()
    assert told[1:] == [starter]
    assert not starter.is_alive()


def test_what_was_begun_for_nothing_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr(local_ray, "start", lambda **given: None)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.shutdown", lambda: ended.append(1))

    def planned() -> None:
        with cluster.coming_up() as begin:
            begin()
            raise ConfigError("no such budget")

    with pytest.raises(ConfigError, match="no such budget"):
        planned()
    assert ended == [1]


@pytest.mark.parametrize(("how", "said"), [("heard", ["of Python", "afterwards"]), ("held", ["afterwards"])])
def test_what_python_says_comes_through_while_ray_starts(how: str, said: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", ALOUD, how], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == said


def test_a_driver_costs_no_torch() -> None:
    code = "import hero_ray.pipeline.run, sys; print(*sorted({'torch', 'ray', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_an_early_start_is_worth_it_where_nothing_of_the_name_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    url, config = f"sqlite:///{tmp_path}/results.db", build({"name": "mine", "tasks": ["synth-exist"]})
    assert head_start.worthwhile(config, url)
    assert not (tmp_path / "results.db").exists(), "nothing is made"
    with open_store(url) as store:
        assert head_start.worthwhile(config, url)
        for run, name, status in (("a", "another", "complete"), ("b", "mine", "interrupted")):
            store.create_run(run, name, {}, run)
            store.set_status(run, status)
        assert head_start.worthwhile(config, url)
        store.set_status("b", "complete")
    assert not head_start.worthwhile(config, url)
    assert head_start.worthwhile(config, url, fresh=True)
    assert not head_start.worthwhile(config, "postgresql://user@nowhere/results"), "which may be long in answering"
    monkeypatch.setenv("HERO_RAY_JUDGE_KEY", "secret")
    assert not head_start.worthwhile(config, url, fresh=True)


@pytest.mark.parametrize(
    ("asked", "cpus", "cuda", "anything"),
    [
        ({}, 2, False, True),
        ({"replicas": 1}, 2, False, True),
        ({"replicas": 1}, 4, False, False),
        ({"replicas": 4}, 4, False, True),
        ({}, 64, False, False),
        ({}, 2, True, False),
        ({"gpus_per_replica": 0.5}, 2, False, False),
        ({"models": ["endpoint:http://127.0.0.1:1/v1"]}, 2, False, False),
    ],
)
def test_workers_import_ahead_where_they_become_replicas(
    monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any], cpus: int, cuda: bool, anything: bool
) -> None:
    monkeypatch.setattr(head_start.os, "cpu_count", lambda: cpus)
    monkeypatch.setattr(head_start, "cuda_here", lambda: cuda)
    config: SweepConfig = build({"tasks": ["synth-exist"]} | asked)
    assert bool(head_start.preloaded(config)) == anything


def test_what_workers_preload_is_imported_and_left_out_of_the_search_for_garbage() -> None:
    script = (
        "import gc, sys; import hero_ray.pipeline.preloading as preloading; "
        "assert all(name in sys.modules for name in preloading.MODULES); assert gc.isenabled(); "
        "print(gc.get_freeze_count())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 100_000
    assert head_start.MODULES == ("hero_ray.pipeline.preloading",)
