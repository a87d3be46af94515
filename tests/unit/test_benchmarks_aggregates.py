"""Aggregates on sets small enough to reckon by hand, and the conversion to each paper's figure."""

from __future__ import annotations

from typing import Any

import pytest

from hero_ray.benchmarks import get
from hero_ray.benchmarks.base import Benchmark
from hero_ray.benchmarks.docvqa_val import anls, levenshtein
from hero_ray.benchmarks.duts import clip_square, foreground, overlap
from hero_ray.benchmarks.vqa_text import normalise, stage_p
from hero_ray.core.errors import DatasetError
from hero_ray.core.types import Metric, Sample, Scored


def answered(
    benchmark: Benchmark, key: str, prediction: str, references: Any, category: str = "", **extra: Any
) -> Scored:
    sample = Sample(benchmark.name, key, "", references, key, None, category, extra)
    return Scored(sample, prediction, benchmark.score(prediction, references, sample))


def figures(metrics: list[Metric]) -> dict[tuple[str, str], float]:
    return {(metric.name, metric.category): metric.value for metric in metrics}


def mme_picture(category: str, picture: str, first: str, second: str) -> list[Scored]:
    benchmark = get("mme")
    pairs = [("a", first, "Yes"), ("b", second, "No")]
    return [answered(benchmark, f"{picture}{k}", said, gold, category, question_id=picture) for k, said, gold in pairs]


def test_mme_adds_accuracy_and_both_right() -> None:
    rows = mme_picture("OCR", "p1", "yes", "no") + mme_picture("OCR", "p2", "yes", "yes")
    rows += mme_picture("code_reasoning", "p3", "no", "yes")
    metrics = get("mme").aggregate(rows)
    assert figures(metrics) == {
        ("mme_perception_score", ""): 125.0,  # acc (100 + 50) / 2 plus acc+ (100 + 0) / 2
        ("mme_cognition_score", ""): 0.0,
        ("mme_accuracy", ""): 0.5,
        ("mme_category_score", "OCR"): 125.0,
        ("mme_category_score", "code_reasoning"): 0.0,
    }
    assert get("mme").paper_figures(metrics) == {"hero": 125.0, "hired": 125.0, "ptp": 125.0}  # type: ignore[attr-defined]


def test_mme_counts_pictures_cut_in_two() -> None:
    rows = mme_picture("OCR", "p1", "yes", "no") + mme_picture("OCR", "p2", "yes", "yes")[:1]
    found = figures(get("mme").aggregate(rows))
    assert found["mme_perception_score", ""] == 200.0
    assert found["mme_incomplete_pictures", ""] == 1.0


def test_mme_old_flavours_keep_upstreams_spelling() -> None:
    rows = mme_picture("OCR", "p1", "yes", "no")
    found = figures(get("mme", "v0.2.0").aggregate(rows))
    assert found["mme_percetion_score", ""] == found["mme_perception_score", ""] == 200.0


def test_a_picture_drawn_twice_counts_twice() -> None:
    """Intervals resample pictures with replacement; copies must not read as four answers to one picture."""
    right, wrong = mme_picture("OCR", "p1", "yes", "no"), mme_picture("OCR", "p2", "no", "no")
    assert figures(get("mme").aggregate(right * 3 + wrong))["mme_perception_score", ""] == (3 * 200 + 50) / 4


def test_pope_three_samplings() -> None:
    benchmark = get("pope")
    said = {
        "adversarial": [("Yes", "yes"), ("Yes", "no")],
        "popular": [("yes", "yes"), ("no", "no")],
        "random": [("Yes.", "yes"), ("no", "no")],
    }
    rows = [
        answered(benchmark, f"{category}{n}", prediction, gold, category)
        for category, pairs in said.items()
        for n, (prediction, gold) in enumerate(pairs)
    ]
    found = figures(benchmark.aggregate(rows))
    assert found["pope_accuracy", ""] == pytest.approx(4 / 6)
    assert found["pope_precision", ""] == pytest.approx(2 / 3)
    assert found["pope_recall", ""] == 1.0  # "Yes." is no literal yes: it costs accuracy, not recall
    assert found["pope_f1_score", ""] == pytest.approx(0.8)
    assert found["pope_yes_ratio", ""] == 0.5
    assert found["pope_predicted_yes_ratio", ""] == 0.5
    assert found["pope_accuracy", "adversarial"] == 0.5
    assert found["pope_f1_llava", ""] == pytest.approx((2 / 3 + 1 + 1) / 3)
    assert benchmark.paper_figures(benchmark.aggregate(rows))["ptp"] == pytest.approx(80.0)  # type: ignore[attr-defined]


