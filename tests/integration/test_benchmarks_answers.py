"""Every benchmark from hub rows to an lmms-eval file: load, group, prompt, answer, score, aggregate, export.

The model is a miniature with random weights: its answers mean nothing, the way they take is the real one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
import torch

from hero_ray import models
from hero_ray.benchmarks import get, names
from hero_ray.core.plan import units
from hero_ray.core.types import Cell, Scored
from hero_ray.engine.evaluate import Evaluator, Settings
from hero_ray.models import miniature
from hero_ray.models.base import Adapter
from hero_ray.results.exchange.lmms_export import write
from hero_ray.results.exchange.readers import read
from hero_ray.results.exchange.records import ImportedAnswer, ModelRun, TaskResult
from hero_ray.results.exchange.rescore import rescore
from tests import full_marks

ANSWERED = [name for name in names() if name != "duts"]  # DUTS asks no questions
METHODS = {"full": 1.0, "hero": 0.3}


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Adapter:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("miniature")
    return models.load(str(miniature.write_llava(miniature.llava_next(), folder, miniature.clip())), device="cpu")


@pytest.fixture(autouse=True)
def judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What MM-Vet needs."""
    with full_marks.serving() as url:
        monkeypatch.setenv("HERO_RAY_JUDGE_URL", url)
        monkeypatch.setenv("HERO_RAY_JUDGE_MODEL", "full-marks")
        monkeypatch.setenv("HERO_RAY_JUDGE_CACHE", str(tmp_path / "judge"))
        yield


@pytest.mark.parametrize("name", ANSWERED)
def test_from_rows_to_files(
    name: str, adapter: Adapter, hub_rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HERO_RAY_DATA", str(hub_rows))
    benchmark = get(name, **({"num_images": 2} if name.startswith("synth-") else {}))
    samples = list(benchmark.samples())
    cells = [
        Cell(method, "tiny", method, "exact", {}, ratio, name, benchmark.flavour) for method, ratio in METHODS.items()
    ]
    evaluator = Evaluator(adapter, cells, {name: benchmark}, Settings(max_new_tokens=3))
    grouped = units(samples)
    predictions = [prediction for unit in grouped for prediction in evaluator.evaluate(unit)]
    assert [p.error_message for p in predictions if p.error_type] == []
    assert len(predictions) == len(samples) * len(cells)
    assert evaluator.counters.encodes == len(grouped) == len({sample.image_key for sample in samples})

    for cell in cells:
        scored = [Scored(p.sample, p.text, p.scores) for p in predictions if p.cell_id == cell.id]
        metrics = benchmark.aggregate(scored)
        assert metrics[0].name == benchmark.main_metric
        assert 0.0 <= metrics[0].value <= benchmark.scale
        answers = [
            ImportedAnswer(
                item.sample.extra["doc_id"],
                item.sample.key,
                item.prediction,
                item.sample.references,
                benchmark.prompt(item.sample, adapter.info.family),
                {benchmark.main_metric: item.scores[benchmark.main_metric]},
                item.sample.category,
            )
            for item in scored
        ]
        keys = benchmark.lmms_keys(metrics)  # type: ignore[attr-defined]
        task = TaskResult(name, keys, answers, len(samples), max_new_tokens=3)
        run = ModelRun("tiny", [task], {"method": cell.method, "retention_ratio": cell.retention_ratio})
        results, lines = write(run, tmp_path, datetime(2026, 1, 2))
        figures = json.loads(results.read_text(encoding="utf-8"))["results"][name]
        assert figures[f"{benchmark.main_metric},none"] == metrics[0].value
        again = rescore(read(lines), benchmark)
        assert again.unmatched == []
        by_key = {item.sample.key: item.scores for item in scored}
        assert {item.sample.key: item.scores for item in again.scored} == by_key


def test_seven_families_share_one_encode_per_picture(adapter: Adapter) -> None:
    opened = {name: get(name, num_images=2, questions_per_image=1) for name in names() if name.startswith("synth-")}
    samples = [sample for benchmark in opened.values() for sample in benchmark.samples()]
    cells = [Cell(name, "tiny", "full", "exact", {}, 1.0, name, "head") for name in opened]
    evaluator = Evaluator(adapter, cells, opened, Settings(max_new_tokens=2))
    for unit in units(samples):
        evaluator.evaluate(unit)
    assert len(opened) == 7
    assert evaluator.counters.encodes == 2
    assert evaluator.counters.answers == len(samples)
