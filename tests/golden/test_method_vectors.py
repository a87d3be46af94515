"""Every method vector is used: by a test that names its id, here or beside the method it belongs to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from hero_ray.core.encoded import VisionInfo
from hero_ray.core.layout import NEWLINE
from hero_ray.models.geometry import anyres_layout
from hero_ray.models.taps import pool_patches
from tests.method_vectors import VECTORS, vector

SOURCES = "\n".join(path.read_text() for path in Path(__file__).parents[1].rglob("test_*.py"))


@pytest.mark.parametrize("name", sorted(VECTORS))
def test_some_test_reads_the_vector(name: str) -> None:
    by_prefix = any(name.startswith(prefix) for prefix in re.findall(r'name\.startswith\("([^"]+)"\)', SOURCES))
    assert f'"{name}"' in SOURCES or by_prefix


def test_index_layers_vector() -> None:
    given = vector("index.layers")
    layers, expected = tuple(given["inputs"]["one_based"]), given["expected"]
    tower = VisionInfo(num_layers=given["params"]["layers"], feature_layer=expected["llava_minus2"]["one_based_layer"])
    assert tower.scaled(layers) == layers
    assert [layer - 1 for layer in layers] == expected["encoder_layers_index"] == expected["attentions_index"]
    assert list(layers) == expected["output_hidden_states_index"]
    assert tower.feature_layer - 1 == expected["llava_minus2"]["attentions"]
    assert tower.feature_layer == expected["llava_minus2"]["hidden_states"]


def test_internvl_pool_vector() -> None:
    given = vector("internvl.pool")
    side = given["params"]["grid"]
    pooled = pool_patches(torch.tensor(given["inputs"]["patch_scores"]), 2)
    assert pooled.tolist() == pytest.approx(given["expected"]["token_scores"], abs=1e-5)
    for token, patches in enumerate(given["expected"]["token_to_patches"]):
        marks = torch.zeros(side * side)
        marks[patches] = 1.0
        assert pool_patches(marks, 2).tolist() == [float(other == token) for other in range(4)]


def test_llava_next_unpad_vector() -> None:
    for case in vector("llava_next.unpad")["expected"]["cases"]:
        (width, height), (wide, high) = case["image_wh"], case["grid_wh"]
        layout = anyres_layout((height, width), (high, wide), 24)
        real = layout.valid.reshape(-1)[layout.mosaic()]
        rows, cols = real.any(1).nonzero()[:, 0], real.any(0).nonzero()[:, 0]
        extent = [int(rows[0]), int(rows[-1]) + 1, int(cols[0]), int(cols[-1]) + 1]
        assert extent == case["llava_rows_cols"]
        assert len(layout.sequence) == case["full_tokens_llava"]
        released = layout.order(layout.valid, "all_rows")
        assert int((released == NEWLINE).sum()) == case["hero_newlines"]