def test_mmbench_is_circular() -> None:
    benchmark = get("mmbench_en_dev")

    def rotation(base: int, turn: int, said: str, gold: str) -> Scored:
        options = {"A": "cat", "B": "dog", "C": "nan", "D": "nan"}
        index = base + turn * 1_000_000
        references = {"answer": gold, "options": options}
        return answered(benchmark, str(index), said, references, "c", index=index, l2="l")

    rows = [
        rotation(1, 0, "A", "A"),
        rotation(1, 1, "B. cat", "B"),
        rotation(2, 0, "A", "A"),
        rotation(2, 1, "cat", "B"),
    ]
    found = figures(benchmark.aggregate(rows))
    assert found["gpt_eval_score", ""] == 50.0
    assert found["mmbench_plain_accuracy", ""] == 0.75
    assert found["gpt_eval_score", "c"] == found["mmbench_l2_score", "l"] == 50.0
    assert benchmark.aggregate(rows)[0].n == 2
    assert figures(benchmark.aggregate(rows + rows[:2]))["gpt_eval_score", ""] == pytest.approx(200 / 3)


def test_chartqa_halves() -> None:
    benchmark = get("chartqa")
    rows = [
        answered(benchmark, "1", "10", "10", "human_test"),
        answered(benchmark, "2", "12", "10", "human_test"),
        answered(benchmark, "3", "yes", "Yes", "augmented_test"),
    ]
    found = figures(benchmark.aggregate(rows))
    assert found["relaxed_overall", ""] == pytest.approx(2 / 3)
    assert found["relaxed_human_split", ""] == 0.5
    assert found["relaxed_augmented_split", ""] == 1.0


def test_ocrbench_parts_and_paper_scale() -> None:
    rows = [("centre", "Regular Text Recognition"), ("no", "Regular Text Recognition"), ("CENTRE", "Scene Text")]
    for flavour, points in (("head", 0.002), ("hired", 2.0)):
        benchmark = get("ocrbench", flavour)
        scored = [answered(benchmark, str(i), said, ["centre"], kind) for i, (said, kind) in enumerate(rows)]
        metrics = benchmark.aggregate(scored)
        found = figures(metrics)
        assert found["ocrbench_accuracy", ""] == points
        assert found["ocrbench_hit_rate", "Regular Text Recognition"] == 0.5
        assert benchmark.paper_figures(metrics)["hero"] == pytest.approx(0.2)  # type: ignore[attr-defined]


def test_hrbench_averages_over_the_orders_of_its_options() -> None:
    benchmark = get("hrbench4k")
    options = dict(zip("ABCD", ("red", "blue", "green", "grey"), strict=True))
    said = {("single", "0"): "AAB", ("single", "1"): "A", ("cross", "0"): "A", ("cross", "1"): "BB?"}
    rows = [
        answered(benchmark, f"{category}{cycle}{n}", letter, {"answer": "A", "options": options}, category, cycle=cycle)
        for (category, cycle), letters in said.items()
        for n, letter in enumerate(letters)
    ]
    metrics = benchmark.aggregate(rows)
    found = figures(metrics)
    # 4 of 8 right; order 0 has 3 of 4, order 1 one of 4; alone, single has (2/3 + 1) / 2 and cross (1 + 0) / 2.
    assert found["accuracy", ""] == found["average", ""] == 0.5
    assert found["average", "single"] == pytest.approx(5 / 6)
    assert found["accuracy", "single"] == 0.75
    assert found["average", "cross"] == 0.5
    assert found["accuracy", "cross"] == 0.25
    assert found["hrbench_undecided", ""] == 1 / 8
    told = benchmark.lmms_keys(metrics)  # type: ignore[attr-defined]
    assert told == {"average": 0.5, "single": found["average", "single"], "cross": 0.5}


def test_hrbench_reads_as_its_harness_does() -> None:
    options = {"A": "a red bag", "B": "blue", "C": "None", "D": "grey"}
    read = {flavour: get("hrbench8k", flavour).read for flavour in ("head", "vlmevalkit")}  # type: ignore[attr-defined]
    late = "B is what one sees on the far left side of the street"  # the only letter, but not near the end
    assert (read["head"](late, options), read["vlmevalkit"](late, options)) == ("B", None)
    assert read["head"]("It is a red bag, as far as one can tell from here, behind the tree", options) == "A"
    assert read["head"]("A or B", options) is None
    assert read["head"]("Cannot determine the answer", options) == "Z"


