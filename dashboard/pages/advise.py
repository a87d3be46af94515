"""Advise: the cheapest cell that loses no more than allowed, what is not proven yet and what is unsafe, and why."""

from __future__ import annotations

import streamlit as st

from dashboard import filters, loaders
from dashboard.loaders import plain
from hero_ray.core.errors import NotComparableError
from hero_ray.results import advice
from hero_ray.results.advice import Allowance, Candidate
from hero_ray.results.axes import AXES, Axis
from hero_ray.results.contenders import Results
from hero_ray.results.names import EMBEDDED_NOTE, FULL, is_embedded
from hero_ray.results.needs import about

UNITS = {"points": "points of 100", "share": "% of the unpruned score"}


def main() -> None:
    """What may be lost and what is to be saved; then the answer, and every cell with its reason."""
    st.title("Advise")
    runs = filters.pick_runs()
    ids = filters.ids(runs)
    if not loaders.load("marks", ids, None, None, ""):
        filters.nothing_measured(runs)
    found = [each for each in loaders.results(ids) if FULL in each.groups]
    if not found:
        st.info("These runs hold no unpruned cells, so there is nothing to measure a loss against.")
        st.stop()
    own = _model(found)
    allowance, axis, benchmarks = _question(own)
    asked = (allowance.amount, allowance.relative)
    try:
        candidates: list[Candidate] = loaders.load("advice", ids, own.model, asked, axis.name, benchmarks)
    except NotComparableError:
        st.info("No cell of these runs shares answered samples with the unpruned ones, so no loss can be told.")
        st.stop()
    for line in advice.nothing_to_lose(own, allowance, benchmarks):
        st.warning(plain(line))
    _answer(candidates, allowance, axis)
    _cells(candidates, axis, own)
    if is_embedded(own.model):
        st.caption(EMBEDDED_NOTE)


def _model(found: list[Results]) -> Results:
    models = [each.model for each in found]
    with st.sidebar:
        chosen = filters.choose("Model", models, "model_one") if len(models) > 1 else models[0]
    return found[models.index(chosen)]


def _question(own: Results) -> tuple[Allowance, Axis, tuple[str, ...]]:
    marks = own.marks()
    known = [key for key in AXES if any(mark.costs[key] is not None for mark in marks)]
    left, middle, right = st.columns([1, 1, 2])
    with left:
        amount = st.number_input(
            "Largest loss", 0.0, 99.0, 1.0, 0.5, key="loss", bind="query-params", help="On every benchmark chosen."
        )
    with middle:
        unit = filters.choose("in", list(UNITS), "unit", format_func=lambda key: UNITS[key])
    with right:
        benchmarks = filters.several("Benchmarks", list(own.benchmarks), "benchmarks")
    axis = AXES[filters.toggle("Cheap in", known or ["retention"], "cost", lambda key: AXES[key].short)]
    if not benchmarks:
        st.info("Choose at least one benchmark.")
        st.stop()
    return Allowance(float(amount), unit == "share"), axis, tuple(benchmarks)


def _answer(candidates: list[Candidate], allowance: Allowance, axis: Axis) -> None:
    best = advice.cheapest(candidates)
    if best is not None:
        verb = "gains" if axis.higher_is_cheaper else "saves"
        saved = "" if best.saved is None else f" and {verb} {best.saved:.0f} % of full's {axis.title}"
        st.success(f"**{plain(best.label)}** loses at most {allowance} on every benchmark chosen{saved}.")
        if caution := advice.standing(candidates):
            st.warning(plain(f"{caution[0].upper()}{caution[1:]}."))
        return
    st.warning(f"No cell is shown to stay within {allowance} on every benchmark chosen.")
    if blocking := advice.in_the_way(candidates):
        st.write(f"Nothing is shown to be safe on {', '.join(map(plain, blocking))}.")
    reachable = [(needed, c) for c in candidates if (needed := advice.pictures_needed(c)) is not None]
    if reachable:
        needed, nearest = min(reachable, key=lambda pair: pair[0])
        st.write(
            f"Nearest to an answer is {plain(nearest.label)}: {about(needed)} pictures of each benchmark "
            "would decide it, if its losses stay what they are."
        )


def _cells(candidates: list[Candidate], axis: Axis, own: Results) -> None:
    unit = own.unit(axis)
    groups = {
        "safe": "Safe: a larger loss is ruled out",
        "unproven": "Unproven: the pictures do not decide",
        "unsafe": "Unsafe: a larger loss is shown",
    }
    for verdict, title in groups.items():
        members = [item for item in candidates if item.verdict == verdict]
        st.header(f"{title} ({len(members)})", divider=False)
        if members:
            st.dataframe([_row(item, axis, unit) for item in members], hide_index=True)
    for line in advice.outlook(candidates):
        st.caption(plain(line.replace("`", "")))
    st.caption(
        "Losses are points of 100 against the unpruned model on the same samples. Bounds hold for all cells at once "
        "(95 %); verdicts are corrected over cells (Holm). Answers that are missing count against a cell."
    )


def _row(item: Candidate, axis: Axis, unit: tuple[float, str]) -> dict[str, object]:
    worst = item.worst
    needed = advice.pictures_needed(item)
    row: dict[str, object] = {
        "cell": item.label,
        f"{axis.short}, {unit[1]}" if unit[1] else axis.short: (
            None if item.cost is None else float(f"{item.cost / unit[0]:.4g}")
        ),
        "saved, %": None if item.saved is None else round(item.saved),
        "worst on": worst.benchmark,
        "loss there": round(100 * worst.value, 1),
        "at most": None if worst.at_most is None else round(100 * worst.at_most, 1),
        "what was seen": worst.seen,
    }
    if item.verdict == "unproven":
        row["pictures to decide"] = about(needed) if needed else "out of reach"
    if missing := sum(loss.missing for loss in item.losses):
        row["missing"] = missing
    return row


with loaders.guard():
    main()
