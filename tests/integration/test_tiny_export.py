"""Exported folders answer like the models they were written from."""

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import hero_ray
from hero_ray.benchmarks.synthetic.documents import documents, scene_at
from hero_ray.models.asking import shown_prompt
from tools.tiny import evaluate_card, export
from tools.tiny.answering import load_answerer, load_internvl, tile_pixels
from tools.tiny.architecture import build_clip, build_llava_next
from tools.tiny.internvl import MAX_TILES, build_internvl, tiled_views
from tools.tiny.qwen import build_qwen

NAMES = ["hero-tiny", "hero-tiny-internvl", "hero-tiny-qwen"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("exported")
    torch.manual_seed(0)
    llava, internvl, qwen = build_llava_next(), build_internvl(), build_qwen()
    export.export_folder(llava, build_clip(), root / "hero-tiny")
    export.export_internvl(internvl, root / "hero-tiny-internvl")
    export.export_qwen(qwen, root / "hero-tiny-qwen")
    return root, dict(zip(NAMES, (llava, internvl, qwen), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_holds_the_weights_it_was_written_from(folders, name) -> None:
    root, models = folders
    loaded, _ = load_answerer(name, root / name)
    for key, tensor in models[name].state_dict().items():
        assert torch.equal(loaded.state_dict()[key], tensor), key


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_answers_a_batch_like_single_questions(folders, name) -> None:
    root, _ = folders
    _, answer = load_answerer(name, root / name)
    rows = [row for split in ("validation", "test") for row in documents("synth-digits", split, 2)]
    asked = [(row["image"], row["question"]) for row in rows]
    assert answer(asked) == [answer([pair])[0] for pair in asked]


def test_internvl_views_of_a_picture_equal_those_of_its_scene() -> None:
    for index in range(6):
        scene = scene_at("validation", index)
        expected = np.stack([view.pixels for view in tiled_views(scene)])
        assert np.array_equal(tile_pixels(Image.fromarray(scene.image)), expected)


def test_internvl_folder_names_its_own_settings(folders) -> None:
    root, _ = folders
    raw = export.internvl2.read_config(root / "hero-tiny-internvl")
    assert raw["max_dynamic_patch"] == MAX_TILES
    assert raw["system_message"]
    assert load_internvl(root / "hero-tiny-internvl").config.text_config.num_key_value_heads == 2


def test_a_qwen_folder_is_asked_as_its_family_is_and_answers_here_as_by_transformers(folders) -> None:
    """The folder's own chat template, and hero_ray's adapter over the same files."""
    root, _ = folders
    folder = str(root / "hero-tiny-qwen")
    assert shown_prompt(folder, "What colour is the star?") == shown_prompt("qwen2.5-vl-3b", "What colour is the star?")
    _, answer = load_answerer("hero-tiny-qwen", root / "hero-tiny-qwen")
    rows, ours = list(documents("synth-digits", "test", 2)), hero_ray.load_model(folder, device="cpu")
    assert answer([(row["image"], row["question"]) for row in rows]) == [
        ours.generate(row["image"], row["question"], max_new_tokens=4).text for row in rows
    ]


def test_unknown_models_are_refused() -> None:
    result = CliRunner().invoke(_app(), ["--model", "hero-huge"])
    assert result.exit_code == 2
    assert "hero-tiny-internvl" in result.output


def test_a_missing_checkpoint_is_named(tmp_path) -> None:
    wide = {"COLUMNS": "400"}  # a long path is not broken in the middle of the name
    result = CliRunner().invoke(_app(), ["--checkpoints", str(tmp_path), "--out", str(tmp_path / "out")], env=wide)
    assert result.exit_code == 2
    assert "polish.pt" in result.output
    assert not (tmp_path / "out").exists()


def _app():
    app = export.typer.Typer()
    app.command()(export.export)
    return app


def test_accuracy_table_has_a_row_per_benchmark_and_category(folders) -> None:
    root, _ = folders
    _, answer = load_answerer("hero-tiny", root / "hero-tiny")
    measured = {"test": evaluate_card.measure(answer, "test", 2)}
    text = evaluate_card.table(measured)
    assert "| synth-attribute/colour |" in text
    assert measured["test"]["synth-exist"].commonest * 2 == measured["test"]["synth-exist"].number
