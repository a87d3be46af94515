"""The final table, whose Markdown has lmms-eval's form, with cost columns, and its notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from hero_ray.results.averages import straw_men
from hero_ray.results.axes import AXES
from hero_ray.results.contenders import Results
from hero_ray.results.marks import EARLY, Mark, mean_of, saved, unpruned
from hero_ray.results.names import EMBEDDED_NOTE, is_embedded
from hero_ray.results.report.figures import number, spread
from hero_ray.results.writer import Grid, grid
from hero_ray.store import CellRow, RunRow

COSTS = (
    ("Visual tokens", "tokens", 1.0, ".1f"),
    ("GFLOPs", "flops", 1e9, ".3f"),
    ("of it encode", "encode_flops", 1e9, ".3f"),
    ("KV KiB", "kv", 1024.0, ".1f"),
    ("TTFT ms", "ttft", 1.0, ".2f"),
    ("p95", "ttft_p95", 1.0, ".1f"),
    ("Decode tok/s", "decode", 1.0, ".0f"),
)


SAVED = {"tokens": "tokens", "flops": "GFLOPs", "kv": "KV", "ttft": "TTFT"}
"""Costs of the last column, which says how much of the unpruned model's is saved."""
NAMED = 6
"""Figures that a note names before it counts the rest."""


def table(found: Sequence[Mark], benchmarks: Sequence[str]) -> Grid:
    """One row per model, method setting and budget; scores x100 with the half width of their 95 % interval.

    Costs are means over benchmarks; speed comes from the profile pass. The last column is the share of the unpruned
    model's costs that is saved, in percent.
    """
    rows: dict[tuple[str, str, str], list[Mark]] = {}
    for mark in found:
        rows.setdefault((mark.model, mark.name.series, mark.name.budget), []).append(mark)
    full = unpruned(found)
    told = [f"Saved against full, %: {' / '.join(SAVED.values())}"] if full else []
    head = ["Model", "Method", "Budget", *benchmarks, *(title for title, *_ in COSTS), *told]
    lines = []
    for setting, group in rows.items():
        own = {mark.benchmark: mark for mark in group}
        costs = [_cost(group, axis, unit, form) for _, axis, unit, form in COSTS]
        less = [" / ".join(number(saved(group, full, AXES[name]), ".0f") for name in SAVED)] if told else []
        lines.append([*setting, *(_score(own.get(name)) for name in benchmarks), *costs, *less])
    return grid(head, lines, left=3)


def _score(mark: Mark | None) -> str:
    if mark is None:
        return "-"
    return f"{mark.value:.1f}{spread(mark.value, mark.low, mark.high)}{EARLY if mark.stopped else ''}"


def _cost(group: Sequence[Mark], axis: str, unit: float, form: str) -> str:
    value = mean_of((mark.costs[axis] for mark in group), some=True)
    return number(None if value is None else value / unit, form)


def notes(found: Sequence[Results], failures: Mapping[str, int]) -> list[str]:
    """What a reader of the table must know.

    Args:
        found: each model of the run.
    """
    lines = []
    marks = [mark for results in found for mark in results.marks()]
    if marks:
        least = min(mark.n for mark in marks)
        lines.append(
            "GFLOPs are those of a whole answer: encode (with what a method scores by), prefill and decode; "
            "pruning saves none of the encode."
        )
        lines.append(f"± is half a 95% interval clustered by picture; n >= {least} questions per figure.")
    for flag in dict.fromkeys(flag for mark in marks for flag in mark.flags if not flag.startswith("one-sided")):
        who = [f"{mark.name.key} on {mark.benchmark}" for mark in marks if flag in mark.flags]
        more = f" and {len(who) - NAMED} more" if len(who) > NAMED else ""
        lines.append(f"{flag[0].upper()}{flag[1:]}: {', '.join(who[:NAMED])}{more}.")
    if any(is_embedded(results.model) for results in found):
        lines.append(EMBEDDED_NOTE)
    stopped = [cell for results in found for cell in results.cells if cell.stop_reason]
    if stopped:
        lines.append(_decided(found[0].run, stopped, sum(len(results.cells) for results in found)))
    held = [(f"{item.name} ({results.model})", item) for results in found for item in straw_men(results)]
    if worse := [name for name, item in held if item.worse]:
        lines.append(f"Shown to be worse than a straw man on average: {', '.join(worse)}.")
    if open_ones := [name for name, item in held if item.flagged and not item.worse]:
        lines.append(f"Not shown to be better than the best straw man on average: {', '.join(open_ones)}.")
    for kind, count in failures.items():
        lines.append(f"{count} sample(s) failed with {kind}; see `hero-ray status --failures`.")
    return lines


def _decided(run: RunRow, stopped: Sequence[CellRow], cells: int) -> str:
    """What deciding early came to."""
    pictures = sorted(cell.stop_pictures for cell in stopped if cell.stop_pictures)
    middle = f" after {median(pictures):.0f} pictures in the middle" if pictures else ""
    saved, hours = run.saved_answers, run.saved_replica_s / 3600
    asked = sum(cell.n_expected for cell in stopped)
    share = f" ({100 * saved / asked:.0f}% of theirs)" if asked else ""
    time = f"{3600 * hours:.0f} s" if hours < 1 / 6 else f"{hours:.1f} hours"
    return (
        f"{EARLY} decided early{middle}: {len(stopped)} of {cells} cells; {saved} answers{share}, about {time} of one "
        "replica, were saved. Their intervals hold whenever one stops; averages over benchmarks do not correct for it."
    )
