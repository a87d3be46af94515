"""What a plan knows of a checkpoint: its prompt and its CLIP are part of the cells they decide, and of no others."""

import json

import pytest

from hero_ray.core.config import SweepConfig
from hero_ray.core.errors import CheckpointError, ParameterError, UnknownNameError
from hero_ray.models import miniature, miniature_qwen
from hero_ray.models.shapes import shape
from hero_ray.pipeline import facts
from hero_ray.pipeline.facts import make_plan, model_fact, sample_prompts
from tests import checkpoints
from tests.checkpoints import TEMPLATES


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return miniature.write_llava(miniature.llava_next(), tmp_path_factory.mktemp("plan"))


def plan_of(model, methods=("full", "hero", "hired"), **more):
    return make_plan(
        SweepConfig(models=[str(model)], methods=list(methods), budgets=[0.2], tasks=["synth-exist"], limit=1, **more)
    )


@pytest.fixture
def clip(monkeypatch, tmp_path):
    """A CLIP where the hub's would be found."""
    there = miniature.write_clip(miniature.clip(), tmp_path / "clip")
    found = facts.find_folder
    monkeypatch.setattr(facts, "find_folder", lambda name, *check: there if "clip" in name else found(name, *check))
    return there


def test_clips_weights_are_part_of_the_cells_that_read_it(folder, clip):
    before = {cell.method: cell for cell in plan_of(folder).cells}
    assert before["hero"].spec["model"]["clip"]
    assert "clip" not in before["hired"].spec["model"]
    miniature.write_clip(miniature.clip(seed=1), clip)
    after = {cell.method: cell.id for cell in plan_of(folder).cells}
    changed = {name for name, cell in before.items() if after[name] != cell.id}
    assert changed == {"hero"}


def test_a_clip_that_is_not_there_is_said_by_the_plan(folder, monkeypatch):
    def none(name, *check):
        if "clip" in name:
            raise CheckpointError(f"{name}: the hub cannot be reached")
        return folder

    monkeypatch.setattr(facts, "find_folder", none)
    with pytest.raises(CheckpointError, match="clip-vit-large-patch14-336: the hub cannot be reached"):
        plan_of(folder)
    assert plan_of(folder, ("full", "hired")).cells
    assert plan_of(folder, model_args={"clip_vision": "none"}).cells


def test_a_checkpoint_with_a_word_of_its_own_has_cells_of_its_own(folder, tmp_path):
    plain = plan_of(folder, ("full",))
    twin = tmp_path / "twin"
    twin.mkdir()
    for path in folder.iterdir():
        (twin / path.name).write_bytes(path.read_bytes())
    same = {cell.spec["model"]["options"].get("prompt") for cell in plan_of(twin, ("full",)).cells}
    assert same == {None}
    (twin / "chat_template.json").write_text(json.dumps({"chat_template": TEMPLATES["mistral"]}))
    spoken = plan_of(twin, ("full",))
    assert all(cell.spec["model"]["options"]["prompt"] for cell in spoken.cells)
    [text] = sample_prompts(spoken).values()
    assert text.startswith("[INST] <image>\n")
    assert text.endswith(" [/INST]")
    [former] = sample_prompts(plain).values()
    assert former.startswith("A chat between a curious user")
    asked = plan_of(twin, ("full",), model_args={"style": "plain"})
    assert next(iter(sample_prompts(asked).values())).startswith("USER: <image>\n")
    assert asked.cells[0].id not in {cell.id for cell in spoken.cells}


def test_a_tower_without_cls_is_said_with_the_methods_that_look_for_it(folder, tmp_path):
    assert plan_of(folder, ("full", "hired")).cautions == []
    made = checkpoints.llava_onevision(checkpoints.ONEVISION["onevision-7b"], tmp_path)
    assert made.config.vision_config.model_type == "siglip_vision_model"
    [line] = plan_of(tmp_path, ("full", "hired", "fastv", "prumerge", "divprune")).cautions
    assert "no CLS token; for hired, prumerge the mean over its patches stands in" in line
    assert plan_of(tmp_path, ("full", "fastv")).cautions == []


def test_pixels_that_are_asked_for_are_part_of_the_plan(tmp_path):
    miniature_qwen.write_qwen_vl(miniature_qwen.qwen_vl(), tmp_path)
    whole, less = (model_fact(str(tmp_path), options) for options in ({}, {"max_pixels": "2304"}))
    assert (whole.max_tokens, less.max_tokens) == (40, 9)
    assert (whole.options, less.options) == ({}, {"max_pixels": "2304"})
    with pytest.raises(ParameterError, match="expected whole numbers"):
        model_fact(str(tmp_path), {"max_pixels": "few"})
    [line] = plan_of(tmp_path, ("full", "hired", "fastv")).cautions
    assert "no CLS token; for hired the mean over its patches stands in" in line


def test_a_style_that_is_not_there_is_said_by_the_plan(folder):
    with pytest.raises(UnknownNameError, match="prompt style"):
        model_fact(str(folder), {"style": "vicunja"})


def test_the_largest_picture_has_as_many_views_as_the_canvases_allow(folder, tmp_path):
    assert shape(str(folder)).views == 5
    raw = json.loads((folder / "config.json").read_text())
    side = raw["vision_config"]["image_size"]
    raw["image_grid_pinpoints"] = [[side * a, side * b] for a in range(1, 7) for b in range(1, 7)]
    (tmp_path / "config.json").write_text(json.dumps(raw))
    assert shape(str(tmp_path)).views == 37
    assert model_fact(str(tmp_path), {}).max_tokens == 37 * 16
