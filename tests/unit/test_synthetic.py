"""The synthetic benchmarks: every answer follows from the picture, and everyone gets the same picture."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from hero_ray.benchmarks.synthetic import documents
from hero_ray.benchmarks.synthetic.documents import CANVASES, SPLITS, facts_at, scene_at
from hero_ray.benchmarks.synthetic.glyphs import COLOURS, SHAPES, glyph, shape_masks
from hero_ray.benchmarks.synthetic.labels import HEADS, IGNORED, patch_labels
from hero_ray.benchmarks.synthetic.questions import BENCHMARKS, FAMILIES, all_questions, choose_questions
from hero_ray.benchmarks.synthetic.scenes import FIRST_SIGN, GRID, TILE, Facts, compose
from hero_ray.core.errors import UnknownNameError

SCENES = [scene_at("validation", index) for index in range(24)]


def test_a_scene_depends_on_nothing_but_its_address() -> None:
    again = scene_at("validation", 7)
    assert np.array_equal(again.image, SCENES[7].image)
    assert again.things == SCENES[7].things


@pytest.mark.parametrize("split", SPLITS)
def test_facts_are_those_of_the_picture_without_drawing_it(split: str) -> None:
    for index in range(100):
        scene, facts = scene_at(split, index, 1), facts_at(split, index, 1)
        assert facts == Facts(scene.width, scene.height, scene.things, scene.signs, scene.texture, scene.shade)


def test_splits_share_no_scene() -> None:
    pictures = {scene_at(split, index).image.tobytes() for split in SPLITS for index in range(8)}
    assert len(pictures) == 8 * len(SPLITS)


def test_canvases_cover_padded_and_unpadded_sizes() -> None:
    assert sum(share for _, share in CANVASES) == pytest.approx(1)
    sizes = [size for size, _ in CANVASES]
    assert any(width % TILE for width, _ in sizes)
    assert any(height % TILE for _, height in sizes)
    assert (2 * TILE, 2 * TILE) in sizes


@pytest.mark.parametrize("scene", SCENES)
def test_objects_keep_to_the_grid_and_to_one_tile(scene) -> None:
    """Tile borders are counted on the centred canvas, as AnyRes pads."""
    pad_x = -scene.width % TILE // 2
    pad_y = -scene.height % TILE // 2
    for item in (*scene.things, *scene.signs):
        left, top = item.box.left + pad_x, item.box.top + pad_y
        assert left % GRID == 0
        assert top % GRID == 0
        assert left // TILE == (left + item.box.width - 1) // TILE
        assert top // TILE == (top + item.box.height - 1) // TILE


@pytest.mark.parametrize("scene", SCENES)
def test_objects_do_not_overlap(scene) -> None:
    boxes = [item.box for item in (*scene.things, *scene.signs)]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_the_picture_shows_the_colour_that_is_asked_for() -> None:
    """The median fill of a thing is nearest to its own palette colour (stars hide nearly all of theirs)."""
    palette = np.array(list(COLOURS.values()))
    things = [(scene, thing) for scene in SCENES for thing in scene.things if SHAPES[thing.shape] != "star"]
    assert len(things) > 40
    for scene, thing in things:
        _, inside = shape_masks(SHAPES[thing.shape], thing.box.width)
        box = thing.box
        region = scene.image[box.top : box.top + box.height, box.left : box.left + box.width]
        plate = scene.plates[box.top : box.top + box.height, box.left : box.left + box.width]
        fill = np.median(region[(inside > 0.99) & ~plate], axis=0)
        assert np.abs(palette - fill).sum(1).argmin() == thing.colour


def test_digit_is_written_on_its_plate() -> None:
    scene = next(scene for scene in SCENES if any(thing.digit is not None for thing in scene.things))
    thing = next(thing for thing in scene.things if thing.digit is not None)
    top, left = thing.box.top + GRID, thing.box.left + GRID
    plate = scene.image[top : top + 7, left + 1 : left + 6].mean(-1) > 128
    drawn = glyph(str(thing.digit))
    assert np.array_equal(plate, drawn) or np.array_equal(plate, ~drawn)


@pytest.mark.parametrize("scene", SCENES)
def test_answers_follow_from_the_scene(scene) -> None:
    rng = np.random.default_rng(0)
    for category in FAMILIES:
        for question in all_questions(scene, category, rng):
            things = [scene.things[owner] for owner in question.referents if owner < FIRST_SIGN]
            if category == "count":
                assert len(things) == int(question.answer)
            elif category == "exist":
                assert (question.answer == "yes") == bool(things)
            elif category == "position":
                assert question.answer == scene.quadrant(things[0].box)
            elif category == "digit":
                assert str(things[0].digit) == question.answer


@pytest.mark.parametrize("scene", SCENES)
def test_referring_expressions_are_unambiguous(scene) -> None:
    rng = np.random.default_rng(0)
    for category in ("colour", "shape", "digit", "position", "word", "texture", "shade"):
        answers: dict[str, set[str]] = {}
        for question in all_questions(scene, category, rng):
            answers.setdefault(question.text, set()).add(question.answer)
        assert all(len(values) == 1 for values in answers.values())


def test_counting_copes_with_a_scene_that_shows_every_colour() -> None:
    scene = SCENES[0]
    things = tuple(replace(scene.things[0], colour=value, shape=value) for value in range(len(COLOURS)))
    questions = all_questions(replace(scene, things=things), "count", np.random.default_rng(0))
    assert [question.answer for question in questions] == ["1"] * 16


def test_choose_questions_alternates_categories_and_repeats_none() -> None:
    scene = max(SCENES, key=lambda scene: len({t.shape for t in scene.things}) * len({t.colour for t in scene.things}))
    chosen = choose_questions(scene, ("colour", "shape"), 4, np.random.default_rng(3))
    assert len({question.text for question in chosen}) == 4
    assert Counter(question.category for question in chosen) == {"colour": 2, "shape": 2}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_default_test_set_is_large_enough(name) -> None:
    rows = list(documents(name))
    assert len(rows) >= 150
    assert len({row["question_id"] for row in rows}) == len(rows)


def test_existence_is_balanced() -> None:
    answers = Counter(row["answers"][0] for row in documents("synth-exist", "validation", 40))
    assert abs(answers["yes"] - answers["no"]) <= 0.1 * answers.total()


def test_all_benchmarks_ask_about_the_same_images() -> None:
    firsts = [next(documents(name, "validation", 1)) for name in BENCHMARKS]
    assert len({row["image_id"] for row in firsts}) == 1
    assert len({row["image"].tobytes() for row in firsts}) == 1


def test_questions_per_image_is_a_limit() -> None:
    rows = list(documents("synth-digits", "validation", 10, questions_per_image=1))
    assert max(Counter(row["image_id"] for row in rows).values()) == 1


@pytest.mark.parametrize(("name", "split"), [("synth-nothing", "test"), ("synth-digits", "dev")])
def test_unknown_names_are_refused_with_the_known_ones(name, split) -> None:
    with pytest.raises(UnknownNameError, match="Known"):
        next(documents(name, split))


def test_patch_labels_put_each_digit_into_one_patch() -> None:
    for scene in SCENES[:8]:
        rows, columns = scene.height // GRID, scene.width // GRID
        labels = dict(zip(HEADS, patch_labels(scene, scene.owner, scene.plates, rows, columns, fine=True), strict=True))
        plated = [thing.digit + 1 for thing in scene.things if thing.digit is not None]
        assert sorted(labels["digit"][labels["digit"] > 0]) == sorted(plated)
        assert (labels["word"] > 0).sum() == 3 * len(scene.signs)
        assert (labels["texture"][labels["shape"] > 0] == IGNORED).mean() > 0.9


def test_coarse_labels_hide_what_the_thumbnail_cannot_show() -> None:
    scene = SCENES[0]
    labels = dict(zip(HEADS, patch_labels(scene, scene.owner, scene.plates, 8, 8, fine=False), strict=True))
    assert not labels["digit"].any()
    assert not labels["word"].any()
    assert labels["shape"].any()


def test_a_single_tile_scene_can_be_composed() -> None:
    scene = compose(np.random.default_rng(5), 64, 48)
    assert scene.image.shape == (48, 64, 3)
