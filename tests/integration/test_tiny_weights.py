"""The weights that travel with the package: small, described, and better than guessing on scenes nobody trained on."""

import pytest
from safetensors import safe_open

from hero_ray.benchmarks.synthetic.documents import documents
from hero_ray.models.registry import EMBEDDED_WEIGHTS
from tools.tiny.answering import load_answerer

LEAST = {"hero-tiny": 0.95, "hero-tiny-internvl": 0.75, "hero-tiny-qwen": 0.75}
NAMES = list(LEAST)


@pytest.mark.parametrize("name", NAMES)
def test_folder_is_small_and_holds_no_pickle(name) -> None:
    files = [path for path in (EMBEDDED_WEIGHTS / name).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 6e6
    assert not [path for path in files if path.suffix in {".bin", ".pt", ".pkl"}]


@pytest.mark.parametrize("name", NAMES)
def test_card_states_accuracy_and_limits(name) -> None:
    card = (EMBEDDED_WEIGHTS / name / "README.md").read_text()
    for said in ("no evidence", "nothing was trained on pruned input", "| synth-digits |", "## Limits"):
        assert said in " ".join(card.split()) or said in card


@pytest.mark.parametrize("name", NAMES)
def test_full_tokens_answer_most_validation_questions(name) -> None:
    _, answer = load_answerer(name, EMBEDDED_WEIGHTS / name)
    rows = [row for kind in ("attribute", "digits") for row in documents(f"synth-{kind}", "validation", 8)]
    given = answer([(row["image"], row["question"]) for row in rows])
    right = sum(text == row["answers"][0] for text, row in zip(given, rows, strict=True))
    assert right / len(rows) >= LEAST[name]


def test_clip_folder_completes_the_vision_tower() -> None:
    """Together the two files hold a whole CLIP: nothing twice, nothing missing."""
    with safe_open(EMBEDDED_WEIGHTS / "hero-tiny" / "clip" / "model.safetensors", framework="pt") as clip:
        names = set(clip.keys())
    assert {"text_projection.weight", "visual_projection.weight", "logit_scale"} <= names
    assert not [name for name in names if name.startswith("vision_model.")]
    with safe_open(EMBEDDED_WEIGHTS / "hero-tiny" / "model.safetensors", framework="pt") as model:
        assert "vision_tower.vision_model.post_layernorm.weight" in set(model.keys())
