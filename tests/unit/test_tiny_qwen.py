"""The Qwen2.5-VL sibling: its tower in one batch, its places and its prompt are the stock model's."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from hero_ray.benchmarks.synthetic.documents import CANVASES
from hero_ray.benchmarks.synthetic.labels import HEADS
from hero_ray.benchmarks.synthetic.questions import FAMILIES, all_questions
from hero_ray.benchmarks.synthetic.scenes import compose
from hero_ray.models.prompts import IMAGE_PAD
from tools.tiny.export_qwen import SETTINGS
from tools.tiny.qwen import QwenAnswerer, QwenTower, build_qwen, pictures_of, side_of
from tools.tiny.qwen_tokenizer import SPECIAL, encode, qwen_vocabulary, qwen_words, token_id
from tools.tiny.stage_language import forward, sample_questions
from tools.tiny.stage_native import Contents, held
from tools.tiny.tokenizer import UNK

SIZES = [(128, 128), (128, 96), (64, 48), (112, 128)]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_qwen().eval()


def processed(scene):
    return dict(Qwen2VLImageProcessorPil(**SETTINGS)(Image.fromarray(scene.image), return_tensors="pt"))


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_tower_in_one_batch_equals_the_stock_tower_picture_by_picture(model, width, height) -> None:
    scenes = [compose(np.random.default_rng([width, height, seed]), width, height) for seed in range(2)]
    tower = QwenTower(model.model.visual)
    with torch.no_grad():
        mine, whole = tower.states(pictures_of(scenes), weigh=True)
        quick, _ = tower.states(pictures_of(scenes))
        for row, scene in enumerate(scenes):
            given = processed(scene)
            assert given["image_grid_thw"].tolist() == [[1, height // 8, width // 8]]
            stock = model.model.visual(given["pixel_values"], grid_thw=given["image_grid_thw"]).last_hidden_state
            torch.testing.assert_close(mine[row], stock, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(quick[row], stock, rtol=1e-4, atol=1e-4)
    assert [received.sum(1).tolist() for _, received in whole] == [pytest.approx([1, 1])] * 2
    torch.testing.assert_close(whole[-1][0], mine)


@pytest.mark.parametrize("size", [size for size, _ in CANVASES], ids=str)
def test_packed_logits_equal_the_stock_model_on_one_question(model, size) -> None:
    rng = np.random.default_rng(size)
    scene = compose(rng, *size)
    asked = [(q.text, q.answer) for q in sample_questions(scene, dict.fromkeys(FAMILIES, 2), rng)]
    answerer = QwenAnswerer(model)
    number = len(asked) // 2
    segment, rows_columns = answerer.segment(*asked[number]), side_of(scene)
    ids = [*answerer.prefix_ids, *[token_id(IMAGE_PAD)] * (rows_columns[0] * rows_columns[1])]
    whole = torch.tensor([[*ids, *segment.question, *segment.answer]])
    with torch.no_grad():
        packed, wanted, logits = forward(answerer, [scene], answerer.features([scene]), [asked])
        types = (whole == token_id(IMAGE_PAD)).int()
        stock = model(input_ids=whole, mm_token_type_ids=types, **processed(scene)).logits[0]
    mine = logits[packed.segments[wanted] == number]
    torch.testing.assert_close(mine, stock[-1 - len(mine) : -1], rtol=1e-4, atol=1e-4)


def test_labels_stand_in_the_order_of_the_blocks() -> None:
    """A digit's plate is one patch; its label stands where that patch does in the tower, and on its object's others."""
    scene = compose(np.random.default_rng(5), 128, 96)
    tower = QwenTower(build_qwen().model.visual)
    labels, places = tower.labels([scene])[0], tower.grid(side_of(scene)).places.tolist()
    digit = labels[list(HEADS).index("digit")]
    numbered = [thing for thing in scene.things if thing.digit is not None]
    assert numbered
    for thing in numbered:
        index = places.index([(thing.box.top + 8) // 8, (thing.box.left + 8) // 8])
        assert digit[index] == 1 + thing.digit
        around = [places.index([thing.box.top // 8 + 1, thing.box.left // 8 + step]) for step in (0, 2)]
        assert digit[around].tolist() == [1 + thing.digit] * 2


def test_what_a_picture_holds_is_read_where_attention_goes() -> None:
    labels = torch.zeros(2, len(HEADS), 6, dtype=torch.long)
    labels[0, 0, 3], labels[1, 2, 5] = 2, 10  # the second shape; the digit nine
    expected = [[1], [HEADS["shape"] - 1 + HEADS["colour"] - 1 + 9]]
    assert [row.nonzero()[:, 0].tolist() for row in held(labels)] == expected
    torch.manual_seed(0)
    contents, states = Contents(8), torch.randn(2, 6, 8)
    states.requires_grad_(True)
    at = torch.zeros(2, 6)
    at[:, 4] = 1.0
    loss, _ = contents.loss([(states, at)] * 2, labels)
    (slope,) = torch.autograd.grad(loss, states)
    assert slope[:, 4].abs().sum() > 0
    assert not slope[:, [0, 1, 2, 3, 5]].any()


def test_everything_asked_and_answered_is_known_word_by_word() -> None:
    rng, words = np.random.default_rng(1), qwen_vocabulary()
    unknown = words.index(UNK)
    for _ in range(10):
        scene = compose(rng, 128, 128)
        for category in FAMILIES:
            for question in all_questions(scene, category, rng):
                assert unknown not in encode(question.text) + encode(question.answer)
                assert qwen_words().decode(list(encode(question.answer))) == question.answer
    assert len(set(words)) == len(words)
    assert [encode(token) for token in SPECIAL] == [(number,) for number in range(len(SPECIAL))]
    assert encode("What color is the star?") == encode("what colour is the star ?")
