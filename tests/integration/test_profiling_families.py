"""Counted against computed FLOPs on true-size models, and the verb `profile` from loading to the database."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hero_ray import models
from hero_ray.cli import main
from hero_ray.core.config import ProfileSettings
from hero_ray.core.encoded import Needs, VisionInfo
from hero_ray.core.errors import InputError
from hero_ray.costs.costs import TextTowerShape, at_view, encoder_flops, prefill_flops, scoring_flops
from hero_ray.costs.scoring import method_scoring
from hero_ray.engine.cut import Pruning
from hero_ray.methods import create
from hero_ray.methods import names as method_names
from hero_ray.models import miniature
from hero_ray.models.base import Request
from hero_ray.models.batch import whole_prompts
from hero_ray.models.graphs import GraphedDecode
from hero_ray.profiling.cells import profile_cells
from hero_ray.profiling.counter import count_flops, relative_difference
from hero_ray.profiling.job import cell_of, make_probes, read_records, store_records
from hero_ray.store import open_store
from tests.allocations import weightless

LIKE_THE_OTHERS = [
    pytest.param(name, marks=pytest.mark.slow) for name in ("llava-1.5-13b", "sharegpt4v-7b", "internvl2-8b")
]
NAMED = ["llava-next-7b", "internvl2-2b", *LIKE_THE_OTHERS]
METHODS = "full,hero,fastv"


@pytest.fixture(scope="module", params=NAMED)
def true_size(request: pytest.FixtureRequest) -> Any:
    return weightless(request.param)


def counted_prefill(adapter: Any, num_visual: int) -> tuple[int, int]:
    prompt = adapter.prompt("Describe the image.")
    visual = torch.empty(num_visual, adapter.info.language.hidden, device="meta", dtype=torch.bfloat16)
    batch = whole_prompts([Request(prompt, visual, 4)], adapter.runner.embed)
    return count_flops(lambda: adapter.runner.prefill(batch, room=4)).total, prompt.num_text


def test_true_size_encoder_counts_as_computed(true_size: Any) -> None:
    prepared = true_size.prepare(make_probes([(640, 480)], "")[0].image)
    counted = count_flops(lambda: true_size.encode(prepared, Needs())).total
    computed = encoder_flops(true_size.info.vision, prepared.layout.num_views)
    assert abs(relative_difference(counted, computed)) < 1e-3


def test_true_size_prefill_counts_as_computed(true_size: Any) -> None:
    language = true_size.info.language
    counted, text = counted_prefill(true_size, 1044)
    computed = prefill_flops(language, [1044 + text] * language.num_layers, causal=False)
    assert abs(relative_difference(counted, computed)) < 1e-3


def test_true_size_ragged_blocks_count_as_computed(true_size: Any) -> None:
    language = true_size.info.language
    depth, head = language.num_layers, 2 * language.hidden * language.vocab
    many, text = counted_prefill(true_size, 1044)
    few, _ = counted_prefill(true_size, 522)
    # A pruner asks how many tokens survive, which a tensor without data cannot tell: blocks are equal, so 2 of the
    # long prompt's and the others of the short one's stand for FastV's first two blocks and the rest.
    counted = (many - head) * 2 / depth + (few - head) * (depth - 2) / depth + head
    per_layer = [1044 + text] * 2 + [522 + text] * (depth - 2)
    computed = prefill_flops(language, per_layer, causal=False)
    assert abs(relative_difference(counted, computed)) < 1e-3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return miniature.write_llava(miniature.llava_next(), tmp_path_factory.mktemp("llava-next"), miniature.clip())


@pytest.fixture(scope="module")
def options(folder: Path) -> list[str]:
    quick = "--repeats 2 --warmup 1 --new-tokens 4 --image-sizes 640x480"
    return ["profile", "--model", str(folder), "--methods", METHODS, "--budgets", "0.4,0.2", *quick.split()]


def run_verb(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[str, dict[str, Any]]:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code in (0, None)
    shown = capsys.readouterr().out
    return shown, json.loads(shown.splitlines()[-1])


@pytest.mark.slow
def test_verb_prints_the_table_and_stores_it(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path}/speeds.db"
    shown, summary = run_verb([*options, "--db", url, "--with-stock", "--batches", "1,2"], capsys)
    header = next(line for line in shown.splitlines() if line.startswith("| Method |"))
    for column in ("Tokens", "MFLOPs (Eq. 7)", "Memory GB", "KV KiB", "Decode tok/s", "TTFT ms p50", "KV saved %"):
        assert column in header
    assert "Pays for answers of" in shown
    store = open_store(url)
    (run,) = store.runs()
    assert (run.id, run.status) == (summary["run_id"], "complete")
    cells = {(cell.method, cell.retention_ratio) for cell in store.cells(run.id)}
    assert cells == {("full", 1.0), ("hero", 0.4), ("hero", 0.2), ("fastv", 0.4), ("fastv", 0.2), ("stock", 1.0)}
    assert summary["records"] == 6 + 5  # one item each, then batch size 2 without stock


def test_model_arguments_count_where_no_option_says_otherwise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = "--methods full --repeats 1 --warmup 0 --new-tokens 2 --image-sizes 64x64 --model-args dtype=bfloat16"
    for more, dtype in ((), "bfloat16"), (("--dtype", "float32"), "float32"):
        path = tmp_path / f"{dtype}.jsonl"
        run_verb(["profile", *quick.split(), *more, "--out", str(path)], capsys)
        assert {record["certificate"]["dtype"] for record in read_records(path)} == {dtype}


@pytest.mark.slow
def test_file_is_written_without_ray_or_a_database_and_imported(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "deep" / "speeds.jsonl"
    arguments = ["hero-ray", *options, "--out", str(path)]
    script = (
        "import runpy, sys; sys.modules.update(dict.fromkeys(('ray', 'sqlalchemy', 'alembic'))); "
        f"sys.argv = {arguments!r}; runpy.run_module('hero_ray', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [entry.name for entry in tmp_path.iterdir()] == ["deep"]
    records = read_records(path)
    assert [record["key"] for record in records] == ["full@100%", "hero@40%", "hero@20%", "fastv@40%", "fastv@20%"]
    for record in records:
        assert record["kv_bytes"] == record["details"]["kv_bytes_analytic"]
        assert record["certificate"]["hash"] == record["certificate_hash"]
    url = f"sqlite:///{tmp_path}/speeds.db"
    _, summary = run_verb(["import", str(path), "--db", url], capsys)
    store, run_id = open_store(url), summary["run_id"]
    assert summary["profiles"] == 5
    assert store_records(store, records) == run_id  # the same records again are the same run
    assert len(store.runs()) == 1
    assert {cell.id for cell in store.cells(run_id)} == {cell_of(record).id for record in records}


def test_ragged_method_is_counted_block_by_block(folder: Path, tmp_path: Path) -> None:
    adapter = models.load(str(folder))
    items = {name: Pruning(create(name), 0.3) for name in ("fastv", "pdrop", "vtw")}
    probes = make_probes([(640, 480), (480, 640)], "What is it?")
    for record in profile_cells(adapter, items, probes, ProfileSettings(new_tokens=2, warmup=0, repeats=1)):
        per_layer = record["details"]["visual_per_layer"]
        assert per_layer[0] > per_layer[-1]
        assert record["kv_bytes"] == record["details"]["kv_bytes_analytic"]
        # Rows that a method recomputes to rank by are its own cost and the only excess over the blocks.
        excess = record["details"]["tflops_counted"] - record["details"]["tflops_dense"]
        assert 0 <= excess == pytest.approx(record["tflops_scoring"])
        assert record["details"]["counted_difference"] < 0.05


@pytest.mark.parametrize("batch_size", [1, 3])
def test_choice_before_the_llm_is_dropped_inside_it(folder: Path, batch_size: int) -> None:
    from hero_ray.core.config import build
    from hero_ray.core.types import Cell
    from hero_ray.profiling.job import prunings_of

    adapter = models.load(str(folder))
    params = create("ptp", mode="continue", llm_layer=1).parameters()
    document = {"tasks": ["profile"], "methods": [{"name": "ptp", "params": params}], "budgets": [0.3]}
    _, asked_for = prunings_of(build(document)).values()
    planned = Pruning.of(Cell("cell", "m", "ptp", "exact", params, 0.3, "profile", ""))
    items = {"verb": asked_for, "sweep": planned}
    settings = ProfileSettings(batch_size=batch_size, new_tokens=2, warmup=0, repeats=1)
    for record in profile_cells(adapter, items, make_probes([(640, 480)], "What is it?"), settings):
        everyone, *later = record["details"]["visual_per_layer"]
        assert len(set(later)) == 1
        # The patches of the budget and every newline live on.
        assert record["details"]["n_selected"] <= later[0] < 0.5 * everyone
        assert record["kv_bytes"] == record["details"]["kv_bytes_analytic"]


@pytest.mark.parametrize("name", [name for name in method_names() if create(name).needs(VisionInfo(6, 5)) != Needs()])
def test_what_a_method_reads_costs_what_is_counted(folder: Path, name: str) -> None:
    adapter = models.load(str(folder))
    prepared = adapter.prepare(make_probes([(640, 480)], "")[0].image)
    prompt, needs = adapter.prompt("what is it?", "what is it?"), create(name).needs(adapter.vision)
    plain = count_flops(lambda: adapter.encode(prepared, Needs())).total
    asked = count_flops(lambda: adapter.ask(adapter.encode(prepared, needs), "what is it?", needs, prompt)).total
    tokens = prompt.num_text + prepared.layout.sequence.shape[0]
    queries = prompt.instruction[1] - prompt.instruction[0]
    tower = TextTowerShape(num_layers=3, hidden=24, intermediate=48, projection=16)
    length = len("what is it?") + 2  # one CLIP token per letter, begin and end
    computed = scoring_flops(adapter.info, needs, prepared.layout.num_views, tokens, queries, tower, length)
    # Counters take the whole attention square of the blocks a scoring pass runs, the formula only its lower half.
    blocks = max(needs.llm_attention, default=1) - 1
    computed += blocks * 4 * adapter.info.language.hidden * (tokens * tokens - tokens) / 2
    assert asked - plain == computed


@pytest.mark.parametrize("write", [miniature.write_llava, miniature.write_internvl2])
def test_smaller_views_are_encoded_at_their_true_cost(tmp_path: Path, write: Any) -> None:
    """`downsample` was counted at full size: 15 to 102 % too much."""
    made = miniature.llava_next() if write is miniature.write_llava else miniature.internvl2()
    adapter = models.load(str(write(made, tmp_path / "model")))
    image = make_probes([(640, 480)], "")[0].image
    for plan in (None, adapter.plans(image.size)[-1]):
        prepared = adapter.prepare(image, plan=plan)
        layout = prepared.layout
        seen = at_view(adapter.info.vision, layout.tokens_per_view)
        counted = count_flops(lambda prepared=prepared: adapter.encode(prepared, Needs())).total
        assert encoder_flops(seen, layout.num_views) == pytest.approx(counted, rel=1e-9)


def test_families_without_a_text_tower_pay_for_none(tmp_path: Path) -> None:
    adapter = models.load(str(miniature.write_internvl2(miniature.internvl2(), tmp_path / "internvl2")))
    layout = adapter.prepare(make_probes([(640, 480)], "")[0].image).layout
    prompt, needs = adapter.prompt("what is it?", "what is it?"), create("hero").needs(adapter.vision)
    assert needs.clip_score
    with_text = method_scoring(adapter, needs, layout, prompt, "what is it?")
    assert with_text == method_scoring(adapter, replace(needs, clip_score=False), layout, prompt, "what is it?") > 0
    assert method_scoring(adapter, Needs(), layout, prompt, "what is it?") == 0


@pytest.mark.slow
def test_fixed_buffers_have_a_certificate_of_their_own(folder: Path) -> None:
    item = {"full": Pruning(create("full"))}
    settings = ProfileSettings(new_tokens=3, warmup=0, repeats=1)
    probes = make_probes([(640, 480), (480, 640), (672, 672)], "What is it?")
    adapter = models.load(str(folder))
    (plain,) = profile_cells(adapter, item, probes, settings)
    adapter.decoder = replace(adapter.decoder, step=GraphedDecode(adapter.runner))  # uncaptured on a CPU
    (graphed,) = profile_cells(adapter, item, probes, settings)
    assert (plain["certificate"]["cache"], graphed["certificate"]["cache"]) == ("preallocated", "fixed")
    assert plain["certificate_hash"] != graphed["certificate_hash"]
    assert graphed["certificate"]["cuda_graphs"] is False
    assert plain["kv_bytes"] == graphed["kv_bytes"]


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (["--image-sizes", "640"], "WIDTHxHEIGHT"),
        (["--batches", "0"], "positive"),
        (["--model-args", "max_tiles"], "KEY=VALUE"),
        (["--budgets", "1.5"], "outside"),
        (["--methods", "heroo"], "heroo"),
    ],
)
def test_bad_options_end_with_one_line(
    options: list[str], extra: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*options, "--out", "never.jsonl", *extra])
    shown = capsys.readouterr().err.strip().splitlines()
    assert stopped.value.code == 2
    assert said in shown[-1]


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text('{"kind": "samples"}\n')
    with pytest.raises(InputError, match=r"line 1 is no profile record"):
        read_records(path)
    path.write_text("not json\n")
    with pytest.raises(InputError, match="not JSON"):
        read_records(path)
    with pytest.raises(InputError, match="no profile file"):
        read_records(tmp_path / "missing.jsonl")
