"""Train an embedded model from nothing: `python -m tools.tiny.train`.

Stages, each resumable: a stage whose checkpoint exists in the output folder is skipped. Scenes are drawn on the
fly and never repeat. Nothing is downloaded.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from tools.tiny import stage_tower
from tools.tiny.architecture import build_clip, build_llava_next
from tools.tiny.internvl import InternVLAnswerer, InternVLTowers, build_internvl
from tools.tiny.llava_next import ClipTowers, LlavaNextAnswerer
from tools.tiny.optimise import Progress
from tools.tiny.qwen import QwenAnswerer, QwenTower, build_qwen
from tools.tiny.stage_language import (
    CURRICULA,
    NATIVE_CURRICULA,
    Answerer,
    Curriculum,
    draw_scenes,
    train_language,
)
from tools.tiny.stage_native import train_native
from tools.tiny.stage_tower import TowerPair, train_tower
from tools.tiny.stages import STAGES

HALF_WAY = 200


@dataclass(frozen=True)
class Recipe:
    """How one embedded model is built and how long each stage runs."""

    towers: Callable[[], Any]
    answerer: Callable[[], Answerer]
    steps: dict[str, int]
    train_towers: Callable[[Any, str, int, int], Progress]
    """Function from what `towers` gives, a stage, steps and a seed."""
    curricula: Mapping[str, Curriculum] = field(default_factory=lambda: CURRICULA)
    """Of the language model's stages."""

    @property
    def last_tower(self) -> str:
        return "sharpen" if "sharpen" in self.steps else "tower"


def _by_captions(towers: TowerPair, stage: str, steps: int, seed: int) -> Progress:
    return train_tower(towers, stage_tower.CURRICULA[stage], steps, seed, typer.echo)


def _by_patches(tower: QwenTower, stage: str, steps: int, seed: int) -> Progress:
    return train_native(tower, steps, seed, typer.echo)


RECIPES = {
    "hero-tiny": Recipe(
        lambda: ClipTowers(build_clip()),
        lambda: LlavaNextAnswerer(build_llava_next()),
        {"tower": 1700, "tiles": 800, "reading": 500, "anyres": 700, "polish": 900},
        _by_captions,
    ),
    "hero-tiny-internvl": Recipe(
        InternVLTowers,
        lambda: InternVLAnswerer(build_internvl()),
        {"tower": 2000, "sharpen": 1200, "tiles": 800, "reading": 400, "anyres": 700, "polish": 900},
        _by_captions,
    ),
    "hero-tiny-qwen": Recipe(
        lambda: QwenTower(build_qwen().model.visual),
        lambda: QwenAnswerer(build_qwen()),
        {"tower": 450, "tiles": 450, "anyres": 500, "polish": 550},
        _by_patches,
        NATIVE_CURRICULA,
    ),
}


def train(
    model: Annotated[str, typer.Option(help="hero-tiny, hero-tiny-internvl or hero-tiny-qwen.")] = "hero-tiny",
    out: Annotated[Path | None, typer.Option(help="Folder for checkpoints; runs/MODEL by default.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights and scenes.")] = 1,
    stage: Annotated[
        str, typer.Option(help="Stop after this stage: tower, sharpen, tiles, reading, anyres or polish.")
    ] = STAGES[-1],
    steps: Annotated[int | None, typer.Option(help="Steps per stage instead of the recipe's.")] = None,
    threads: Annotated[int, typer.Option(help="CPU threads; more than one rarely helps.")] = 1,
) -> None:
    """Train MODEL and leave one checkpoint per stage in OUT."""
    if model not in RECIPES:
        raise typer.BadParameter(f"unknown model {model!r}; known: {', '.join(RECIPES)}")
    if stage not in STAGES:
        raise typer.BadParameter(f"unknown stage {stage!r}; known: {', '.join(STAGES)}")
    torch.set_num_threads(threads)
    out = out or Path("runs") / model
    out.mkdir(parents=True, exist_ok=True)
    recipe = RECIPES[model]
    for name in STAGES[: STAGES.index(stage) + 1]:
        if name not in recipe.steps:
            continue
        target = out / f"{name}.pt"
        if target.exists():
            typer.echo(f"{name}: {target} exists, skipped")
            continue
        progress = _RUN[name](recipe, out, seed, steps or recipe.steps[name])
        facts = progress.summary() | {"seed": seed, "torch": torch.__version__}
        target.with_suffix(".json").write_text(json.dumps(facts, indent=2) + "\n")
        typer.echo(f"{name}: done in {facts['wall_s']} s, saved {target}")


def _train_tower(recipe: Recipe, out: Path, seed: int, steps: int) -> Progress:
    torch.manual_seed(seed)
    return _train_towers(recipe, recipe.towers(), "tower", out, seed, steps)


def _sharpen_tower(recipe: Recipe, out: Path, seed: int, steps: int) -> Progress:
    towers = recipe.towers()
    towers.module.load_state_dict(torch.load(out / "tower.pt", weights_only=True))
    torch.manual_seed(seed)
    return _train_towers(recipe, towers, "sharpen", out, seed, steps)


def _train_towers(recipe: Recipe, towers: Any, stage: str, out: Path, seed: int, steps: int) -> Progress:
    progress = recipe.train_towers(towers, stage, steps, seed)
    torch.save(towers.module.state_dict(), out / f"{stage}.pt")
    return progress


def _train_tiles(recipe: Recipe, out: Path, seed: int, steps: int) -> Progress:
    torch.manual_seed(seed)
    answerer = recipe.answerer()
    answerer.adopt_tower(torch.load(out / f"{recipe.last_tower}.pt", weights_only=True))
    scenes = draw_scenes(np.random.default_rng([0, seed, 4]), (((128, 128), 1.0),), lambda width, height: 100)
    with torch.no_grad():
        features = answerer.features(scenes)
    torch.manual_seed(seed)
    answerer.initialise(scenes, features)
    return _train_language(recipe, answerer, "tiles", out, seed, steps)


def _continue(stage: str) -> Callable[[Recipe, Path, int, int], Progress]:
    """The stage that goes on where the one before it in the recipe ended."""

    def run(recipe: Recipe, out: Path, seed: int, steps: int) -> Progress:
        answerer, stages = recipe.answerer(), list(recipe.steps)
        before = stages[stages.index(stage) - 1]
        answerer.module.load_state_dict(torch.load(out / f"{before}.pt", weights_only=True))
        return _train_language(recipe, answerer, stage, out, seed, steps)

    return run


def _train_language(recipe: Recipe, answerer: Answerer, stage: str, out: Path, seed: int, steps: int) -> Progress:
    """One stage of projector and language model; a half-way state is left behind now and then."""
    curriculum = recipe.curricula[stage]

    def keep(step: int) -> None:
        if step % HALF_WAY == 0:
            torch.save(answerer.module.state_dict(), out / f"{stage}-unfinished.pt")

    progress = train_language(answerer, curriculum, steps, seed, typer.echo, keep)
    torch.save(answerer.module.state_dict(), out / f"{stage}.pt")
    return progress


_RUN: dict[str, Callable[[Recipe, Path, int, int], Progress]] = {
    "tower": _train_tower,
    "sharpen": _sharpen_tower,
    "tiles": _train_tiles,
    "reading": _continue("reading"),
    "anyres": _continue("anyres"),
    "polish": _continue("polish"),
}


if __name__ == "__main__":
    typer.run(train)
