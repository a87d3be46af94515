"""Every Eval Ever's files: valid against the published schema, and the very same run when they come back."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from typer.testing import CliRunner

from hero_ray.cli import app, load_verbs
from hero_ray.core.errors import DatasetError, InputError
from hero_ray.costs.counted import completion_tokens
from hero_ray.models.family import FamilyAdapter
from hero_ray.results.exchange import readers
from hero_ray.results.exchange.every_eval_ever import form, reading, usage, writing
from hero_ray.results.exchange.into_store import import_task
from hero_ray.store import Store, figures, open_store, verifications
from tests import stored as data
from tests.answer_files import lines, sample
from tests.answered import answered, small_sweep

SCHEMAS = Path(form.__file__).parent
CELLS = [data.cell("hero"), data.cell("random", 0.1), data.cell("full", 1.0)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A run with answers, a failure, categories, figures, a decided cell and a profile."""
    with open_store(str(tmp_path / "results.db")) as opened:
        data.begin(opened, cells=CELLS, samples=4)
        samples = [data.sample(i, i // 2, "even" if i % 2 == 0 else "odd") for i in range(4)]
        opened.write_unit("run1", [data.answer(c, s, i % 2) for c in CELLS for i, s in enumerate(samples[:3])])
        opened.write_unit("run1", [data.failure(CELLS[0], samples[3]), data.answer(CELLS[1], samples[3])])
        for cell in CELLS:
            whole = {"metric": "accuracy", "value": 0.4, "n": 3, "ci_low": 0.1, "ci_high": 0.7, "is_main": True}
            part = {"metric": "accuracy", "value": 0.0, "n": 2, "category": "even", "flags": "too few pictures"}
            opened.write_metrics("run1", cell.id, [whole | {"n_clusters": 2, "interval": "cluster-t"}, part])
        timed = {"batch_size": 1, "new_tokens": 8, "ttft_ms_p50": 12.5, "ttft_ms_p95": 14.0, "n": 10, "extra": [1]}
        opened.write_profile("run1", CELLS[0].id, timed | {"certificate": {"device": "cpu"}})
        opened.set_status("run1", "complete")
        yield opened


def content(store: Store, run_id: str) -> str:
    return store.read(verifications.content, run_id, [cell.id for cell in store.cells(run_id)])


def profiles(store: Store, run_id: str) -> list[dict[str, Any]]:
    rows = store.read(figures.profiles, [run_id])
    return [{key: value for key, value in row.items() if key != "run_id"} for row in rows]


def cells(store: Store, run_id: str) -> list[dict[str, Any]]:
    rows = [dict(vars(cell)) for cell in store.cells(run_id)]
    return [{k: v for k, v in row.items() if k not in ("run_id", "summarised_at")} for row in rows]


def assert_valid(folder: Path) -> int:
    """Every file below, by the published schema alone."""
    validators = {
        name: Draft7Validator(json.loads((SCHEMAS / f"{name}.schema.json").read_text()))
        for name in ("eval", "instance_level_eval")
    }
    count = 0
    for path in folder.rglob("*.json"):
        validators["eval"].validate(json.loads(path.read_text()))
        count += 1
    for path in folder.rglob("*.jsonl"):
        for line in path.read_text().splitlines():
            validators["instance_level_eval"].validate(json.loads(line))
    return count


def test_a_run_goes_out_valid_and_comes_back_the_same(store: Store, tmp_path: Path) -> None:
    writing.write_run(store, "run1", tmp_path / "out")
    assert assert_valid(tmp_path / "out") == len(CELLS)
    with open_store(str(tmp_path / "other.db")) as other:
        run_id = reading.import_ours(other, tmp_path / "out")
        assert content(other, run_id) == content(store, "run1")
        assert profiles(other, run_id) == profiles(store, "run1")
        assert cells(other, run_id) == cells(store, "run1")
        run, before = other.run(run_id), store.run("run1")
        assert (run.environment, run.git_commit, run.config["sweep"]) == (
            before.environment,
            before.git_commit,
            before.config,
        )
        writing.write_run(other, run_id, tmp_path / "again")
        third = reading.import_ours(other, tmp_path / "again")
        assert content(other, third) == content(store, "run1")


def test_what_the_format_has_a_field_for_stands_there(store: Store, tmp_path: Path) -> None:
    paths = writing.write_run(store, "run1", tmp_path / "out")
    documents = [json.loads(path.read_text()) for path in paths if path.suffix == ".json"]
    (document,) = [one for one in documents if "ttft" in json.dumps(one["evaluation_results"])]
    whole, _, *timed = document["evaluation_results"]
    interval = whole["score_details"]["uncertainty"]["confidence_interval"]
    assert (interval["lower"], interval["upper"], interval["confidence_level"]) == (0.1, 0.7, 0.95)
    assert whole["generation_config"]["additional_details"]["budget"] == "20%"
    assert whole["generation_config"]["additional_details"]["method"] == "hero"
    assert {one["metric_config"]["metric_id"]: one["score_details"]["score"] for one in timed} == {
        "hero_ray.ttft_ms_p50": 12.5,
        "hero_ray.ttft_ms_p95": 14.0,
    }
    (detailed,) = [
        path for path in paths if path.as_posix().endswith(document["detailed_evaluation_results"]["file_path"])
    ]
    rows = [json.loads(line) for line in detailed.read_text().splitlines()]
    assert [row["error"] for row in rows if row["error"]] == ["RuntimeError: it broke"]
    assert {row["metadata"]["n_visual_llm"] for row in rows if not row["error"]} == {"22"}


@pytest.mark.parametrize("tool", ["lmms-eval", "vlmevalkit"])
def test_imports_of_other_tools_go_out_and_come_back(tool: str, tmp_path: Path) -> None:
    with open_store(str(tmp_path / "a.db")) as store:
        if tool == "lmms-eval":
            said = "Yes,\u2028two\u2029and\x85more lines"  # which end a line for many readers
            rows = [sample(i, said if i else "No", exact_match=float(i > 0)) for i in range(4)]
            path = lines(tmp_path / "org__some-model" / "20260101_000000_samples_pope.jsonl", rows)
        else:
            path = tmp_path / "some-model_MMStar.csv"
            path.write_text("index,question,answer,prediction,hit\n1,Which?,A,A,1\n2,What?,B,C,0\n")
        run_id, kept, _ = import_task(store, readers.read(path), as_is=True)
        writing.write_run(store, run_id, tmp_path / "out")
        assert assert_valid(tmp_path / "out") == 1
        again = reading.import_ours(store, tmp_path / "out")
        assert kept == sum(store.totals(again))
        assert content(store, again) == content(store, run_id)


FOREIGN_PATH = "data/bench/org/model/f3a1c0de-4b2e-4c1a-9f6d-1b7e5a2c8d40_samples.jsonl"


def foreign(folder: Path, **changes: Any) -> Path:
    """A log as another tool writes it."""
    told = {"schema_version": "0.3.0", "evaluation_id": "bench/org_model/1750000000", "evaluation_name": "bench"}
    said = [("Is it red?", "yes", ["yes"], 1.0), ("Is it blue?", "yes", ["no"], 0.0)]
    rows = [
        told
        | {"model_id": "org/model", "sample_id": f"q{i}", "interaction_type": "single_turn"}
        | {"input": {"raw": question, "reference": reference}, "output": {"raw": [answer]}, "answer_attribution": []}
        | {"evaluation": {"score": score, "is_correct": score == 1.0}}
        for i, (question, answer, reference, score) in enumerate(said)
    ]
    path = folder / FOREIGN_PATH
    lines(path, rows)
    result = {
        "evaluation_name": "bench",
        "source_data": {"dataset_name": "bench", "source_type": "url", "url": ["https://example.invalid/bench"]},
        "metric_config": {"metric_id": "accuracy", "metric_name": "accuracy", "lower_is_better": False},
        "score_details": {"score": 0.5, "uncertainty": {"standard_error": {"value": 0.1}}},
    }
    document = {
        "schema_version": "0.3.0",
        "evaluation_id": told["evaluation_id"],
        "retrieved_timestamp": "1750000001",
        "source_metadata": {
            "source_type": "evaluation_run", "source_organization_name": "x", "evaluator_relationship": "other"
        },
        "eval_library": {"name": "unknown", "version": "unknown"},
        "model_info": {
            "name": "model",
            "id": "org/model",
            "additional_details": {"deployment_type": "unknown", "model_availability": "unknown"},
        },
        "evaluation_results": [result],
        "detailed_evaluation_results": {"format": "jsonl", "file_path": FOREIGN_PATH, "total_rows": 2},
    }  # fmt: skip
    aggregate = path.with_name(path.name.replace("_samples.jsonl", ".json"))
    aggregate.write_text(json.dumps(document | changes))
    return aggregate


def test_another_tool_s_log_is_imported_with_its_figure(tmp_path: Path) -> None:
    load_verbs()
    url = f"sqlite:///{tmp_path / 'r.db'}"
    done = CliRunner().invoke(app, ["import", str(foreign(tmp_path)), "--as-is", "--db", url])
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout.strip().splitlines()[-1])
    assert (record["task"], record["answers"]) == ("bench", 2)
    with open_store(url, read_only=True) as store:
        ((metric,),) = store.metrics(record["run_id"]).values()
        assert (metric.metric, metric.value, metric.n) == ("accuracy", 0.5, 2)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schema_version": "0.2.0"}, "0.3.0 is read"),
        ({"surprise": 1}, "not Every Eval Ever 0.3.0: the whole"),
        ({"evaluation_results": [{"evaluation_name": "x"}]}, "evaluation_results/0"),
        ({"detailed_evaluation_results": {"format": "jsonl", "file_path": FOREIGN_PATH, "total_rows": 3}}, "says 3"),
        (
            {
                "detailed_evaluation_results": {
                    "format": "jsonl", "file_path": FOREIGN_PATH, "hash_algorithm": "sha256", "checksum": "0" * 64
                }
            },
            "its checksum differs",
        ),
    ],
    ids=["version", "key", "result", "rows", "checksum"],
)  # fmt: skip
def test_a_broken_file_is_refused_in_one_line(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=said):
        reading.read(foreign(tmp_path, **changes))


