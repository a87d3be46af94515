"""vLLM's own OpenAI server as an endpoint: a LLaVA folder behind it, its answers beside those of our blocks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from hero_ray.cli import app, load_verbs
from hero_ray.core.config import build
from hero_ray.core.errors import EndpointError
from hero_ray.costs.counted import completion_tokens
from hero_ray.engine.endpoint import ALLOWED, Endpoint
from hero_ray.models.registry import EMBEDDED_WEIGHTS
from hero_ray.pipeline.endpoint_speeds import endpoint_speeds
from hero_ray.pipeline.facts import Plan, make_plan
from hero_ray.pipeline.model_turns import model_args
from hero_ray.store import Store, figures, open_store
from hero_ray.store.verifications import whole_answers
from tests import machine
from tests.answered import answered, small_sweep
from tests.real_vllm import MARKS, serving

pytestmark = [pytest.mark.slow, *MARKS]
SOURCE = {"num_images": 6, "questions_per_image": 3}
TASKS = [{"name": name, "source": SOURCE} for name in ("synth-digits", "synth-words", "synth-exist")]
QUESTIONS = 43
BEGIN = {"add_special_tokens": True}
"""A chat to vLLM has no begin token unless the template says it, and LLaVA's templates leave it to the tokenizer."""


def plan_of(port: int, **arguments: Any) -> Plan:
    document = {
        "name": "asked",
        "models": [f"endpoint:http://127.0.0.1:{port}/v1"],
        "tasks": TASKS,
        "methods": ["full"],
    }
    return make_plan(build(document | {"budgets": [0.2], "model_args": {"served": "tiny", "clients": 4} | arguments}))


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, int]]:
    """A store with the run `asked`, whose server was not there at first and then was, and the port it answers on."""
    home, port = tmp_path_factory.mktemp("vllm"), machine.free_port()
    shutil.copytree(EMBEDDED_WEIGHTS / "hero-tiny", home / "tiny")
    with pytest.MonkeyPatch.context() as patched, open_store(str(home / "r.db")) as store:
        patched.setenv(ALLOWED, f"http://127.0.0.1:{port}")
        answered(store, plan_of(port, attempts=1, fields=BEGIN), "asked")
        assert {failure["error_type"] for failure in store.failures("asked")} == {"EndpointError"}
        assert store.totals("asked") == (0, QUESTIONS)
        with serving(home / "tiny", "tiny", port, home / "said.txt"):
            plan = plan_of(port, fields=BEGIN)
            answered(store, plan, "asked")
            endpoint_speeds(store, "asked", plan.cells, model_args(plan, plan.models[0].name))
            yield store, port


def rows_of(store: Store, run_id: str) -> dict[tuple[str, str], Any]:
    """(benchmark, sample) -> row of the only method of a run."""
    return {
        (cell.benchmark, row.sample_id): row.stored
        for cell in store.cells(run_id)
        for row in store.read(whole_answers, run_id, cell.id)
    }


def test_the_full_cell_is_answered_as_by_our_blocks_after_a_start_without_the_server(asked: Any) -> None:
    store, _ = asked
    answered(store, small_sweep(tasks=TASKS, methods=["full"]), "own")
    theirs, ours = rows_of(store, "asked"), rows_of(store, "own")
    assert store.totals("asked") == (QUESTIONS, 0)
    assert theirs.keys() == ours.keys()
    assert [key for key in ours if theirs[key]["text"] != ours[key]["text"]] == []
    assert all(theirs[key]["score"] == ours[key]["score"] for key in ours)
    for key, row in ours.items():
        told = theirs[key]["scores"]["endpoint"]
        assert told["prompt_tokens"] == row["n_text"] + row["n_visual_llm"], "the very same prompt"
        assert told["completion_tokens"] == (completion_tokens("hero-tiny", row) or 0) + 1, "the end token counts there"
        assert 0 < told["ttft_ms"] <= told["total_ms"]
        assert all(theirs[key][name] is None for name in ("keep_mask", "flops", "n_visual_llm", "kv_bytes"))
    profiles = store.read(figures.profiles, ["asked"])
    assert sum(profile["n"] for profile in profiles) == QUESTIONS
    assert all(profile["certificate"]["fields"] == BEGIN for profile in profiles)


def test_without_its_begin_token_it_is_another_cell(asked: Any) -> None:
    store, port = asked
    plan = plan_of(port)
    assert {cell.id for cell in plan.cells}.isdisjoint(cell.id for cell in store.cells("asked"))
    answered(store, plan, "plain")
    theirs, bare = rows_of(store, "asked"), rows_of(store, "plain")
    counts = [{key: row["scores"]["endpoint"]["prompt_tokens"] for key, row in rows.items()} for rows in (bare, theirs)]
    assert counts[0] == {key: count - 1 for key, count in counts[1].items()}


def test_what_the_server_refuses_is_named_in_its_words(asked: Any) -> None:
    _, port = asked
    with pytest.raises(EndpointError, match=r"answered 404: .*other"):
        Endpoint(f"http://127.0.0.1:{port}/v1", "other").ask(Image.new("RGB", (8, 8)), "?", 4)
    with pytest.raises(EndpointError, match=r"answered 400: .*1024"):
        Endpoint(f"http://127.0.0.1:{port}/v1").ask(Image.new("RGB", (8, 8)), "?", 4000)


def test_a_load_on_it_is_measured(asked: Any, tmp_path: Path) -> None:
    _, port = asked
    load_verbs()
    url, out = f"endpoint:http://127.0.0.1:{port}/v1", tmp_path / "load.jsonl"
    options = {"--model": url, "--clients": "1,8", "--requests": "8", "--limit": "8", "--repeats": "2", "--out": out}
    made = CliRunner().invoke(app, ["profile", *(str(part) for option in options.items() for part in option)])
    assert made.exit_code == 0, made.output
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [record["batch_size"] for record in records] == [1, 8]
    assert all(record["details"]["load"]["failed"] == 0 and record["ttft_ms_p95"] > 0 for record in records)
