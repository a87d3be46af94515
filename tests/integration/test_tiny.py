"""The embedded model's training: the same pixels, tokens and positions as transformers will use later."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, CLIPConfig, LlavaNextForConditionalGeneration

from hero_ray.benchmarks.synthetic.documents import CANVASES
from hero_ray.benchmarks.synthetic.glyphs import COLOUR_NAMES, SHAPES, TONES, WORDS
from hero_ray.benchmarks.synthetic.questions import FAMILIES, all_questions
from hero_ray.benchmarks.synthetic.scenes import compose
from tools.tiny import train as training
from tools.tiny.architecture import build_clip, build_llava_next
from tools.tiny.batches import IGNORED, Segment, pack
from tools.tiny.captions import attribute_lists, describe
from tools.tiny.export import export_folder, image_processor, processor
from tools.tiny.initialise import whitening, word_targets
from tools.tiny.llava_next import LlavaNextAnswerer
from tools.tiny.stage_language import CROWD, correct_by_question, draw_scenes, forward, sample_questions
from tools.tiny.stage_tower import contrastive, soft_targets
from tools.tiny.tokenizer import SUFFIX, UNK, clip_tokenizer, language_tokenizer
from tools.tiny.views import anyres_views, pixel_values

SIZES = [size for size, _ in CANVASES]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_llava_next().eval()


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_training_views_equal_the_image_processor(width, height) -> None:
    scene = compose(np.random.default_rng([width, height]), width, height)
    processed = image_processor()(images=[[scene.image]], return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close(pixel_values(anyres_views(scene)), processed, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_packed_logits_equal_the_stock_model_on_one_question(model, width, height) -> None:
    """Image, prompt and answer through the processor and the whole model give what the packed row gives."""
    rng = np.random.default_rng([width, height])
    scene = compose(rng, width, height)
    asked = [(q.text, q.answer) for q in sample_questions(scene, dict.fromkeys(FAMILIES, 2), rng)]
    answerer = LlavaNextAnswerer(model)
    with torch.no_grad():
        packed, wanted, logits = forward(answerer, [scene], answerer.features([scene]), [asked])
        number = len(asked) // 2
        question, answer = asked[number]
        inputs = processor()(
            images=[[scene.image]],
            text=[f"USER: <image>\n{question} ASSISTANT: {answer}"],
            return_tensors="pt",
        )
        stock = model(**inputs).logits[0]
    mine = logits[packed.segments[wanted] == number]
    torch.testing.assert_close(mine, stock[-len(mine) :], rtol=1e-4, atol=1e-5)


def test_packing_restarts_positions_and_hides_other_questions() -> None:
    rows = [[Segment((5, 6), (7, 2)), Segment((8,), (9, 2))], [Segment((5,), (2,))]]
    packed = pack(rows, prefix=3)
    assert packed.ids.tolist() == [[5, 6, 7, 2, 8, 9, 2], [5, 2, 0, 0, 0, 0, 0]]
    assert packed.positions[0].tolist() == [0, 1, 2, 3, 4, 5, 6, 3, 4, 5]
    assert packed.labels[0].tolist() == [IGNORED, 7, 2, IGNORED, 9, 2, IGNORED]
    visible = packed.mask[0, 0] == 0
    assert visible[7].tolist() == [True] * 3 + [False] * 4 + [True] + [False] * 2
    assert not visible[0, 1]


def test_a_question_is_right_only_if_every_answer_token_is() -> None:
    packed = pack([[Segment((5,), (7, 2)), Segment((8,), (9, 2))]], prefix=1)
    wanted = packed.labels != IGNORED
    logits = torch.zeros(4, 10)
    for row, token in enumerate([7, 3, 9, 2]):
        logits[row, token] = 1
    assert correct_by_question(packed, wanted, logits) == [[False, True]]


def test_no_question_answer_or_caption_contains_an_unknown_word() -> None:
    tokenizer, rng = language_tokenizer(), np.random.default_rng(1)
    texts = {SUFFIX}
    for _ in range(30):
        scene = compose(rng, 128, 128)
        texts |= {describe(scene, view, rng) for view in anyres_views(scene)}
        for category in FAMILIES:
            texts |= {text for q in all_questions(scene, category, rng) for text in (q.text, q.answer)}
    unknown = tokenizer.convert_tokens_to_ids(UNK)
    assert not [text for text in texts if unknown in tokenizer(text)["input_ids"]]


def test_captions_fit_the_text_tower() -> None:
    tokenizer, rng = clip_tokenizer(), np.random.default_rng(2)
    scenes = [compose(rng, 128, 128) for _ in range(20)]
    lengths = [len(tokenizer(describe(s, v, rng))["input_ids"]) for s in scenes for v in anyres_views(s)]
    assert max(lengths) <= 77


def test_tokenizer_reads_both_spellings_and_writes_words() -> None:
    tokenizer = language_tokenizer()
    assert tokenizer("What color is the star?")["input_ids"] == tokenizer("What colour is the star?")["input_ids"]
    ids = tokenizer("top left", add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == "top left"


def test_equal_captions_are_positives_of_one_another() -> None:
    targets = soft_targets(["a", "b", "a"])
    assert targets.tolist() == [[0.5, 0, 0.5], [0, 1, 0], [0.5, 0, 0.5]]


def test_contrastive_loss_falls_when_pairs_match() -> None:
    vectors, targets = torch.eye(4), torch.eye(4)
    matched, hits = contrastive(vectors, vectors, torch.tensor(2.0), targets)
    shuffled, misses = contrastive(vectors, vectors.roll(1, 0), torch.tensor(2.0), targets)
    assert matched < shuffled
    assert (hits, misses) == (1.0, 0.0)


def test_exported_folder_loads_without_missing_or_unexpected_weights(model, tmp_path: Path) -> None:
    torch.manual_seed(1)
    clip = build_clip()
    export_folder(model, clip, tmp_path)
    loaded, report = LlavaNextForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert AutoTokenizer.from_pretrained(tmp_path / "clip").model_max_length == 77
    assert CLIPConfig.from_pretrained(tmp_path / "clip").text_config.num_hidden_layers == 3


def test_an_unknown_stage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(training.typer.BadParameter, match="tower, sharpen, tiles"):
        training.train(out=tmp_path, stage="last")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_finished_stages_are_skipped_and_the_rest_resumed(tmp_path: Path, capsys) -> None:
    training.train(out=tmp_path, stage="tower", steps=1)
    first = torch.load(tmp_path / "tower.pt", weights_only=True)
    training.train(out=tmp_path, stage="tiles", steps=1)
    assert "tower.pt exists, skipped" in capsys.readouterr().out
    again = torch.load(tmp_path / "tower.pt", weights_only=True)
    assert all(torch.equal(first[name], again[name]) for name in first)
    resumed = build_llava_next()
    resumed.load_state_dict(torch.load(tmp_path / "tiles.pt", weights_only=True))
    fresh = LlavaNextAnswerer(build_llava_next())
    fresh.adopt_tower(first)
    tower, expected = resumed.model.vision_tower.state_dict(), fresh.module.model.vision_tower.state_dict()
    assert all(torch.equal(tower[name], expected[name]) for name in expected)


def test_attribute_lists_name_one_thing_and_tell_the_truth() -> None:
    scene = compose(np.random.default_rng(3), 128, 128)
    lists = attribute_lists(scene)
    assert lists
    signs = {(TONES[sign.tone], WORDS[sign.word]) for sign in scene.signs}
    assert signs <= set(lists)
    for name, rest in lists:
        if (name, rest) in signs:
            continue
        shape, colour = (SHAPES.index(name), None) if name in SHAPES else (None, COLOUR_NAMES.index(name))
        matching = [thing for thing in scene.things if thing.shape == shape or thing.colour == colour]
        assert len(matching) == 1
        thing = matching[0]
        digit = [str(thing.digit)] if thing.digit is not None else []
        other = COLOUR_NAMES[thing.colour] if colour is None else SHAPES[thing.shape]
        assert rest == " ".join([other, *digit, scene.quadrant(thing.box)])


def test_fragments_do_not_disturb_the_questions(model) -> None:
    rng = np.random.default_rng(4)
    scene = compose(rng, 128, 128)
    asked = [(q.text, q.answer) for q in sample_questions(scene, dict.fromkeys(FAMILIES, 1), rng)]
    answerer = LlavaNextAnswerer(model)
    with torch.no_grad():
        features = answerer.features([scene])
        _, _, alone = forward(answerer, [scene], features, [asked])
        _, _, together = forward(answerer, [scene], features, [asked], [attribute_lists(scene)])
    torch.testing.assert_close(together[: len(alone)], alone, rtol=1e-4, atol=1e-5)


def test_word_targets_mark_every_word_a_token_shows() -> None:
    labels = torch.tensor([[[[1, 0], [2, 0]], [[0, 3], [0, 0]]]])  # one view, two heads, two patches, two tokens
    targets = word_targets(labels, [[4, 5], [6, 7, None]], vocabulary=8)
    assert targets[0].nonzero().tolist() == [[0, 4], [0, 5]]
    targets = word_targets(labels, [[4, 5], [6, 7, 1]], vocabulary=8)
    assert targets[0].nonzero().tolist() == [[0, 4], [0, 5], [1, 1]]


def test_whitening_makes_features_uncorrelated() -> None:
    generator = torch.Generator().manual_seed(0)
    mix = torch.linalg.qr(torch.randn(4, 4, generator=generator)).Q
    sample = torch.randn(2000, 4, generator=generator) * torch.tensor([1.0, 2.0, 4.0, 8.0]) @ mix + 5
    mean, matrix = whitening(sample)
    covariance = torch.cov(((sample.double() - mean) @ matrix).t())
    torch.testing.assert_close(covariance, torch.eye(4, dtype=torch.double), atol=0.1, rtol=0)


def test_single_tiles_are_mostly_crowded() -> None:
    scenes = draw_scenes(np.random.default_rng(6), (((64, 64), 1.0),), lambda width, height: 60)
    assert np.mean([len(scene.things) >= CROWD for scene in scenes]) > 0.7
