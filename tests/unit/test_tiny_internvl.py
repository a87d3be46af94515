"""The InternVL2 sibling: true tiling, token order and prompt."""

import numpy as np
import pytest
import torch
from PIL import Image

from hero_ray.benchmarks.synthetic.documents import CANVASES
from hero_ray.benchmarks.synthetic.questions import FAMILIES, all_questions
from hero_ray.benchmarks.synthetic.scenes import compose
from tools.tiny.internvl import InternVLAnswerer, build_internvl, tiled_views
from tools.tiny.piece_tokenizer import PICTURE, SYSTEM, piece_model, pieces, save_pieces, special_ids
from tools.tiny.stage_language import forward, sample_questions


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_internvl().eval()


@pytest.mark.parametrize(("width", "height"), [size for size, _ in CANVASES])
def test_thumbnail_comes_last(width, height) -> None:
    scene = compose(np.random.default_rng([width, height]), width, height)
    views = tiled_views(scene)
    assert len(views) in (3, 5)
    small = np.asarray(Image.fromarray(scene.image).resize((64, 64), Image.Resampling.BICUBIC))
    assert np.array_equal(views[-1].pixels, small)
    assert [view.fine for view in views] == [True] * (len(views) - 1) + [False]


def test_a_single_tile_has_no_thumbnail() -> None:
    assert len(tiled_views(compose(np.random.default_rng(0), 64, 64))) == 1


def test_stretched_tiles_keep_every_digit_label() -> None:
    scene = compose(np.random.default_rng(3), 128, 96)
    digits = {int(label) for view in tiled_views(scene)[:-1] for label in np.unique(view.labels[2])} - {0}
    assert digits == {thing.digit + 1 for thing in scene.things if thing.digit is not None}


def test_pixel_shuffle_gathers_two_by_two_patches_in_raster_order(model) -> None:
    patches = torch.arange(64.0).view(1, 8, 8, 1)
    tokens = model.model.pixel_shuffle(patches, scale_factor=0.5).reshape(16, 4)
    expected = [{r * 8 + c for r in (2 * i, 2 * i + 1) for c in (2 * j, 2 * j + 1)} for i in range(4) for j in range(4)]
    assert [set(map(int, token)) for token in tokens] == expected


def test_packed_logits_equal_the_stock_model_on_one_question(model) -> None:
    rng = np.random.default_rng(9)
    scene = compose(rng, 128, 96)
    asked = [(q.text, q.answer) for q in sample_questions(scene, dict.fromkeys(FAMILIES, 2), rng)]
    answerer = InternVLAnswerer(model)
    with torch.no_grad():
        features = answerer.features([scene])
        packed, wanted, logits = forward(answerer, [scene], features, [asked])
        number = len(asked) // 2
        segment = answerer.segment(*asked[number])
        pictures = [special_ids()[PICTURE]] * (16 * len(tiled_views(scene)))
        ids = torch.tensor([[*answerer.prefix_ids, *pictures, *segment.question, *segment.answer]])
        pixels = answerer.pixels([scene])
        stock = model(input_ids=ids, pixel_values=pixels).logits[0]
    mine = logits[packed.segments[wanted] == number]
    torch.testing.assert_close(mine, stock[-1 - len(mine) : -1], rtol=1e-4, atol=1e-5)


def test_words_are_single_pieces_and_survive_a_round_trip() -> None:
    rng = np.random.default_rng(1)
    texts = {SYSTEM}
    for _ in range(10):
        scene = compose(rng, 128, 128)
        for category in FAMILIES:
            texts |= {text for q in all_questions(scene, category, rng) for text in (q.text, q.answer)}
    for text in texts:
        assert pieces().decode(pieces().encode(text)) == text.lower()
        assert pieces().unk_id() not in pieces().encode(text)
    assert all(len(pieces().encode(word)) == 1 for word in ("star", "red", "7", "jam", "top", "left"))


def test_tokenizer_training_is_reproducible(tmp_path) -> None:
    save_pieces(tmp_path)
    piece_model.cache_clear()
    assert (tmp_path / "tokenizer.model").read_bytes() == piece_model()
