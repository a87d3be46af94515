"""Questions about the cells of runs, answered on the samples they share: which is better, and what is it worth?

A contender is written `METHOD[:KEY=VALUE,...][@BUDGET]`: `hero@20%`, or `hero:alpha=0.7,variant=paper@576tok`. It means
every cell that fits; several seeds count as one contender whose score on a sample is their mean.
"""

from hero_ray.results.contenders import FULL, Contender, Results, parse_contender
from hero_ray.results.pairs import (
    Comparison,
    Retained,
    StrawMan,
    compare,
    compare_labels,
    difficulty,
    retained,
    straw_men,
)

__all__ = [
    "FULL",
    "Comparison",
    "Contender",
    "Results",
    "Retained",
    "StrawMan",
    "compare",
    "compare_labels",
    "difficulty",
    "parse_contender",
    "retained",
    "straw_men",
]
