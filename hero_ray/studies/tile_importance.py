"""HERO FigureTable I: does the tile that a score ranks first carry the answer?

The question is answered from the thumbnail and one tile, the k-th by CLIP score with the question or by CLS similarity
to the thumbnail; k = 0 is the thumbnail alone. Every rank is asked on the same questions: those whose picture has as
many tiles as the highest rank.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hero_ray.core.encoded import Encoded, Needs, Selection
from hero_ray.core.errors import InputError
from hero_ray.core.layout import Layout
from hero_ray.engine.cut import Picture
from hero_ray.methods.kit.scores import cosine_to_thumbnail
from hero_ray.studies import asking
from hero_ray.studies.records import FigureTable, Study, StudyRequest, curve, figures, lines

NAME = "tile-importance"
TASKS = ("synth-attribute", "synth-digits", "synth-words", "synth-exist")
RANKS = 4
CLIP, CLS = "CLIP score", "CLS similarity"
NEEDS = Needs(cls_embedding=frozenset({"last_pre_ln"}), clip_score=True)


def rank_tiles(scores: Tensor) -> list[int]:
    """Tiles 0..K-1 by falling score [K], ties to the earlier tile."""
    return scores.argsort(descending=True, stable=True).tolist()


def with_tile(layout: Layout, tile: int | None) -> Selection:
    """The whole thumbnail and, unless None, one whole tile."""
    keep = torch.zeros_like(layout.valid)
    keep[0] = layout.valid[0]
    if tile is not None:
        keep[1 + tile] = layout.valid[1 + tile]
    return Selection(keep)


def tile_scores(encoded: Encoded) -> dict[str, Tensor]:
    """Ranking -> [K] scores; the CLIP score is missing where the model has no text tower."""
    scores = {CLS: cosine_to_thumbnail(encoded.cls_embedding["last_pre_ln"])}
    if encoded.question is not None and encoded.question.clip_score is not None:
        scores[CLIP] = encoded.question.clip_score[1:]
    return scores


def settings(encoded: Encoded, ranks: int = RANKS) -> dict[str, Selection]:
    """`none`, then `RANKING k` for every ranking and k = 1..ranks."""
    found = {"none": with_tile(encoded.layout, None)}
    for ranking, scores in tile_scores(encoded).items():
        for k, tile in enumerate(rank_tiles(scores)[:ranks], start=1):
            found[f"{ranking} {k}"] = with_tile(encoded.layout, tile)
    return found


def run(request: StudyRequest) -> Study:
    """Answer every question of `limit` pictures once per setting."""
    adapter = request.adapter
    outcomes, left_out = [], 0
    for image, asked in asking.pictures(asking.opened(request, TASKS), request.limit):
        picture = Picture(adapter, image, "", NEEDS)
        if picture.layout.num_tiles < RANKS:
            left_out += 1
            continue
        for benchmark, sample in asked:
            seen = picture.asked(sample.question, asking.prompt_of(adapter, benchmark, sample))
            outcomes += asking.ask(adapter, seen, benchmark, sample, settings(seen))
    if not outcomes:
        raise InputError(f"no picture of {left_out} has {RANKS} tiles; give more with --limit, or a tiled model")
    return _study(request, outcomes, left_out)


def _study(request: StudyRequest, outcomes: list[asking.AskedOutcome], left_out: int) -> Study:
    means = asking.means(outcomes)
    names = list(dict.fromkeys(outcome.sample.benchmark for outcome in outcomes))
    rankings = [r for r in (CLIP, CLS) if any(outcome.setting.startswith(r) for outcome in outcomes)]
    charts, rows = [], []
    for name in names:
        rows.append((name, "thumbnail only", 0, *figures(means["none", name, ""]), means["none", name, ""].n))
        series = []
        for ranking in rankings:
            found = [means[f"{ranking} {k}", name, ""] for k in range(1, RANKS + 1)]
            series.append(curve(ranking, range(RANKS + 1), [means["none", name, ""], *found]))
            rows += [(name, ranking, k, *figures(item), item.n) for k, item in enumerate(found, start=1)]
        charts.append(lines(name, series, "rank of the single tile shown (0: thumbnail alone)", "mean score"))
    note = (
        f"Answers of {request.adapter.info.name} from the thumbnail and one tile; {left_out} pictures with fewer than "
        f"{RANKS} tiles left out. Intervals are 95 %, over pictures."
    )
    columns = ("benchmark", "ranking", "rank", "score", "low", "high", "n")
    return Study(
        NAME,
        "Which tile carries the answer (HERO FigureTable I)",
        note,
        charts=tuple(charts),
        tables=(FigureTable("Mean score by the rank of the tile shown", columns, tuple(rows)),),
        findings={"left_out": left_out, "rankings": rankings, "rows": len(rows)},
    )
