"""The papers' sweep files: all are there, valid, planned without weights or data, and forecast as their headers say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hero_ray.core.encoded import Encoded, Question
from hero_ray.core.errors import ConfigError
from hero_ray.methods import create
from hero_ray.methods.kit.conformance import internvl_layout
from hero_ray.methods.ptp import instruction_score
from hero_ray.pipeline.facts import make_plan
from hero_ray.pipeline.forecast import forecast
from hero_ray.studies import papers
from tests.method_vectors import half

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "paper"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def test_every_table_has_its_file() -> None:
    expected = {f"hero-table-{n}" for n in ("4-7b", "4-13b", "5", "6", "7", "8")} | {"hero-figure-5"}
    expected |= {f"hired-{n}" for n in ("accuracy", "efficiency", "alpha", "layers", "low-resolution")}
    expected |= {f"ptp-table-{n}" for n in ("1-2b", "1-8b", "2", "3", "4", "5")} | {"ptp-tables-6-7", "ptp-figure-6"}
    assert expected == set(NAMES) == {path.stem for path in (FOLDER / "offline").glob("*.yaml")}


@pytest.mark.parametrize("name", NAMES)
def test_a_paper_file_is_planned_and_its_header_holds(name: str) -> None:
    path = FOLDER / f"{name}.yaml"
    config, header = papers.load(path), papers.header(path)
    plan = make_plan(config, at_hand=False)
    assert config.name == name
    assert config.budget_base == "grid"  # the count the papers' budgets are a share of
    assert header.offline == f"configs/paper/offline/{name}.yaml"
    assert plan.cells
    assert header.hours == pytest.approx(sum(forecast(plan, model).hours for model in plan.models), rel=0.1)
    assert papers.header(path).table.split()[0].lower() == name.split("-")[0]


@pytest.mark.parametrize("name", NAMES)
def test_an_offline_variant_asks_the_same_of_the_embedded_model(name: str) -> None:
    full, offline = papers.load(FOLDER / f"{name}.yaml"), papers.load(FOLDER / "offline" / f"{name}.yaml")
    assert offline.name == f"{name}-offline"
    assert offline.methods == full.methods
    assert offline.budgets == full.budgets
    assert all(model.startswith("hero-tiny") for model in offline.models)
    assert all(task.name.startswith("synth-") for task in offline.tasks)
    limited = offline.model_copy(update={"limit": 2})
    plan = make_plan(limited, at_hand=False)
    assert sum(plan.expected.values()) == len(plan.cells) * 2


def test_a_header_without_its_lines_is_named(tmp_path: Path) -> None:
    bare = tmp_path / "bare.yaml"
    bare.write_text("# Table: X\n# Needs: nothing\nname: bare\n")
    with pytest.raises(ConfigError, match="Hours, Offline"):
        papers.header(bare)


def test_answers_and_encodes_of_a_forecast_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    path.write_text("models: [llava-next-7b]\nmethods: [full, hero]\nbudgets: [0.2]\ntasks: [pope]\nstraw_men: false\n")
    plan = make_plan(papers.load(path), at_hand=False)
    assert (len(plan.cells), sum(plan.expected.values()), plan.pictures) == (2, 18_000, 500)
    # HERO Eq. 7 at 5 * 576 + 64 tokens is about 42 TFLOP, at a fifth about 9: 9000 of each, and 500 encodes of 5 views.
    assert forecast(plan, plan.models[0]).petaflops == pytest.approx(9_000 * (42 + 9) / 1000, rel=0.1)


def ptp_image() -> Encoded:
    layout = internvl_layout((1, 2), (2, 2))
    cosines = torch.tensor([1.0, 0.9, 0.1], dtype=torch.float64)
    return Encoded(
        image_id="x",
        layout=layout,
        vision=papers_vision(),
        features=torch.zeros(3, 4, 2),
        cls_attention={9: torch.rand(3, 2, 4, generator=torch.Generator().manual_seed(0))},
        cls_embedding={"last_pre_ln": torch.stack([cosines, (1 - cosines**2).sqrt()], 1)},
        question=Question("?", llm_attention={2: torch.rand(2, 3, 3, 4, generator=torch.Generator().manual_seed(1))}),
    )


def papers_vision():  # type: ignore[no-untyped-def]
    from hero_ray.core.encoded import VisionInfo

    return VisionInfo(24, 23)


def test_ptp_without_regions_gives_every_tile_the_same() -> None:
    image = ptp_image()
    uniform = create("ptp", region_rule="uniform").select(image, half(image.layout))
    assert uniform.view_budgets is not None
    assert uniform.view_budgets[1] == uniform.view_budgets[2] == 2


def test_instruction_scores_by_mean_or_maximum() -> None:
    rows = torch.tensor([[[1.0, 0.0], [0.0, 4.0]]])  # [H, Q, N]
    assert instruction_score(rows).tolist() == [1.0, 4.0]
    assert instruction_score(rows, instruction_rule="mean").tolist() == [0.5, 2.0]