def test_an_answer_changed_in_the_file_comes_in_as_it_stands_there(store: Store, tmp_path: Path) -> None:
    """Readers of the format look at its own fields; a copy of ours beside them must not win."""
    paths = writing.write_run(store, "run1", tmp_path / "out")
    file = next(path for path in paths if path.suffix == ".jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[0]["output"]["raw"] = ["something else"]
    lines(file, rows)
    aggregate = file.with_name(file.name.replace("_samples.jsonl", ".json"))
    document = json.loads(aggregate.read_text())
    del document["detailed_evaluation_results"]["checksum"]
    aggregate.write_text(json.dumps(document))
    run_id = reading.import_ours(store, aggregate)
    (cell,) = store.cells(run_id)
    texts = [answer.stored["text"] for answer in store.read(verifications.whole_answers, run_id, cell.id)]
    assert "something else" in texts


TOLD = {"prompt_tokens": 90, "completion_tokens": 3, "ttft_ms": 12.5, "total_ms": 20.25, "attempts": 2}


def told_of(store: Store, run_id: str) -> list[Any]:
    found = [one for cell in store.cells(run_id) for one in store.cell_scores(run_id, cell.id, failed=True)]
    return [one.scores.get("endpoint") for one in sorted(found, key=lambda one: one.sample_key)]


def test_usage_and_times_of_a_request_stand_in_the_formats_own_fields(tmp_path: Path) -> None:
    """Whole, without a count of the answer, and without a first token."""
    records = [TOLD, TOLD | {"completion_tokens": None}, {"prompt_tokens": 5, "completion_tokens": 1, "total_ms": 7.0}]
    cell = data.cell("full", 1.0)
    with open_store(str(tmp_path / "a.db")) as store, open_store(str(tmp_path / "b.db")) as other:
        data.begin(store, cells=[cell], samples=3)
        answers = [data.answer(cell, data.sample(i, i), 1.0) for i in range(3)]
        store.write_unit(
            "run1",
            [replace(one, scores={**one.scores, "endpoint": told}) for one, told in zip(answers, records, strict=True)],
        )
        store.write_metrics("run1", cell.id, [{"metric": "accuracy", "value": 1.0, "n": 3, "is_main": True}])
        paths = writing.write_run(store, "run1", tmp_path / "out")
        assert assert_valid(tmp_path / "out") == 1
        again = reading.import_ours(other, tmp_path / "out")
        assert told_of(other, again) == records
        assert content(other, again) == content(store, "run1")
        (file,) = (path for path in paths if path.suffix == ".jsonl")
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        whole, uncounted, unstreamed = sorted(rows, key=lambda row: row["sample_id"])
        assert whole["token_usage"] == {"input_tokens": 90, "output_tokens": 3, "total_tokens": 93}
        assert whole["performance"] == {
            "latency_ms": 20.25, "time_to_first_token_ms": 12.5, "generation_time_ms": 7.75
        }  # fmt: skip
        assert "token_usage" not in uncounted
        assert unstreamed["performance"] == {"latency_ms": 7.0}
        whole["performance"]["time_to_first_token_ms"] = 99.0
        altered = tmp_path / "altered" / "data" / file.name
        lines(altered, [whole])
        log = reading.Log(
            altered, json.loads(file.with_name(f"{file.stem.removesuffix('_samples')}.json").read_text()), [whole]
        )
        third = reading.import_logs(other, [log], altered)[0]
        assert told_of(other, third)[0]["ttft_ms"] == 99.0, "what readers of the format see is what comes in"


@pytest.mark.parametrize(
    "fields",
    [
        {"token_usage": {"input_tokens": 7, "output_tokens": 2, "total_tokens": 9}},
        {"token_usage": {"input_tokens": 7, "output_tokens": 2, "total_tokens": 12, "reasoning_tokens": 3}},
        {"performance": {"latency_ms": 5.5, "generation_time_ms": 4.0, "additional_details": {"queue_ms": "1"}}},
        {"performance": {"time_to_first_token_ms": 1.5}},
        {"performance": None, "token_usage": None},
    ],
    ids=["tokens", "more tokens", "times", "first token", "nothing"],
)
def test_another_tools_usage_comes_in_and_goes_out_again(fields: dict[str, Any], tmp_path: Path) -> None:
    aggregate = foreign(tmp_path / "in")
    file = aggregate.with_name(aggregate.name.replace(".json", "_samples.jsonl"))
    lines(file, [json.loads(line) | fields for line in file.read_text().splitlines()])
    with open_store(str(tmp_path / "a.db")) as store:
        (log,) = reading.read(aggregate)
        run_id, kept, _ = import_task(store, reading.imported(log), as_is=True)
        paths = writing.write_run(store, run_id, tmp_path / "out")
        (metric,) = (one for found in store.metrics(run_id).values() for one in found)
    assert kept == 2
    assert (metric.metric, metric.value) == ("accuracy", 0.5), "usage is no score"
    assert assert_valid(tmp_path / "out") == 1
    (written,) = (path for path in paths if path.suffix == ".jsonl")
    for line in written.read_text().splitlines():
        row = json.loads(line)
        assert {key: row[key] for key in ("token_usage", "performance") if key in row} == {
            key: value for key, value in fields.items() if value is not None
        }


@pytest.mark.slow
def test_our_own_answers_say_their_tokens_and_come_back_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoken: dict[str, int] = {}
    whole = FamilyAdapter.generate

    def noted(self: FamilyAdapter, *given: Any, **options: Any) -> list[Any]:
        made = whole(self, *given, **options)
        spoken.update({one.text: max(1, len(one.token_ids)) for one in made})
        return made

    monkeypatch.setattr(FamilyAdapter, "generate", noted)
    with open_store(str(tmp_path / "a.db")) as store, open_store(str(tmp_path / "b.db")) as other:
        answered(store, small_sweep(images=3), "small-1")
        paths = writing.write_run(store, "small-1", tmp_path / "out", count=completion_tokens)
        assert assert_valid(tmp_path / "out") >= 1
        again = reading.import_ours(other, tmp_path / "out")
        assert content(other, again) == content(store, "small-1")
        rows = [json.loads(line) for path in paths if path.suffix == ".jsonl" for line in path.read_text().splitlines()]
        assert rows
        for row in rows:
            stored, used = json.loads(row["metadata"][form.ROW_KEY]), row["token_usage"]
            assert used["input_tokens"] == stored["n_text"] + stored["n_visual_llm"]
            assert used["output_tokens"] == spoken[row["output"]["raw"][0]]
            assert used["total_tokens"] == used["input_tokens"] + used["output_tokens"]
        rows[0]["token_usage"]["input_tokens"] += 1
        with pytest.raises(DatasetError, match="altered"):
            usage.is_counted(json.loads(rows[0]["metadata"][form.ROW_KEY]), rows[0])


def test_nothing_to_write_and_nothing_to_read_are_said(store: Store, tmp_path: Path) -> None:
    store.create_run("empty", "demo", {}, "h2")
    with pytest.raises(InputError, match="no figures"):
        writing.write_run(store, "empty", tmp_path / "none")
    with pytest.raises(DatasetError, match="no file of"):
        reading.import_ours(store, tmp_path / "none")


def test_shapes_tell_all_that_the_instance_schema_looks_at() -> None:
    """Were a word added to the schema that looks at values, lines of one shape would no longer be alike."""
    text = (SCHEMAS / "instance_level_eval.schema.json").read_text()
    inside: set[str] = set()

    def walk(node: Any, names: bool = False) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                inside.update([] if names else [key])
                walk(value, names=not names and key == "properties")
        elif isinstance(node, list):
            for each in node:
                walk(each)

    walk(json.loads(text))
    assert inside <= form.SEEN_BY_SHAPE
    line = json.loads((foreign_lines()).splitlines()[0])
    form.check(line, "instance_level_eval", "first")
    for change in ({"interaction_type": "agentic"}, {"output": {"raw": [1]}}, {"evaluation": {"score": "1"}}, {"x": 1}):
        with pytest.raises(DatasetError):
            form.check(line | change, "instance_level_eval", "altered")
    used = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    form.check(line | {"token_usage": used}, "instance_level_eval", "used")
    with pytest.raises(DatasetError, match="minimum"):
        form.check(line | {"token_usage": used | {"output_tokens": -1}}, "instance_level_eval", "negative")


def foreign_lines() -> str:
    with tempfile.TemporaryDirectory() as folder:
        foreign(Path(folder))
        return (Path(folder) / FOREIGN_PATH).read_text()


@pytest.mark.slow
def test_an_export_is_verified_as_the_run_it_came_from(tmp_path: Path) -> None:
    load_verbs()
    with open_store(str(tmp_path / "run.db")) as store:
        answered(store, small_sweep(images=3), "small-1")
    url = f"sqlite:///{tmp_path / 'run.db'}"
    done = CliRunner().invoke(app, ["export", str(tmp_path / "out"), "-f", "eee", "--db", url])
    assert done.exit_code == 0, done.output
    asked = ["verify", str(tmp_path / "out"), "--fraction", "1", "--report", str(tmp_path / "verify.json")]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "verify.json").read_text())["verdict"] == "bit-equal"
    assert json.loads(done.stdout.strip().splitlines()[-1])["verdict"] == "bit-equal"
