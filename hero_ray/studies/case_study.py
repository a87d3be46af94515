"""HERO Fig. 6 and PTP Fig. 4: the tokens every method keeps of a picture, side by side, with its answer."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image

from hero_ray.core.encoded import Budget, Needs, Selection
from hero_ray.engine.evaluate import check_selection
from hero_ray.methods import create
from hero_ray.methods.base import Method
from hero_ray.models.base import Request as Answer
from hero_ray.results.masks import Geometry, panels
from hero_ray.studies import asking
from hero_ray.studies.drawing import sheet
from hero_ray.studies.records import Request, Study, Table

NAME = "case-study"
TASKS = ("synth-words", "synth-attribute")
METHODS = ("random", "spatial", "fastervlm", "hired", "globalcom2", "prumerge", "ptp", "hero")
COLOUR = "#D55E00"


def comparable(names: tuple[str, ...]) -> dict[str, Method]:
    """Methods that choose tokens before the LLM; the others keep none to show."""
    found = {name: create(name) for name in names}
    return {name: method for name, method in found.items() if method.stage == "before-llm"}


def drawn(image: Image.Image, selection: Selection, geometry: Geometry, family: str) -> Image.Image:
    """The most detailed view of a selection: its tiles, or the only view."""
    mask = np.packbits(selection.keep.cpu().numpy().reshape(-1)).tobytes()
    picture = Image.open(BytesIO(panels(image, image.size, mask, geometry, family, COLOUR)[-1].png()))
    picture.thumbnail((300, 300))
    return picture.convert("RGB")


def _listed(references: object) -> list[object]:
    return list(references) if isinstance(references, list | tuple) else [references]


def run(request: Request) -> Study:
    """A sheet for the first question about each of `limit` pictures."""
    adapter = request.adapter
    methods = comparable(request.methods or METHODS)
    needs = Needs()
    for method in methods.values():
        needs = needs | method.needs(adapter.vision)
    pictures: dict[str, Image.Image] = {}
    rows = []
    for number, (image, asked) in enumerate(asking.pictures(asking.opened(request, TASKS), request.limit), start=1):
        benchmark, sample = asked[0]
        encoded = adapter.encode(adapter.prepare(image, sample.image_key), needs)
        encoded = asking.with_question(adapter, encoded, benchmark, sample, needs)
        budget = Budget.of(encoded.layout, ratio=request.ratio)
        chosen = {name: method.select(encoded, budget) for name, method in methods.items()}
        for name, selection in chosen.items():
            check_selection(selection, encoded, name)
        prompt = adapter.prompt(benchmark.prompt(sample, adapter.info.family), sample.question)
        limit = benchmark.max_new_tokens
        answers = adapter.generate(
            [Answer(prompt, adapter.assemble(encoded, s, "unpadded_rows"), limit) for s in chosen.values()]
        )
        geometry = (*encoded.layout.grid, *encoded.layout.side)
        tiles = []
        for (name, selection), answer in zip(chosen.items(), answers, strict=True):
            caption = f"{name} ({selection.n_selected}): {answer.text}"[:44]
            tiles.append((caption, drawn(image, selection, geometry, adapter.info.family)))
            rows.append((number, sample.question, str(sample.references), name, selection.n_selected, answer.text))
        heading = f"{sample.question} (answer: {', '.join(map(str, _listed(sample.references)))})"
        pictures[f"{NAME}-{number}"] = sheet(tiles, 4, heading)
    note = (
        f"{request.ratio:.0%} of the tokens, {adapter.info.name}; kept tokens are outlined, the count is in brackets. "
        "Single pictures show how methods differ, not which is better."
    )
    columns = ("picture", "question", "reference", "method", "tokens", "answer")
    return Study(
        NAME,
        "What each method keeps (HERO Fig. 6, PTP Fig. 4)",
        note,
        tables=(Table("Answers", columns, tuple(rows)),),
        pictures=pictures,
        findings={"methods": list(methods), "pictures": len(pictures)},
    )
