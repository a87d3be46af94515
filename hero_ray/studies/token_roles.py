"""HERO FigureTable II: what tokens of early layers ("primary") and of late layers ("shortcut") are good for.

In every view the tenth of the tokens with most CLS attention, averaged over a band of layers, is kept; nothing else.
The paper's bands are 4-8 and 12-23 of 24 layers and are mapped to shallower towers. `random` is ours, for scale.
"""

from __future__ import annotations

from hero_ray.core.encoded import Budget, Encoded, Needs, Selection, VisionInfo
from hero_ray.methods import create
from hero_ray.methods.kit.scores import caps, cls_attention, keep_top
from hero_ray.studies import asking
from hero_ray.studies.records import FigureTable, Study, StudyRequest, figures

NAME = "token-roles"
TASKS = ("synth-attribute", "synth-digits", "synth-words", "synth-scene")
BANDS = {"primary": tuple(range(4, 9)), "shortcut": tuple(range(12, 24))}
SHARE = 0.1


def needs(vision: VisionInfo) -> Needs:
    """CLS attention of both bands."""
    return Needs(cls_attention=frozenset(layer for band in BANDS.values() for layer in vision.scaled(band)))


def of_band(encoded: Encoded, band: tuple[int, ...], share: float = SHARE) -> Selection:
    """The `share` of every view's real tokens with most CLS attention in a band of a 24-layer tower."""
    scores = cls_attention(encoded, encoded.vision.scaled(band), NAME)
    counts = [max(1, round(share * real)) if real else 0 for real in caps(encoded.layout.valid)]
    return Selection(keep_top(scores, counts, encoded.layout.valid), scores=scores)


def settings(encoded: Encoded) -> dict[str, Selection]:
    """One selection per role, and as many tokens at random."""
    found = {role: of_band(encoded, band) for role, band in BANDS.items()}
    budget = Budget.of(encoded.layout, tokens=found["primary"].n_selected)
    return found | {"random": create("random").select(encoded, budget)}


def run(request: StudyRequest) -> Study:
    """Answer every question of `limit` pictures from the tokens of each role."""
    adapter = request.adapter
    outcomes = []
    for number, (image, asked) in enumerate(asking.pictures(asking.opened(request, TASKS), request.limit)):
        encoded = adapter.encode(adapter.prepare(image, str(number)), needs(adapter.vision))
        chosen = settings(encoded)
        for benchmark, sample in asked:
            outcomes += asking.ask(adapter, encoded, benchmark, sample, chosen)
    means = asking.means(outcomes, by_category=True)
    rows = tuple((name, category, role, *figures(item), item.n) for (role, name, category), item in means.items())
    bands = ", ".join(f"{role} {adapter.vision.scaled(band)}" for role, band in BANDS.items())
    note = (
        f"{SHARE:.0%} of every view's tokens, {adapter.info.name}; layers: {bands}. Intervals are 95 %, over pictures."
    )
    columns = ("benchmark", "category", "tokens", "score", "low", "high", "n")
    return Study(
        NAME,
        "Primary and shortcut tokens (HERO FigureTable II)",
        note,
        tables=(FigureTable("Mean score by where the tokens come from", columns, tuple(sorted(rows))),),
        findings={f"{role}/{name}": item.value for (role, name, category), item in means.items() if not category},
    )
