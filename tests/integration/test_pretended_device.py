"""The device path on a pretended device: nothing is left on the CPU by mistake, and answers are those of the CPU."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hero_ray import benchmarks, models
from hero_ray.core.config import ProfileSettings, build
from hero_ray.core.encoded import keep_all
from hero_ray.core.plan import units
from hero_ray.engine.cut import Pruning
from hero_ray.engine.evaluate import Evaluator, Settings
from hero_ray.engine.vlm import VisionLanguageModel
from hero_ray.methods import create, get, names
from hero_ray.models import invariance, miniature, miniature_qwen
from hero_ray.models.base import Request
from hero_ray.models.graphs import GraphedDecode
from hero_ray.pipeline.facts import make_plan
from hero_ray.profiling.cells import profile_cells
from hero_ray.profiling.job import make_probes
from hero_ray.serve.explanation import explain
from hero_ray.serve.schemas import PruningRequest
from hero_ray.studies.calibration import Questions, calibrate
from tests import checkpoints
from tests.pretended import Device, down, pretended
from tests.pretended_models import on_device, stub_cuda

PICTURE = Image.fromarray(np.random.default_rng(5).integers(0, 255, (100, 200, 3), dtype=np.uint8))
SETTINGS: list[tuple[str, dict[str, Any]]] = [
    *((name, {"variant": variant}) for name in names() for variant in get(name).variants),
    ("hero", {"merge": True}),
    ("hero", {"then": "fastv"}),
    ("hero", {"text_term": "llm-attn"}),
    ("hero", {"text_term": "llm-embed"}),
    ("hero", {"single_view": "half"}),
    ("ptp", {"mode": "continue"}),
    ("gsearch", {"steepness": 0.1}),
    ("prumerge", {"count": "fixed"}),
    ("prumerge+", {"count": "fixed"}),
]
QUICK = ("hero", "prumerge+", "visionzip", "divprune", "fastv", "dart")
"""One method of each way to choose; the others take the same paths."""
QWEN = {"qwen2.5-vl": miniature_qwen.qwen_vl, "qwen3-vl": miniature_qwen.qwen3_vl}
FAMILIES = ["llava-next", *(pytest.param(name, marks=pytest.mark.slow) for name in ("llava-1.5", "internvl2", *QWEN))]
IN_LLM = [(name, settings) for name, settings in SETTINGS if create(name, **settings).stage == "in-llm"]
EARLY = [setting for setting in SETTINGS if setting not in IN_LLM]
CELLS = [
    pytest.param(family, name, settings, id=f"{family}-{name}-{settings}")
    for family, some in {
        "llava-next": SETTINGS,  # several views and a class token
        "llava-1.5": EARLY,  # one view; its language model is the one above
        "internvl2": IN_LLM,  # a language model of its own; what looks at views is asked of trained weights below
        "qwen2.5-vl": SETTINGS,  # one view of any shape, no class token
        "qwen3-vl": IN_LLM,  # features of the tower inside its language model
    }.items()
    for name, settings in some
]
"""Every setting where its own lines meet another kind of picture or of language model."""
LANGUAGES = ("mistral-window", "qwen2-window", "internvl2-4b", "internvl3_5-8b")


# -- every method ------------------------------------------------------------------------------------------------------


def written(family: str, folder: Path) -> str:
    if family == "internvl2":
        return str(miniature.write_internvl2(miniature.internvl2(), folder))
    if family in QWEN:
        return str(miniature_qwen.write_qwen_vl(QWEN[family](), folder))
    stock = miniature.llava_next() if family == "llava-next" else miniature.llava_15()
    return str(miniature.write_llava(stock, folder, miniature.clip()))


def both(name: str) -> tuple[VisionLanguageModel, VisionLanguageModel]:
    """The same model twice: as it is, and on the pretended device."""
    torch.set_num_threads(1)
    plain, lifted = (models.load(name, device="cpu") for _ in range(2))
    return VisionLanguageModel(plain), VisionLanguageModel(on_device(lifted))


@pytest.fixture(scope="module", params=FAMILIES)
def miniatures(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return both(written(request.param, tmp_path_factory.mktemp(request.param)))


@pytest.fixture(scope="module", params=["hero-tiny", "hero-tiny-internvl"])
def embedded(request: pytest.FixtureRequest) -> Any:
    return both(request.param)


def held_equal(pair: Any, name: str, parameters: dict[str, Any], **options: Any) -> Device:
    """One answer on either side: tokens, masks and figures are the same. What was asked of the device."""
    method = create(name, **parameters)
    asked = {"method": method, "retention_ratio": 0.4, "max_new_tokens": 4, **options}
    expected = pair[0].generate(PICTURE, "is it red", **asked)
    with pretended() as device:
        found = pair[1].generate(PICTURE, "is it red", **asked)
    assert found.generation == expected.generation
    assert torch.equal(down(found.selection.keep), expected.selection.keep)
    assert found.tokens == expected.tokens
    return device


@pytest.mark.parametrize("name", QUICK)
def test_ways_to_choose_answer_alike(miniatures: Any, name: str) -> None:
    held_equal(miniatures, name, {})


@pytest.mark.slow
@pytest.mark.parametrize(("miniatures", "name", "parameters"), CELLS, indirect=["miniatures"], scope="module")
def test_a_method_answers_alike_on_every_family(miniatures: Any, name: str, parameters: dict[str, Any]) -> None:
    held_equal(miniatures, name, parameters)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "parameters"), SETTINGS, ids=str)
def test_a_method_answers_alike_on_trained_weights(embedded: Any, name: str, parameters: dict[str, Any]) -> None:
    """And no early one waits more than four times, and once for the token itself."""
    device = held_equal(embedded, name, parameters, max_new_tokens=1)
    assert (name, parameters) in IN_LLM or sum(device.waits.values()) <= 4 + 1, device.told()


@pytest.mark.slow
@pytest.mark.parametrize("chosen", LANGUAGES)
@pytest.mark.parametrize("name", ["full", "hero", "fastv", "dart"])
def test_other_language_models_answer_alike(chosen: str, name: str, tmp_path: Path) -> None:
    if chosen in checkpoints.LLAVA_NEXT:
        checkpoints.llava_next(checkpoints.LLAVA_NEXT[chosen], tmp_path)
        miniature.write_clip(miniature.clip(), tmp_path / "clip")
    else:
        checkpoints.internvl_chat(checkpoints.INTERNVL[chosen], tmp_path)
    held_equal(both(str(tmp_path)), name, {})


def test_answers_are_drawn_and_told_alike(miniatures: Any) -> None:
    heard: list[list[tuple[int, int]]] = [[], []]
    held_equal(miniatures, "hero", {}, temperature=1.0, top_p=0.9, seed=3)
    expected = miniatures[0].generate(PICTURE, "is it red", max_new_tokens=6, on_token=lambda *t: heard[0].append(t))
    with pretended():
        miniatures[1].generate(PICTURE, "is it red", max_new_tokens=6, on_token=lambda *t: heard[1].append(t))
    assert heard[0] == heard[1]
    assert expected.generation.token_ids == tuple(token for _, token in heard[0])


# -- many answers ------------------------------------------------------------------------------------------------------


def cells_and_unit(model: str, tasks: list[str], budgets: list[float]) -> Any:
    document = {"models": [model], "methods": list(names()), "budgets": budgets, "tasks": tasks, "straw_men": False}
    plan = make_plan(build(document))
    return plan, units(list(benchmarks.get(tasks[0]).samples()))[0]


@pytest.mark.slow
def test_batched_answers_of_all_methods_are_alike(embedded: Any) -> None:
    plan, unit = cells_and_unit(embedded[0].info.name, ["synth-attribute"], [0.4, 0.1])
    expected, found = (
        Evaluator(model.adapter, plan.cells, plan.benchmarks, Settings(batch_size=64)) for model in embedded
    )
    answers = expected.evaluate(unit)
    with pretended():
        theirs = found.evaluate(unit)
    assert len(answers) == len(plan.cells) * len(unit.samples)
    assert [one for one in answers if one.error_type] == []
    assert theirs == answers


@pytest.mark.parametrize("in_place", [False, True])
def test_a_shared_prefix_answers_alike(miniatures: Any, in_place: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    questions, made = ("is it red", "is it blue or is it green", "what is it"), []
    for model in miniatures:
        adapter = model.adapter
        monkeypatch.setattr(adapter, "decoder", replace(adapter.decoder, in_place=in_place))
        with pretended():
            encoded = adapter.encode(adapter.prepare(PICTURE), get("full")().needs(adapter.vision))
            selection = get("full")().select(encoded, Pruning(create("full")).budget(encoded.layout))
            visual = adapter.assemble(encoded, selection, "unpadded_rows")
            requests = [Request(adapter.prompt(question), visual, 4) for question in questions]
            made.append([adapter.generate(requests, share_prefix=share) for share in (True, False)])
    assert made[0] == made[1]


def test_fixed_steps_answer_alike(miniatures: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stub_cuda(monkeypatch)
    for model in miniatures:
        adapter = model.adapter
        monkeypatch.setattr(adapter, "decoder", replace(adapter.decoder, step=GraphedDecode(adapter.runner)))
    for name in ("full", "fastv"):
        held_equal(miniatures, name, {})


# -- the other ways in -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_explanations_are_alike(miniatures: Any) -> None:
    file = io.BytesIO()
    PICTURE.save(file, "PNG")
    rows = []
    for model in miniatures:
        with pretended():
            told = explain(
                model.adapter,
                file.getvalue(),
                "is it red",
                [PruningRequest(method=name, retention_ratio=0.4) for name in ("hero", "vispruner", "fastv", "full")],
                4,
                overlay=True,
            )
        for row in told["results"]:
            row.pop("timings_ms")
        rows.append(told["results"])
    assert rows[0] == rows[1]


@pytest.mark.slow
def test_certificates_of_invariance_are_alike(miniatures: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stub_cuda(monkeypatch)
    expected = invariance.certify(miniatures[0].adapter, 4, 4)
    with pretended():
        found = invariance.certify(miniatures[1].adapter, 4, 4)
    assert replace(found, device=expected.device) == expected


@pytest.mark.slow
@pytest.mark.parametrize("method", ["vtw", "gsearch", "fitprune"])
def test_calibrations_are_alike(method: Any) -> None:
    cpu, device = both("hero-tiny")
    questions = Questions.of([benchmarks.get("synth-exist", split="validation")], 2)
    tolerance = 0.7 if method == "fitprune" else 0.05
    expected = calibrate(method, cpu.adapter, questions, tolerance)
    with pretended():
        found = calibrate(method, device.adapter, questions, tolerance)
    assert found == expected


@pytest.mark.slow
@pytest.mark.parametrize("captured", [False, True])
def test_profiles_count_alike(miniatures: Any, captured: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    stub_cuda(monkeypatch)
    settings = ProfileSettings(new_tokens=3, warmup=1, repeats=2, batch_size=2)
    items = {name: Pruning(create(name), 0.4) for name in ("hero", "fastv")} | {"full": Pruning(create("full"), 1.0)}
    records = []
    for model in miniatures:
        adapter = model.adapter
        if captured:
            monkeypatch.setattr(adapter, "decoder", replace(adapter.decoder, step=GraphedDecode(adapter.runner)))
        probes = make_probes([(200, 100)], "is it red")
        with pretended():
            records.append(profile_cells(adapter, items, probes, settings, with_stock=not captured))
    timed = {"certificate", "certificate_hash", "details", "peak_memory_bytes"}
    for mine, theirs in zip(*records, strict=True):
        told = {key for key in mine if key not in timed and not key.endswith(("_ms", "_s", "p50", "p95"))}
        assert {key: mine[key] for key in told} == {key: theirs[key] for key in told}
    assert records[1][0]["certificate"]["device"] == "cuda"
    assert records[1][0]["certificate"]["cuda_graphs"] is captured


# -- how often the host waits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hero", "prumerge+", "visionzip"])
def test_the_host_waits_little_before_a_first_token(miniatures: Any, name: str) -> None:
    device = held_equal(miniatures, name, {}, max_new_tokens=1)
    assert sum(device.waits.values()) <= 4 + 1, device.told()  # and once for the token itself


@pytest.mark.slow
def test_batched_answers_wait_less_than_once_each(embedded: Any) -> None:
    plan, unit = cells_and_unit(embedded[1].info.name, ["synth-attribute"], [0.4, 0.1])
    evaluator = Evaluator(embedded[1].adapter, plan.cells, plan.benchmarks, Settings(batch_size=64))
    with pretended() as device:
        answers = evaluator.evaluate(unit)
    assert sum(device.waits.values()) <= len(answers), device.told()


def test_a_decode_step_waits_once_at_most(miniatures: Any) -> None:
    method, waits = create("full"), []
    for steps in (8, 32):
        adapter = miniatures[1].adapter
        with pretended() as device:
            picture = adapter.encode(adapter.prepare(PICTURE), method.needs(adapter.vision))
            visual = adapter.assemble(picture, keep_all(picture.layout), "unpadded_rows")
            device.clear()
            requests = [Request(adapter.prompt(text), visual, steps) for text in ("is it red", "what is it")]
            ended, adapter.decoder = adapter.decoder, replace(adapter.decoder, end=frozenset())
            adapter.generate(requests)
            adapter.decoder = ended
        waits.append(sum(device.waits.values()))
    assert waits == [6, 12]  # at steps 0 to 3 and every fourth behind them, and once at the end
