"""Train the embedded model from nothing: `python -m hero_ray.tiny.train`.

Three stages, each resumable: a stage whose checkpoint exists in the output folder is skipped. Scenes are drawn on the
fly and never repeat. Nothing is downloaded.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from hero_ray.tiny.architecture import build_clip, build_llava_next
from hero_ray.tiny.llava_next import ClipTowers, LlavaNextAnswerer, adopt_tower, initialise_language
from hero_ray.tiny.optimise import Progress
from hero_ray.tiny.stage_language import (
    ANYRES_QUESTIONS,
    CANVASES,
    TILE_CANVASES,
    TILE_QUESTIONS,
    draw_scenes,
    scenes_per_step,
    tiles_per_step,
    train_language,
)
from hero_ray.tiny.stage_tower import train_tower
from hero_ray.tiny.views import anyres_views

STEPS = {"tower": 1700, "tiles": 1300, "anyres": 2200}
PEAKS = {"tiles": 2e-3, "anyres": 1.6e-3}
HALF_WAY = 200


def train(
    out: Annotated[Path, typer.Option(help="Folder for checkpoints.")] = Path("runs/hero-tiny"),
    seed: Annotated[int, typer.Option(help="Seed of weights and scenes.")] = 1,
    stage: Annotated[str, typer.Option(help="Stop after this stage: tower, tiles or anyres.")] = "anyres",
    steps: Annotated[int | None, typer.Option(help="Steps per stage instead of the recipe's.")] = None,
    threads: Annotated[int, typer.Option(help="CPU threads; more than one rarely helps.")] = 1,
) -> None:
    """Train hero-tiny and leave one checkpoint per stage in OUT."""
    if stage not in STEPS:
        raise typer.BadParameter(f"unknown stage {stage!r}; known: {', '.join(STEPS)}")
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    for name in STEPS:
        target = out / f"{name}.pt"
        if target.exists():
            typer.echo(f"{name}: {target} exists, skipped")
        else:
            progress = _STAGES[name](out, seed, steps or STEPS[name])
            facts = progress.summary() | {"seed": seed, "torch": torch.__version__}
            target.with_suffix(".json").write_text(json.dumps(facts, indent=2) + "\n")
            typer.echo(f"{name}: done in {facts['wall_s']} s, saved {target}")
        if name == stage:
            break


def _train_tower(out: Path, seed: int, steps: int) -> Progress:
    torch.manual_seed(seed)
    clip = build_clip()
    progress = train_tower(ClipTowers(clip), anyres_views, steps, seed, typer.echo)
    torch.save(clip.state_dict(), out / "tower.pt")
    return progress


def _train_tiles(out: Path, seed: int, steps: int) -> Progress:
    torch.manual_seed(seed)
    clip, model = build_clip(), build_llava_next()
    clip.load_state_dict(torch.load(out / "tower.pt", weights_only=True))
    adopt_tower(model, clip)
    answerer = LlavaNextAnswerer(model)
    scenes = draw_scenes(np.random.default_rng([0, seed, 4]), (((128, 128), 1.0),), lambda width, height: 40)
    with torch.no_grad():
        features = answerer.features(scenes)
    initialise_language(answerer, features, seed)
    progress = train_language(
        answerer,
        "tiles",
        steps,
        seed,
        PEAKS["tiles"],
        TILE_CANVASES,
        TILE_QUESTIONS,
        tiles_per_step,
        typer.echo,
    )
    torch.save(model.state_dict(), out / "tiles.pt")
    return progress


def _train_anyres(out: Path, seed: int, steps: int) -> Progress:
    model = build_llava_next()
    model.load_state_dict(torch.load(out / "tiles.pt", weights_only=True))
    answerer = LlavaNextAnswerer(model)

    def keep(step: int) -> None:
        if step % HALF_WAY == 0:
            torch.save(model.state_dict(), out / "anyres-unfinished.pt")

    progress = train_language(
        answerer,
        "anyres",
        steps,
        seed,
        PEAKS["anyres"],
        CANVASES,
        ANYRES_QUESTIONS,
        scenes_per_step,
        typer.echo,
        keep,
    )
    torch.save(model.state_dict(), out / "anyres.pt")
    return progress


_STAGES: dict[str, Callable[[Path, int, int], Progress]] = {
    "tower": _train_tower,
    "tiles": _train_tiles,
    "anyres": _train_anyres,
}


if __name__ == "__main__":
    typer.run(train)
