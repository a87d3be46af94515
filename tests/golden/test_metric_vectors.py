"""Every vector of metric_vectors.json: values produced by running the named harness at its pinned commit."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from hero_ray.benchmarks import get
from hero_ray.benchmarks.base import Benchmark
from hero_ray.benchmarks.choices import extract_letter
from hero_ray.benchmarks.mme import COGNITION, PERCEPTION, Mme, category_scores
from hero_ray.benchmarks.realworldqa import option_texts
from hero_ray.benchmarks.vqa_text import normalise, normalise_plain
from hero_ray.core.errors import HeroRayError
from hero_ray.core.types import Sample, Scored

VECTORS = json.loads((Path(__file__).parent / "metric_vectors.json").read_text(encoding="utf-8"))
TOLERANCE = VECTORS["tolerance"]
Case = Mapping[str, Any]


def sample(benchmark: str, key: str, references: Any, category: str = "", **extra: Any) -> Sample:
    return Sample(benchmark, key, "", references, key, None, category, extra)


def scored(benchmark: Benchmark, item: Sample, prediction: str) -> Scored:
    return Scored(item, prediction, benchmark.score(prediction, item.references, item))


def whole(benchmark: Benchmark, rows: list[Scored]) -> dict[str, float]:
    return {metric.name: metric.value for metric in benchmark.aggregate(rows) if not metric.category}


def item_score(name: str, references: Callable[[Case], Any]) -> Callable[[Case, str], Any]:
    def run(case: Case, flavour: str) -> Any:
        benchmark = get(name, flavour)
        return benchmark.score(case["pred"], references(case))[benchmark.main_metric]

    return run


def chartqa_agg(case: Case, flavour: str) -> Any:
    benchmark = get("chartqa", flavour)
    rows = [scored(benchmark, sample("chartqa", str(i), r["answer"], r["type"]), r["pred"]) for i, r in rows_of(case)]
    return whole(benchmark, rows)


def docvqa_agg(case: Case, flavour: str) -> Any:
    benchmark = get("docvqa_val", flavour)
    rows = [scored(benchmark, sample("docvqa_val", str(i), r["answers"]), r["pred"]) for i, r in rows_of(case)]
    return whole(benchmark, rows)["anls"]


def ocrbench_agg(case: Case, flavour: str) -> Any:
    benchmark = get("ocrbench", flavour)
    rows = [
        scored(
            benchmark,
            sample("ocrbench", str(i), {"answers": r["answer"], "dataset": r["dataset"]}, r["question_type"]),
            r["pred"],
        )
        for i, r in rows_of(case)
    ]
    return whole(benchmark, rows)["ocrbench_accuracy"]


def mme_agg(case: Case, flavour: str) -> Any:
    benchmark = get("mme", flavour)
    rows = [
        (r["category"], r["question_id"], bool(benchmark.score(r["pred"], r["answer"])["mme_perception_score"]))
        for _, r in rows_of(case)
    ]
    points = category_scores(rows)  # the strict form: it refuses pictures without exactly two answers
    items = [
        scored(benchmark, sample("mme", f"{i}", r["answer"], r["category"], question_id=r["question_id"]), r["pred"])
        for i, r in rows_of(case)
    ]
    figures = whole(benchmark, items)
    sums = {
        "perception": sum(points.get(key, 0.0) for key in PERCEPTION),
        "cognition": sum(points.get(key, 0.0) for key in COGNITION),
    }
    assert figures.get("mme_perception_score", 0.0) == pytest.approx(sums["perception"])
    assert figures.get("mme_cognition_score", 0.0) == pytest.approx(sums["cognition"])
    return sums


def pope_agg(case: Case, flavour: str) -> Any:
    benchmark = get("pope", flavour)
    rows = [scored(benchmark, sample("pope", str(i), r["answer"]), r["pred"]) for i, r in rows_of(case)]
    names = ("accuracy", "precision", "recall", "yes_ratio")
    figures = whole(benchmark, rows)
    return {name: figures[f"pope_{name}"] for name in names} | {"f1": figures["pope_f1_score"]}


def mmbench_infer(case: Case, flavour: str) -> Any:
    from hero_ray.benchmarks.choices import match_option, match_option_vlmevalkit

    match = match_option_vlmevalkit if flavour == "vlmevalkit" else match_option
    return match(case["pred"], case["choices"])


def mmbench_agg(case: Case, flavour: str) -> Any:
    benchmark = get("mmbench_en_dev", flavour)
    rows = []
    for _, row in rows_of(case):
        options = {letter: row.get(letter) for letter in "ABCD"}
        references = {"answer": row["answer"], "options": options}
        extra = {"index": row["index"], "l2": row["l2"]}
        item = sample("mmbench_en_dev", str(row["index"]), references, row["category"], **extra)
        rows.append(scored(benchmark, item, row["pred"]))
    metrics = benchmark.aggregate(rows)
    return {
        "overall": whole(benchmark, rows)["gpt_eval_score"],
        "category": {m.category: m.value / 100 for m in metrics if m.category and m.name == "gpt_eval_score"},
        "l2": {m.category: m.value / 100 for m in metrics if m.name == "mmbench_l2_score"},
    }


def mmbench_prompt(case: Case, flavour: str) -> Any:
    benchmark = get("mmbench_en_dev", flavour)
    read = benchmark.fields(case["doc"])  # type: ignore[attr-defined]
    item = Sample("mmbench_en_dev", "1", read.question, read.references, "1", None, read.category, read.extra)
    return benchmark.prompt(item, "llava-next")


def mmstar_agg(case: Case, flavour: str) -> Any:
    benchmark = get("mmstar", flavour)
    rows = [
        scored(benchmark, sample("mmstar", str(i), r["answer"], r["category"], l2=r["l2"]), r["pred"])
        for i, r in rows_of(case)
    ]
    return benchmark.lmms_keys(benchmark.aggregate(rows))  # type: ignore[attr-defined]


def seed_agg(case: Case, flavour: str) -> Any:
    benchmark = get("seedbench", flavour)
    rows = [
        scored(benchmark, sample("seedbench", str(i), r["answer"], data_type=r["data_type"]), r["pred"])
        for i, r in rows_of(case)
    ]
    return whole(benchmark, rows)


def mmvet_item(case: Case, flavour: str) -> Any:
    from hero_ray.benchmarks.judge import grade

    replies = iter(case["judge_replies"])
    verdict = grade(lambda prompt, temperature: next(replies), "prompt")
    return {"score": verdict.score, "judge_calls": verdict.calls}


def mmvet_agg(case: Case, flavour: str) -> Any:
    benchmark = get("mmvet", flavour)
    rows = [
        Scored(sample("mmvet", str(i), "", capability=r["capability"]), "", {"gpt_eval_score": r["score"]})
        for i, r in rows_of(case)
    ]
    return whole(benchmark, rows)["gpt_eval_score"]


def rows_of(case: Case) -> list[tuple[int, Case]]:
    return list(enumerate(case["rows"]))


def letter_and_options(case: Case) -> Any:
    return {"answer": chr(65 + int(case["answer"])), "options": case.get("choices") or case.get("options")}


RULES: dict[str, Callable[[Case, str], Any]] = {
    "vqav2": item_score("vqav2_val", lambda c: c["answers"]),
    "textvqa": item_score("textvqa_val", lambda c: c["answers"]),
    "vizwiz": item_score("vizwiz_vqa_val", lambda c: c["answers"]),
    "evalai_normalise": lambda c, flavour: normalise(c["text"]),
    "vqav2_normalise": lambda c, flavour: normalise_plain(c["text"]),
    "gqa_exact_match": item_score("gqa", lambda c: c["answer"]),
    "scienceqa": item_score("scienceqa_img", letter_and_options),
    "chartqa": item_score("chartqa", lambda c: c["answer"]),
    "chartqa_agg": chartqa_agg,
    "docvqa_anls": item_score("docvqa_val", lambda c: c["answers"]),
    "docvqa_anls_agg": docvqa_agg,
    "ocrbench": item_score("ocrbench", lambda c: {"answers": listed(c["answer"]), "dataset": c["dataset"]}),
    "ocrbench_agg": ocrbench_agg,
    "mme_parse": lambda c, flavour: Mme(flavour).read(c["pred"]),
    "mme_agg": mme_agg,
    "pope_item": item_score("pope", lambda c: c["answer"]),
    "pope_agg": pope_agg,
    "mmbench_infer": mmbench_infer,
    "mmbench_agg": mmbench_agg,
    "mmbench_prompt": mmbench_prompt,
    "mcq_extract": lambda c, flavour: extract_letter(c["pred"], c["choices"]),
    "mmstar": item_score("mmstar", lambda c: c["answer"]),
    "mmstar_agg": mmstar_agg,
    "realworldqa": item_score("realworldqa", lambda c: {"answer": c["answer"], "options": option_texts(c["question"])}),
    "ai2d": item_score("ai2d", letter_and_options),
    "seed": item_score("seedbench", lambda c: c["answer"]),
    "seed_agg": seed_agg,
    "mmvet_item": mmvet_item,
    "mmvet_agg": mmvet_agg,
}


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def flavours(name: str) -> list[str]:
    return sorted({flavour for vector in VECTORS["metrics"][name] for flavour in vector["expected"]})


def close(ours: Any, theirs: Any) -> bool:
    if isinstance(theirs, dict):
        return all(key in ours and close(ours[key], value) for key, value in theirs.items())
    if isinstance(theirs, float):
        return bool(abs(ours - theirs) <= TOLERANCE)
    return bool(ours == theirs)


def differs(rule: Callable[[Case, str], Any], case: Case, flavour: str, expected: Any) -> str:
    """What we say and the harness does not; "" where both agree."""
    refused = isinstance(expected, dict) and "error" in expected
    try:
        ours = rule(case, flavour)
    except HeroRayError as error:
        return "" if refused else f"ours refuses ({error}), harness {expected!r}"
    return "" if not refused and close(ours, expected) else f"ours {ours!r}, harness {expected!r}"


@pytest.mark.parametrize(("name", "flavour"), [(name, each) for name in VECTORS["metrics"] for each in flavours(name)])
def test_every_vector(name: str, flavour: str) -> None:
    wrong = {
        vector["id"]: told
        for vector in VECTORS["metrics"][name]
        if flavour in vector["expected"]
        and (told := differs(RULES[name], vector["input"], flavour, vector["expected"][flavour]))
    }
    assert wrong == {}


@pytest.mark.parametrize("vector", VECTORS["metrics"]["docvqa_anls"], ids=lambda vector: vector["id"])
def test_infographics_are_scored_as_documents_are(vector: Case) -> None:
    benchmark = get("infovqa_val")
    for flavour in benchmark.flavours:
        ours = item_score("infovqa_val", lambda c: c["answers"])(vector["input"], flavour)
        assert close(ours, vector["expected"][flavour])


def test_every_metric_of_the_file_has_a_rule() -> None:
    assert set(VECTORS["metrics"]) == set(RULES)