def test_vstar_is_percent_of_all_and_of_each_kind() -> None:
    benchmark = get("vstar_bench")
    kinds = ["direct_attributes"] * 3 + ["relative_position"]
    rows = [
        answered(benchmark, str(n), said, {"answer": "A", "options": ["x", "y"]}, kind)
        for n, (said, kind) in enumerate(zip(("A", "(A) x", "Dark", "B"), kinds, strict=True))
    ]
    metrics = benchmark.aggregate(rows)
    assert benchmark.lmms_keys(metrics) == {  # type: ignore[attr-defined]
        "vstar_overall_acc": 50.0,
        "vstar_direct_attributes_acc": pytest.approx(200 / 3),
        "vstar_relative_position_acc": 0.0,
    }


def test_mmstar_axes_against_questions() -> None:
    benchmark = get("mmstar")
    rows = [
        answered(benchmark, "1", "A", "A", "math", l2="geometry"),
        answered(benchmark, "2", "A", "B", "math", l2="geometry"),
        answered(benchmark, "3", "A", "A", "math", l2="statistics"),
        answered(benchmark, "4", "C", "D", "coarse perception", l2="emotion"),
    ]
    metrics = benchmark.aggregate(rows)
    assert figures(metrics)["average", ""] == 0.5
    assert figures(metrics)["accuracy", ""] == 0.5
    assert figures(metrics)["average", "math"] == 0.75
    assert figures(metrics)["accuracy", "math"] == pytest.approx(2 / 3)
    assert benchmark.lmms_keys(metrics) == {"average": 0.5, "math": 0.75, "coarse perception": 0.0}  # type: ignore[attr-defined]


def test_gqa_reports_the_official_rule_too() -> None:
    benchmark = get("gqa")
    scores = benchmark.score('"bag".', "bag")
    assert scores == {"exact_match": 1.0, "gqa_official": 0.0}
    metrics = benchmark.aggregate([answered(benchmark, "1", '"bag".', "bag")])
    assert benchmark.paper_figures(metrics) == {"hero": 0.0, "ptp": 100.0}  # type: ignore[attr-defined]


def test_hidden_references_are_an_error_not_a_zero() -> None:
    for name in ("vqav2_val", "textvqa_val", "docvqa_val"):
        with pytest.raises(DatasetError, match="reference answers"):
            get(name).score("red", [])


def test_fewer_than_ten_annotators() -> None:
    assert get("textvqa_val").score("red", ["red"] * 3)["exact_match"] == pytest.approx(2 / 3)


def test_normaliser_quirks() -> None:
    assert normalise("2.") == "2"
    assert normalise("3.5.") == "3.5"
    assert stage_p("." * 40) == "." * 8  # the regex flag sits in the place of a count
    assert stage_p("1,000-2") == "10002"


def test_edit_distance() -> None:
    assert levenshtein("kitten", "sitting") == levenshtein("sitting", "kitten") == 3
    assert levenshtein("", "abc") == 3
    assert anls("STRASSE", ["straße"]) == pytest.approx(1 - 2 / 7)  # the length is taken in upper case: 7, not 6


def test_saliency_cells() -> None:
    from PIL import Image

    mask = Image.new("L", (672, 336))
    mask.paste(255, (168, 0, 336, 336))  # the left half of the centre crop
    cells = foreground(clip_square(mask))
    assert cells.shape == (24, 24)
    assert cells[:, :12].all()
    assert not cells[:, 12:].any()
    assert overlap(range(50), [*range(25, 50), 575]) == pytest.approx(25 / 51)
    assert overlap([], []) == 0.0


def test_synthetic_existence_has_popes_figures() -> None:
    benchmark = get("synth-exist")
    rows = [answered(benchmark, str(i), said, [gold]) for i, (said, gold) in enumerate([("Yes", "yes"), ("no", "yes")])]
    found = figures(benchmark.aggregate(rows))
    assert found["pope_accuracy", ""] == found["pope_recall", ""] == 0.5
    assert found["pope_precision", ""] == 1.0


def test_synthetic_families_share_their_pictures() -> None:
    keys = [{s.image_key for s in get(f"synth-{f}", num_images=5).samples()} for f in ("count", "exist", "scene")]
    assert keys[0] == keys[1] == keys[2]
    assert len(keys[0]) == 5
