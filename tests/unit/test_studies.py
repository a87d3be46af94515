"""Studies on inputs whose answer is known: planted objects, planted stages, a planted informative tile."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dashboard import study_figures
from hero_ray.core.encoded import Encoded, Question, VisionInfo
from hero_ray.core.errors import InputError, JudgeError, UnknownNameError
from hero_ray.methods.kit.conformance import CLIP, llava_layout, random_encoded
from hero_ray.studies import (
    attention_maps,
    caption_judge,
    catalogue,
    drawing,
    files,
    layer_iou,
    layer_similarity,
    tile_importance,
    token_roles,
)
from hero_ray.studies.records import FigureTable, Study, heat, lines

LAYOUT = llava_layout((2, 2), (4, 4))


def encoded(**fields: Any) -> Encoded:
    features = torch.zeros(5, 16, 2)
    return Encoded("x", LAYOUT, VisionInfo(12, 11), features, **fields)


def test_planted_salient_patches_give_full_overlap() -> None:
    cells = [3, 4, 5, 20, 21]
    looking, away = torch.zeros(64), torch.ones(64)
    looking[cells], away[cells] = 1.0, 0.0
    assert layer_iou.layer_overlaps(torch.stack([looking, away]), cells, 5) == [1.0, 0.0]


def test_overlap_counts_halves() -> None:
    scores = torch.zeros(16)
    scores[[0, 1]] = 1.0
    assert layer_iou.layer_overlaps(scores[None], [1, 2], 2) == [pytest.approx(1 / 3)]


def test_chance_is_the_mean_over_all_draws() -> None:
    from itertools import combinations

    cells = {0, 1, 2}
    draws = [set(draw) for draw in combinations(range(7), 2)]
    expected = sum(len(draw & cells) / len(draw | cells) for draw in draws) / len(draws)
    assert layer_iou.chance(7, 3, 2) == pytest.approx(expected)


def test_a_generated_mask_covers_what_was_drawn() -> None:
    from hero_ray.benchmarks.synthetic.documents import scene_at

    scene = scene_at("test", 0, 0)
    mask = np.asarray(layer_iou.scene_mask("test", 0, 0))
    box = scene.things[0].box
    assert mask[box.top + box.height // 2, box.left + box.width // 2] == 255
    assert set(np.unique(mask)) == {0, 255}


@pytest.mark.parametrize("boundary", [4, 12, 18])
def test_planted_stages_are_found(boundary: int) -> None:
    draw = torch.Generator().manual_seed(0)
    early, late = torch.rand(64, generator=draw) * torch.tensor([1.0] * 32 + [0.1] * 32), torch.zeros(64)
    late[40:] = torch.rand(24, generator=draw)
    noise = 0.05 * torch.rand(24, 64, generator=draw)
    maps = torch.stack([early if layer < boundary else late for layer in range(24)]) + noise
    matrix = layer_similarity.similarity(maps)
    stages = layer_similarity.two_stages(matrix)
    assert torch.allclose(matrix.diagonal(), torch.ones(24, dtype=torch.float64))
    assert stages.boundary == boundary
    assert stages.contrast > 0.5


def test_maps_all_alike_have_no_contrast() -> None:
    stages = layer_similarity.two_stages(layer_similarity.similarity(torch.ones(6, 8)))
    assert stages.contrast == pytest.approx(0.0)


def test_a_planted_informative_tile_is_ranked_first() -> None:
    embeddings = torch.nn.functional.normalize(torch.tensor([[1.0, 0], [0.2, 1], [0.4, 1], [1, 0.1], [0, 1]]), dim=1)
    question = Question("where?", clip_score=torch.tensor([0.5, 0.1, 0.3, 0.2, 0.2]))
    image = encoded(cls_embedding={"last_pre_ln": embeddings}, question=question)
    scores = tile_importance.tile_scores(image)
    assert tile_importance.rank_tiles(scores[tile_importance.CLS]) == [2, 1, 0, 3]
    assert tile_importance.rank_tiles(scores[tile_importance.CLIP]) == [1, 2, 3, 0]
    chosen = tile_importance.settings(image)
    assert len(chosen) == 9
    assert chosen["CLS similarity 1"].keep.sum(1).tolist() == [16, 0, 0, 16, 0]
    assert chosen["none"].keep.sum(1).tolist() == [16, 0, 0, 0, 0]


def test_without_a_text_tower_there_is_one_ranking() -> None:
    image = encoded(cls_embedding={"last_pre_ln": torch.eye(5)})
    assert set(tile_importance.tile_scores(image)) == {tile_importance.CLS}


def test_token_roles_keep_what_their_layers_attend_to() -> None:
    layout = llava_layout((1, 2), (4, 4))
    image = random_encoded(layout, token_roles.needs(CLIP))
    for layer, row in image.cls_attention.items():
        row[:] = 0.0
        row[..., 0 if layer in token_roles.BANDS["primary"] else 7] = 1.0
    chosen = token_roles.settings(image)
    assert chosen["primary"].keep[:, 0].all()
    assert chosen["shortcut"].keep[:, 7].all()
    assert {selection.n_selected for selection in chosen.values()} == {6}  # 2 of 16 in each of 3 views


def test_entropy_tells_a_point_from_a_plane() -> None:
    point = torch.zeros(64)
    point[5] = 1.0
    assert attention_maps.entropy(point) == pytest.approx(0.0, abs=1e-9)
    assert attention_maps.entropy(torch.ones(64)) == pytest.approx(1.0)


def test_the_brightest_part_of_an_overlay_is_the_most_attended() -> None:
    scores = np.zeros((4, 4))
    scores[1, 2] = 1.0
    drawn = np.asarray(drawing.over_picture(Image.new("RGB", (40, 40), "grey"), scores, 40)).sum(-1)
    assert np.unravel_index(drawn.argmax(), drawn.shape)[0] // 10 == 1
    assert drawn[15, 25] == drawn.max()
    assert drawn[15, 25] > drawn[35, 5]


def test_judge_replies_are_read_strictly() -> None:
    good = dict.fromkeys(caption_judge.RATINGS, 4)
    assert caption_judge.parse(f"Sure:\n{json.dumps(good)}") == good
    for bad in ("4 4 4 4", json.dumps(good | {"object_coverage": 6}), json.dumps({"object_coverage": 3}), "{"):
        with pytest.raises(JudgeError, match="expected JSON"):
            caption_judge.parse(bad)


def study() -> Study:
    curve = {"name": "a", "x": [1, 2, 3], "y": [0.1, 0.5, 0.2], "low": [0.0, 0.4, 0.1], "high": [0.2, 0.6, 0.3]}
    charts = (
        lines("curve", [curve], "layer", "IoU"),
        heat("matrix", [1, 2], [1, 2], [[1.0, 0.2], [0.2, 1.0]], "cosine"),
    )
    table = FigureTable("Figures", ("layer", "value"), ((1, 0.25), (2, None)))
    return Study("layer-iou", "A <title>", "note", charts, (table,), {"extra": Image.new("RGB", (5, 5))}, {"best": 2})


def test_a_study_is_written_in_the_form_the_dashboard_draws(tmp_path: Path) -> None:
    paths = files.write(study(), tmp_path, {"model": "m"})
    assert [path.name for path in paths] == [
        "layer-iou.json", "layer-iou.html", "layer-iou-chart-1.png", "layer-iou-chart-2.png", "extra.png",
    ]  # fmt: skip
    read = study_figures.read_study(study_figures.read_file(paths[0]) or {})
    assert read is not None
    assert [title for title, _ in read["charts"]] == ["curve", "matrix"]
    assert json.loads(paths[0].read_text())["provenance"] == {"model": "m"}
    page = paths[1].read_text()
    assert "A &lt;title&gt;" in page
    assert page.count("data:image/png") == 3
    assert files.markdown(study().tables[0]).splitlines()[-1] == "| 2 |  |"


def test_every_study_is_known_by_name_and_others_are_not() -> None:
    for name in catalogue.names():
        assert callable(catalogue.get(name))
    with pytest.raises(UnknownNameError, match="layer-iou"):
        catalogue.get("layer-io")


def test_a_benchmark_without_masks_is_refused() -> None:
    from hero_ray.studies.records import StudyRequest

    class Bare:
        name = "bare"

        def samples(self) -> list[Any]:
            from hero_ray.core.types import Sample

            return [Sample("bare", "1", "", [], "k", None)]

    def get(name: str, **options: Any) -> Bare:
        return Bare()

    original, layer_iou.benchmarks.get = layer_iou.benchmarks.get, get  # type: ignore[assignment]
    try:
        with pytest.raises(InputError, match="no salient masks"):
            next(layer_iou.masked_pictures(StudyRequest(None, ("bare",))))  # type: ignore[arg-type]
    finally:
        layer_iou.benchmarks.get = original
    assert math.isfinite(layer_iou.chance(64, 10, 6))
