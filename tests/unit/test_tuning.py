"""What may be searched, on what, and what is refused before anything runs; presets as files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from hero_ray.benchmarks import get
from hero_ray.core import presets
from hero_ray.core.config import MethodEntry, build, parse_method
from hero_ray.core.encoded import VisionInfo
from hero_ray.core.errors import BudgetError, ConfigError, InputError, ParameterError, UnknownNameError
from hero_ray.pipeline.facts import make_plan
from hero_ray.pipeline.forecast import describe_plan
from hero_ray.studies.tuning import search, validation
from hero_ray.studies.tuning.search import Search, best, front, numbered
from hero_ray.studies.tuning.space import Choice, Range, Space, parse_space
from hero_ray.studies.tuning.tuner import Trial

HERO = MethodEntry(name="hero")
TOWER = VisionInfo(num_layers=24, feature_layer=23)


def space(text: str, budget: str = "0.2", entry: MethodEntry = HERO) -> Space:
    return parse_space(text, entry, budget)


def test_every_kind_of_dimension() -> None:
    found = space("alpha=0..1, temperature_cls=0.1..10:log,cls_source=post_ln|projected,tile_layers=[1,2]|[6]")
    assert found.dimensions == {
        "alpha": Range(0.0, 1.0),
        "temperature_cls": Range(0.1, 10.0, log=True),
        "cls_source": Choice(("post_ln", "projected")),
        "tile_layers": Choice(((1, 2), (6,))),
    }
    assert found.ratio == 0.2
    assert space("layer=5..23", entry=MethodEntry(name="fastervlm")).dimensions["layer"] == Range(5, 23, integer=True)
    assert space("density_weight=null|0.5").dimensions["density_weight"] == Choice((None, 0.5))


def test_the_budget_may_vary_too() -> None:
    assert space("alpha=0..1", "0.05..0.5").dimensions["budget"] == Range(0.05, 0.5)
    found = space("", "10%|0.2")
    assert found.dimensions == {"budget": Choice((0.1, 0.2))}
    entry, ratio = found.trial({"budget": 0.1})
    assert (entry.params, ratio) == ({}, 0.1)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("beta=0..1", ParameterError, r"hero has no parameter 'beta'.*alpha"),
        ("variant=exact|paper", ParameterError, "no parameter 'variant'"),
        ("alpha=0..2", ParameterError, "alpha = 2.0"),
        ("alpha=1..0", ParameterError, "range is empty"),
        ("alpha=0..1:log", ParameterError, "above 0"),
        ("alpha=0.5", ConfigError, "nothing to search"),
        ("alpha", ConfigError, "not PARAMETER=RANGE"),
        ("alpha=0..1,alpha=0..0.5", ConfigError, "give it once"),
        ("cls_source=0..1", ParameterError, "is no number"),
        ("cls_source=post_ln|pre_ln", ParameterError, "cls_source = 'pre_ln'"),
        ("", ConfigError, "nothing varies"),
    ],
)
def test_bad_spaces_are_refused_by_name(text: str, error: type[InputError], message: str) -> None:
    with pytest.raises(error, match=message):
        space(text)


def test_bad_bounds_of_whole_numbers_and_budgets() -> None:
    entry = MethodEntry(name="fastervlm")
    with pytest.raises(ParameterError, match="takes whole numbers"):
        space("layer=1.5..4", entry=entry)
    with pytest.raises(ParameterError, match="layer = 25"):
        space("layer=20..40", entry=entry)
    with pytest.raises(BudgetError, match="outside"):
        space("alpha=0..1", "0.5..1.5")
    with pytest.raises(ConfigError, match="not a token count"):
        space("alpha=0..1", "576tok")
    with pytest.raises(ConfigError, match="fixed or named already"):
        space("alpha=0..1", entry=MethodEntry(name="hero", params={"alpha": 0.5}))


def test_one_encoding_serves_every_trial() -> None:
    found = space("alpha=0..1,tile_layers=[1,2]|[6],cls_source=post_ln|projected")
    needs = found.needs(TOWER)
    assert needs.clip_score, "alpha = 1 alone would not capture it"
    assert {1, 2, 6, 22} <= needs.cls_attention
    assert {"post_ln", "projected"} <= needs.cls_embedding


def test_points_travel_as_plain_values() -> None:
    found = space("alpha=0..1,tile_layers=[1,2]|[6]", "0.1|0.2")
    values = {"alpha": 0.25, "tile_layers": (1, 2), "budget": 0.1}
    config = found.encoded(values)
    assert all(isinstance(value, str | int | float) for value in config.values())
    assert found.decoded(config) == values
    entry, ratio = found.trial(values)
    assert (entry.params, ratio) == ({"alpha": 0.25, "tile_layers": (1, 2)}, 0.1)
    assert found.decoded({**config, "alpha": 0.123456789})["alpha"] == 0.123457


def test_defaults_are_a_point_only_where_they_fit() -> None:
    assert space("alpha=0..1").default() == {"alpha": 0.5}
    assert space("alpha=0.6..1").default() is None
    assert space("cls_source=post_ln|projected").default() is None


def test_the_best_trial_and_the_front() -> None:
    trials = [
        Trial(0, {}, score=0.6, tokens=50),
        Trial(1, {}, score=0.8, tokens=90),
        Trial(2, {}, score=0.8, tokens=80),
        Trial(3, {}, error="out of memory"),
        Trial(4, {}, score=0.5, tokens=60),
    ]
    assert best(trials).number == 2
    assert front(trials) == {0, 2}
    assert numbered(trials, 4).score == 0.5
    for number in (3, 9):
        with pytest.raises(InputError, match=f"--export {number}.*0, 1, 2, 4"):
            numbered(trials, number)


def test_the_split_that_sweeps_report_on_is_refused() -> None:
    (found,) = validation.opened(["synth-exist"], {})
    assert validation.split_of(found) == "validation"
    with pytest.raises(ConfigError, match="'test', is what sweeps report on"):
        validation.opened(["synth-exist"], {"split": "test"})
    (forced,) = validation.opened(["synth-exist"], {"split": "test"}, on_reported_split=True)
    assert validation.is_reported(forced)
    assert validation.is_reported(get("textvqa_val"))
    assert not validation.is_reported(get("textvqa_val", split="train"))
    with pytest.raises(ConfigError, match="textvqa_val, split 'validation'"):
        validation.opened(["textvqa_val"], {})
    with pytest.raises(ConfigError, match="no benchmark"):
        validation.opened([], {})


def test_a_file_of_ones_own_is_nobodys_test_set(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    rows = tmp_path / "own.jsonl"
    rows.write_text(json.dumps({"image": "a.png", "question": "colour?", "answer": "black"}) + "\n", encoding="utf-8")
    (found,) = validation.opened([f"file:{rows}"], {})
    assert validation.split_of(found) == "file"


def asked(**more: object) -> Search:
    given = {"model": "hero-tiny", "method": {"name": "hero"}, "space": "alpha=0..1", "budget": "0.2"}
    return Search(**{**given, "tasks": ("synth-exist",), **more})  # type: ignore[arg-type]


def test_a_search_is_resumed_as_it_was_asked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to resume"):
        search.prepare(asked(), tmp_path, "mine", resume=True)
    search.prepare(asked(), tmp_path, "mine", resume=False)
    search.prepare(asked(), tmp_path, "mine", resume=True)
    with pytest.raises(ConfigError, match="give --resume"):
        search.prepare(asked(), tmp_path, "mine", resume=False)
    with pytest.raises(ConfigError, match=r"space was 'alpha=0\.\.1' and is 'alpha=0\.\.0\.5' now"):
        search.prepare(asked(space="alpha=0..0.5"), tmp_path, "mine", resume=True)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "configs" / "presets"


def test_a_preset_stands_for_its_method(folder: Path) -> None:
    written = presets.write(presets.Preset(method="hero", variant="paper", params={"alpha": 0.7}), "mine")
    assert written.resolve() == folder / "mine.yaml"
    expected = MethodEntry(name="hero", variant="paper", params={"alpha": 0.7})
    assert parse_method("preset:mine") == parse_method({"preset": "mine"}) == expected
    assert parse_method(f"preset:{folder / 'mine.yaml'}") == expected
    limited = parse_method({"preset": "mine", "budgets": ["10%"]})
    assert limited.budgets is not None
    assert limited.budgets[0].ratio == 0.1
    config = build({"methods": "hired,preset:mine", "tasks": "synth-exist"})
    assert config.methods[1] == expected
    assert "preset" not in json.dumps(config.model_dump(mode="json")["methods"])


@pytest.mark.parametrize("split", ["test", "validation"])
def test_a_sweep_says_that_it_scores_what_was_searched_on(folder: Path, split: str) -> None:
    searched = get("synth-exist", split=split)
    document = tuned_preset(splits={"synth-exist": split}, fingerprints={"synth-exist": searched.fingerprint()})
    presets.write(presets.Preset(method="hero", tuned=presets.Tuned(**document)), "mine")
    config = build({"methods": "hired,preset:mine", "tasks": "synth-exist,synth-count", "limit": 1})
    plan = make_plan(config)
    warned = "hero runs with a preset that was searched on the very rows of synth-exist scored here"
    assert [warned in line for line in plan.cautions] == ([True] if split == "test" else [])
    assert [warned in line for line in describe_plan(plan, "sqlite://").splitlines()].count(True) == len(plan.cautions)


def tuned_preset(**more: Any) -> dict[str, Any]:
    """What `tune` notes beside a preset's settings."""
    facts = {"model": "any", "revision": "1", "limit": None, "questions": 1, "pictures": 1, "on_reported_split": True}
    facts |= {"budget": 0.2, "budget_base": "real", "space": {}, "trials": 1, "seed": 0, "score": 0.5, "tokens": 60.0}
    facts |= {"default_score": 0.4, "difference": 0.1, "low": None, "high": None, "commit": None, "created": "today"}
    return facts | more


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "must hold a mapping"),
        ("method: [", "is not valid YAML"),
        ("variant: exact\n", "key `method`"),
        ("method: hero\nalpha: 1\n", "key `alpha`"),
        ("method: hero\ntuned: {model: x}\n", "key `tuned.revision`"),
    ],
)
def test_bad_presets_are_named(folder: Path, text: str, message: str) -> None:
    folder.mkdir(parents=True)
    (folder / "bad.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message) as caught:
        parse_method("preset:bad")
    assert "bad.yaml" in str(caught.value)


def test_an_unknown_preset_lists_those_there_are(folder: Path) -> None:
    presets.write(presets.Preset(method="hero"), "mine")
    with pytest.raises(UnknownNameError, match="mine"):
        parse_method("preset:mime")
    with pytest.raises(ConfigError, match="only `budgets` and `seeds`"):
        parse_method({"preset": "mine", "params": {"alpha": 1}})


def test_presets_of_this_repository_can_be_built() -> None:
    from hero_ray.methods import create

    for file in sorted((Path(__file__).resolve().parents[2] / "configs" / "presets").glob("*.yaml")):
        found = presets.load(str(file))
        create(found.method, variant=found.variant, **found.params)
        assert yaml.safe_load(file.read_text(encoding="utf-8"))["method"] == found.method
