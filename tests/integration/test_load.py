"""Servers under load, as the command is typed: our own on a Ray of its own, and a stranger's on loopback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_endpoint import scripted
from typer.testing import CliRunner

from hero_ray.cli import app, load_verbs
from hero_ray.engine.endpoint import ALLOWED
from hero_ray.results.load import is_load
from hero_ray.store import figures, open_store


def profiles_of(url: str, run_id: str) -> list[dict[str, Any]]:
    with open_store(url, read_only=True) as store:
        return store.read(figures.profiles, [run_id])


def test_any_server_is_loaded_and_held_against_an_unpruned_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_verbs()
    url = f"sqlite:///{tmp_path / 'r.db'}"
    with scripted() as plain, scripted(503) as pruned:
        monkeypatch.setenv(ALLOWED, f"{plain.url},{pruned.url}")
        asked = ["profile", "--model", f"endpoint:{pruned.url}", "--against", f"endpoint:{plain.url}", "--db", url]
        asked += ["--model-args", "flag=--rate 0.8", "--clients", "1,4", "--requests", "4", "--limit", "3"]
        done = CliRunner().invoke(app, [*asked, "--repeats", "3", "--warmup", "0"])
    assert done.exit_code == 0, done.output
    rows = profiles_of(url, json.loads(done.stdout.strip().splitlines()[-1])["run_id"])
    assert all(is_load(row) for row in rows)
    told = {(row["params"].get("flag"), row["batch_size"]): row["details"]["load"] for row in rows}
    assert {key: one["requests"] for key, one in told.items()} == {
        (None, 1): 12, (None, 4): 24, ("--rate 0.8", 1): 12, ("--rate 0.8", 4): 24
    }  # fmt: skip
    assert len(plain.asked) == len(pruned.asked) == 36
    assert told["--rate 0.8", 1]["failed"] == 1, "a refusal is counted and not tried again"
    assert told["--rate 0.8", 1]["over_base"] is None
    assert told["--rate 0.8", 4]["over_base"]["requests_per_s"]["pairs"] == 3
    assert told[None, 4]["completion_tokens"] == 2 * 24
    assert "Break-even, clients" in done.output


@pytest.mark.ray
@pytest.mark.slow
def test_our_own_service_is_started_loaded_and_stopped(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'r.db'}"
    asked = [
        "profile",
        "--clients",
        "1,4",
        "--methods",
        "full,fastervlm",
        "--budgets",
        "0.2",
        "--tasks",
        "synth-digits",
    ]
    asked += ["--requests", "8", "--limit", "8", "--repeats", "2", "--warmup", "1", "--db", url]
    done = subprocess.run(
        [sys.executable, "-m", "hero_ray", *asked], cwd=tmp_path, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    assert "graceful_shutdown" not in done.stderr + done.stdout, "what Ray says of actors that it ends itself"
    rows = profiles_of(url, json.loads(done.stdout.strip().splitlines()[-1])["run_id"])
    assert {(row["method"], row["batch_size"]) for row in rows} == {
        (method, clients) for method in ("full", "fastervlm") for clients in (1, 4)
    }
    told = {(row["method"], row["batch_size"]): row["details"]["load"] for row in rows}
    assert all(one["failed"] == 0 for one in told.values())
    assert told["full", 1]["score"] == told["full", 4]["score"], "a batch changes no answer"
    assert told["fastervlm", 4]["prompt_tokens_mean"] < told["full", 4]["prompt_tokens_mean"]
    assert told["fastervlm", 4]["over_base"]["requests_per_s"]["low"] > 0
    (certificate,) = {row["certificate_hash"]: row["certificate"] for row in rows}.values()
    assert (certificate["kind"], certificate["answers"], certificate["replicas"]) == ("load", "whole", 1)
