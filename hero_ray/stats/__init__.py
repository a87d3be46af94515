"""Statistics of sweeps as pure functions over arrays: intervals, paired tests, families, power, retention.

Nothing here knows a database. Samples are clustered by picture throughout.
"""

from hero_ray.stats.anytime import Stop, first_decision, interval_so_far, log_wealth, one_sided_so_far
from hero_ray.stats.families import any_of, benjamini_hochberg, both_ways, holm, holm_levels
from hero_ray.stats.intervals import (
    Interval,
    bootstrap,
    composite_interval,
    drawn_sums,
    mean_interval,
    standard_error,
)
from hero_ray.stats.of_sums import OfSums
from hero_ray.stats.paired import Paired, bounds, mcnemar, paired, paired_composite, shared
from hero_ray.stats.planning import Need, detectable, pictures_needed, predicted_power
from hero_ray.stats.retention import (
    CompositePart,
    Part,
    Split,
    difficulty_split,
    pooled_difference,
    retention_average,
    retention_difference,
)
from hero_ray.stats.verdicts import OneSided, decide, non_inferiority, one_sided, seen

__all__ = [
    "CompositePart",
    "Interval",
    "Need",
    "OfSums",
    "OneSided",
    "Paired",
    "Part",
    "Split",
    "Stop",
    "any_of",
    "benjamini_hochberg",
    "bootstrap",
    "both_ways",
    "bounds",
    "composite_interval",
    "decide",
    "detectable",
    "difficulty_split",
    "drawn_sums",
    "first_decision",
    "holm",
    "holm_levels",
    "interval_so_far",
    "log_wealth",
    "mcnemar",
    "mean_interval",
    "non_inferiority",
    "one_sided",
    "one_sided_so_far",
    "paired",
    "paired_composite",
    "pictures_needed",
    "pooled_difference",
    "predicted_power",
    "retention_average",
    "retention_difference",
    "seen",
    "shared",
    "standard_error",
]
