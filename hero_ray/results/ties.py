"""What a table may mark as best: the highest figure of a budget, and whatever a test does not tell apart from it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from hero_ray import stats
from hero_ray.core.errors import UnknownNameError
from hero_ray.results.averages import retained
from hero_ray.results.comparisons import ALPHA, compare_labels
from hero_ray.results.contenders import Results
from hero_ray.results.marks import Mark
from hero_ray.results.names import FULL

Below = Callable[[str, Sequence[str], str], Collection[str]]
"""(best, others, benchmark) -> those of the others that are shown to be worse, as `Ties.below` gives it."""
BOLD_NOTE = (
    "Bold: the best of a budget and all that the paired test does not tell apart from it (5 %, Holm over the budget)."
)


@dataclass(frozen=True)
class Ties:
    """The paired tests of `compare` for one model's table.

    Attributes:
        benchmarks: those that the averages are over; None for all of the run.
    """

    results: Results
    benchmarks: tuple[str, ...] | None = None

    def below(self, best: str, others: Sequence[str], benchmark: str) -> Collection[str]:
        """Which of `others` are shown to be worse than `best`, at 5 % over all of them.

        Args:
            best, others: keys of names.
            benchmark: "" for the average share of the unpruned score.
        """
        if not benchmark:
            return self._below_on_average(best, others)
        found = compare_labels(self.results, others, best, [benchmark])
        return {item.label for item in found if item.verdict == "worse"}

    def _below_on_average(self, best: str, others: Sequence[str]) -> Collection[str]:
        try:
            shares = {item.label: item.parts for item in retained(self.results, self.benchmarks)}
        except UnknownNameError:
            return ()
        held = [other for other in others if other in shares]
        tests = [stats.retention_difference(shares[best], shares[other]) for other in held if best in shares]
        p_values = stats.holm([min(1.0, 2 * test.p_claim) for test in tests])
        return {other for other, test, p in zip(held, tests, p_values, strict=False) if test.value > 0 and p < ALPHA}


def bold(
    rows: Mapping[str, Mapping[str, Mark]], columns: Sequence[str], average: str, below: Below
) -> set[tuple[str, str]]:
    """(key, column) of the highest figure of every budget and of all that are not shown to be below it.

    Args:
        rows: key of a name -> column -> mark.
        average: the column of the averages over benchmarks.
    """
    held: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for key, own in rows.items():
        for name in columns:
            if name in own and own[name].method != FULL:
                held[own[name].name.budget, name][key] = own[name].value
    best: set[tuple[str, str]] = set()
    for (_, name), values in held.items():
        if len(values) > 1:
            leader = max(values, key=lambda key: values[key])
            shown = below(leader, [key for key in values if key != leader], "" if name == average else name)
            best |= {(key, name) for key in values if key not in shown}
    return best
