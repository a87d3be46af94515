"""`lmms:TASK` against a task object with lmms-eval's interface; lmms-eval itself is optional."""

from __future__ import annotations

import importlib.util
import pickle
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from hero_ray.benchmarks import get, lmms
from hero_ray.core.errors import DatasetError, ImageError, MissingExtraError, UnknownNameError
from hero_ray.core.types import Scored


class LowerCase:
    """A filter pipeline as lmms-eval's `FilterEnsemble`."""

    name = "lower"

    def apply(self, instances: list[Any], docs: Any) -> None:
        for instance in instances:
            instance.filtered_resps[self.name] = instance.resps[0].lower()


class Task:
    """The part of lmms-eval's `ConfigurableTask` that the bridge uses."""

    config = SimpleNamespace(generation_kwargs={"max_new_tokens": 7})
    _filters = (LowerCase(),)
    eval_docs = (
        {"q": "What?", "a": "cat", "image": Image.new("L", (4, 4), 9)},
        {"q": "Which?", "a": "dog", "image": Image.new("L", (4, 4), 9)},
    )

    def dump_config(self) -> dict[str, Any]:
        return {"task": "pets", "process_results": str(object())}

    def doc_to_text(self, row: dict[str, Any]) -> str:
        return f"{row['q']}\nAnswer briefly."

    def doc_to_target(self, row: dict[str, Any]) -> str:
        return str(row["a"])

    def doc_to_visual(self, row: dict[str, Any]) -> list[Any]:
        return [row["image"]]

    def process_results(self, row: dict[str, Any], results: list[str]) -> dict[str, Any]:
        right = float(results[0] == row["a"])
        return {"accuracy": right, "points": {"score": 2 * right}, "submission": {"text": results[0]}}

    def aggregation(self) -> dict[str, Any]:
        return {
            "accuracy": lambda values: sum(values) / len(values),
            "points": lambda values: sum(value["score"] for value in values),
            "submission": lambda values: None,
        }


@pytest.fixture(autouse=True)
def pets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmms, "_load_task", lambda name, include: Task())


def test_the_tasks_own_prompt_filter_scorer_and_aggregate() -> None:
    benchmark = get("lmms:pets")
    samples = list(benchmark.samples())
    assert [benchmark.prompt(s, "llava-next") for s in samples] == ["What?\nAnswer briefly.", "Which?\nAnswer briefly."]
    assert samples[0].image_key == samples[1].image_key
    assert benchmark.load_image(samples[0].image_ref).mode == "RGB"
    assert (benchmark.main_metric, benchmark.max_new_tokens) == ("accuracy", 7)
    scored = [
        Scored(s, said, benchmark.score(said, s.references, s))
        for s, said in zip(samples, ["CAT ", "cat"], strict=True)
    ]
    assert [item.scores["accuracy"] for item in scored] == [1.0, 0.0]
    assert {m.name: (m.value, m.n) for m in benchmark.aggregate(scored)} == {"accuracy": (0.5, 2), "points": (2.0, 2)}
    assert list(benchmark.samples(1)) == samples[:1]
    assert pickle.loads(pickle.dumps(benchmark)).fingerprint() == benchmark.fingerprint()


def test_records_with_a_score_and_sets_that_do_not_aggregate(monkeypatch: pytest.MonkeyPatch) -> None:
    def pairs_only(values: list[Any]) -> float:
        assert len(values) % 2 == 0, "pairs only"
        return float(sum(value["score"] for value in values))

    monkeypatch.setattr(Task, "aggregation", lambda self: {"points": pairs_only})
    benchmark = get("lmms:pets")
    samples = list(benchmark.samples())
    scored = [Scored(s, "cat", benchmark.score("cat", s.references, s)) for s in samples]
    assert [item.scores["points"] for item in scored] == [2.0, 0.0]
    assert [metric.value for metric in benchmark.aggregate(scored)] == [2.0]
    with pytest.raises(DatasetError, match="pairs only"):
        benchmark.aggregate(scored[:1])


def test_several_pictures_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Task, "doc_to_visual", lambda self, row: [row["image"]] * 2)
    with pytest.raises(ImageError, match="2 visuals"):
        get("lmms:pets").load_image(0)


def test_one_flavour() -> None:
    with pytest.raises(UnknownNameError, match="flavour of lmms:pets"):
        get("lmms:pets", "head")


@pytest.mark.skipif(importlib.util.find_spec("lmms_eval") is not None, reason="lmms-eval is installed here")
def test_without_lmms_eval_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with pytest.raises(MissingExtraError, match="lmms-eval is not installed"):
        list(get("lmms:pets").samples())
