"""The tables behind the verbs and the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hero_ray.results.advice import Candidate
from hero_ray.results.averages import StrawMan
from hero_ray.results.axes import Axis, axis
from hero_ray.results.claims import Finding
from hero_ray.results.comparisons import Comparison
from hero_ray.results.frontiers import Frontier
from hero_ray.results.names import FULL
from hero_ray.results.report.figures import cost, number, p_value, points, span
from hero_ray.results.writer import Grid, grid
from hero_ray.stats import Interval, Split

Unit = tuple[float, str]
SAVED = "Saved against full, %"


def frontier(chart: Frontier, unit: Unit | None = None) -> Grid:
    """Cells of one chart, cheapest first, with their place.

    Args:
        unit: (factor, name) that costs are shown in; the axis's base unit if None.
    """
    costs = axis(chart.axis)
    factor, name = unit or costs.units[0]
    whole = next((entry.point.cost for entry in chart.placed if entry.point.label == FULL), None)
    head = ["Cell", costs.headed(name), SAVED, "Score", "95% interval", "State", "Beaten by", "P(frontier)", "Group"]
    rows = [
        (
            entry.point.label,
            cost(entry.point.cost / factor),
            number(costs.saved(entry.point.cost, whole), ".0f"),
            number(entry.point.value),
            span(entry.point.low, entry.point.high, 100.0),
            entry.state,
            entry.beaten_by or "",
            number(entry.p_frontier, ".2f"),
            entry.group if entry.group >= 0 else "",
        )
        for entry in chart.placed
    ]
    return grid(head, rows)


def comparisons(first: str, second: str, found: Sequence[Comparison]) -> Grid:
    """Paired comparisons, one line per benchmark; figures are those of the questions that both answered."""
    head = ["Benchmark", first, second, "A - B", "Interval", "Level", "Won/lost/tied", "n", "Pictures", "Answered",
            "Missing", "p", "p (Holm)", "p (BH)", "Detectable", "A is"]  # fmt: skip
    rows = []
    for item in found:
        result = item.paired
        unit = item.unit
        rows.append(
            (
                item.benchmark,
                points(result.mean_a, unit),
                points(result.mean_b, unit),
                number(item.points, "+.1f"),
                span(result.low, result.high, unit),
                f"{100 * item.level:.4g}%",
                f"{result.wins}/{result.losses}/{result.ties}",
                result.n,
                result.n_clusters,
                "{}/{}".format(*item.answered),
                "{}/{}".format(*item.missing),
                p_value(result.p_value),
                p_value(item.p_holm),
                p_value(item.p_bh),
                number(100 * item.detectable / unit),
                item.verdict,
            )
        )
    return grid(head, rows)


def findings(found: Sequence[Finding]) -> Grid:
    """What a claim came to, benchmark by benchmark; the gap is positive where the claim's side leads."""
    head = ["Where", "Left", "Right", "Gap to the claim", "90% interval", "n", "Pictures", "Missing", "p", "Verdict"]
    rows = [
        (
            item.where,
            points(item.left),
            points(item.right),
            number(100 * item.result.value, "+.1f"),
            span(item.result.low, item.result.high),
            item.result.n,
            item.result.n_clusters,
            "{}/{}".format(*item.missing),
            p_value(item.result.p_claim),
            item.verdict,
        )
        for item in found
    ]
    return grid(head, rows)


def advice(candidates: Sequence[Candidate], axis: Axis, unit: Unit) -> Grid:
    """Candidates, cheapest first, with the benchmark on which each loses most.

    Args:
        unit: (factor, name) that the cost is shown in.
    """
    head = [
        "Cell",
        "Verdict",
        axis.headed(unit[1]),
        SAVED,
        "Worst benchmark",
        "Loss there",
        "At most (95%, all cells)",
        "Missing",
        "p (Holm)",
        "Unsafe on",
    ]
    rows = []
    for item in candidates:
        worst = item.worst
        rows.append(
            (
                item.label,
                item.verdict,
                cost(None if item.cost is None else item.cost / unit[0]),
                number(item.saved, ".0f"),
                worst.benchmark,
                points(worst.value),
                points(worst.at_most),
                sum(loss.missing for loss in item.losses),
                p_value(item.p_holm),
                ", ".join(loss.benchmark for loss in item.losses if loss.verdict == "unsafe"),
            )
        )
    return grid(head, rows)


def straw_men(found: Sequence[StrawMan]) -> Grid:
    """Methods beside the straw man that is hardest to beat."""
    head = ["Cell", "Hardest straw man", "Mean difference", "90% interval", "p", "Note"]
    rows = [
        (
            item.label,
            item.rival,
            number(100 * item.result.value, "+.1f"),
            span(item.result.low, item.result.high),
            p_value(item.result.p_claim),
            "shown to be worse than a straw man" if item.worse else "not shown to be better" if item.flagged else "",
        )
        for item in found
    ]
    return grid(head, rows, left=2)


def difficulty(found: Mapping[str, Split]) -> Grid:
    """Scores on samples that a smaller picture solves, and on those that need more."""
    head = ["Cell", "Simple", "95% interval", "n", "Difficult", "95% interval", "n"]

    def half(interval: Interval | None) -> tuple[object, ...]:
        if interval is None:
            return "-", "-", 0
        return points(interval.value), span(interval.low, interval.high), interval.n

    return grid(head, [(label, *half(split.simple), *half(split.difficult)) for label, split in found.items()])


def unlike(answers: Sequence[Mapping[str, Any]]) -> Grid:
    """Stored answers that are not what the model says, with how near it was to saying it."""
    head = ["Cell", "Question", "Verdict", "Unlike", "Stored", "Now", "Logit margin", "Within rounding"]
    rows = [
        (
            one.get("cell") or one["cell_id"],
            one["sample_key"],
            one["verdict"],
            ", ".join(one["parts"]),
            one["was"][:60],
            one["now"][:60],
            number(one["margin"], ".3g"),
            "yes" if one["rounding"] else "",
        )
        for one in answers
    ]
    return grid(head, rows, left=6)


def untrue(found: Sequence[Mapping[str, Any]]) -> Grid:
    """What is stored and does not follow from the rows or the dataset it is said to come from."""
    head = ["Kind", "Cell", "Where", "Stored", "Expected"]
    rows = [
        (one["kind"], one.get("cell") or one["cell_id"], one["where"], one["stored"][:80], one["expected"][:80])
        for one in found
    ]
    return grid(head, rows, left=5)
