"""HERO Figs. 8-9 and PTP Figs. 7-9: what CLS attends to by vision layer, and the question in the LLM."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from hero_ray.core.encoded import Encoded, Needs
from hero_ray.engine.cut import Picture
from hero_ray.methods.ptp import instruction_score
from hero_ray.studies import asking
from hero_ray.studies.drawing import over_picture, sheet
from hero_ray.studies.records import FigureTable, Study, StudyRequest

NAME = "attention-maps"
TASKS = ("synth-attribute",)
PTP_BLOCK = 2


def view_grid(encoded: Encoded, scores: Tensor) -> NDArray[np.float64]:
    """Token scores of the thumbnail as a grid: [V, N] -> [rows, columns]."""
    return scores[0].double().cpu().reshape(encoded.layout.side).numpy()


def entropy(weights: Tensor) -> float:
    """Entropy of a map as a share of the uniform map's: 1 looks everywhere, 0 at one token."""
    shares = weights.double() / weights.double().sum()
    return float(-(shares * shares.clamp(min=1e-12).log()).sum() / np.log(len(shares)))


def maps(encoded: Encoded) -> dict[str, NDArray[np.float64]]:
    """Caption -> thumbnail map: CLS of every vision layer, then the question's in the LLM's second block."""
    found = {
        f"CLS, layer {layer}": view_grid(encoded, encoded.cls_attention[layer].mean(1))
        for layer in sorted(encoded.cls_attention)
    }
    if encoded.question is not None and PTP_BLOCK in encoded.question.llm_attention:
        rows = encoded.question.llm_attention[PTP_BLOCK]
        found[f"question, LLM block {PTP_BLOCK}"] = view_grid(encoded, instruction_score(rows))
    return found


def run(request: StudyRequest) -> Study:
    """A sheet of maps for each of `limit` pictures, and the mean entropy of every layer's map."""
    adapter = request.adapter
    layers = frozenset(range(1, adapter.vision.num_layers + 1))
    needs = Needs(cls_attention=layers, llm_attention=frozenset({PTP_BLOCK}))
    pictures: dict[str, Image.Image] = {}
    spread: dict[str, list[float]] = {}
    for number, (image, asked) in enumerate(asking.pictures(asking.opened(request, TASKS), request.limit), start=1):
        benchmark, sample = asked[0]
        prompt = asking.prompt_of(adapter, benchmark, sample)
        found = maps(Picture(adapter, image, "", needs).asked(sample.question, prompt))
        for caption, grid in found.items():
            spread.setdefault(caption, []).append(entropy(torch.from_numpy(grid.reshape(-1).copy())))
        plain = ("picture", image.convert("RGB").resize((224, 224), Image.Resampling.BICUBIC))
        panels = [(caption, over_picture(image, grid)) for caption, grid in found.items()]
        pictures[f"{NAME}-{number}"] = sheet([plain, *panels], 7)
    rows = tuple((caption, round(float(np.mean(values)), 4)) for caption, values in spread.items())
    note = (
        f"Thumbnails of {len(pictures)} pictures, {adapter.info.name}, heads averaged, every map on its own scale. "
        "Entropy 1 is a map that looks everywhere alike."
    )
    return Study(
        NAME,
        "Attention maps (HERO Figs. 8-9, PTP Figs. 7-9)",
        note,
        tables=(FigureTable("Entropy of the maps, share of uniform", ("map", "entropy"), rows),),
        pictures=pictures,
        findings={"entropy": dict(rows)},
    )
