"""Statistics of sweeps as pure functions over arrays: intervals, paired tests, families, power, retention.

Nothing here knows a database. Samples are clustered by picture throughout.
"""

from hero_ray.stats.families import benjamini_hochberg, holm
from hero_ray.stats.intervals import Interval, bootstrap, composite_interval, mean_interval, standard_error
from hero_ray.stats.paired import (
    OneSided,
    Paired,
    detectable,
    mcnemar,
    non_inferiority,
    one_sided,
    paired,
    paired_composite,
    predicted_power,
    shared,
)
from hero_ray.stats.retention import (
    CompositePart,
    Part,
    Split,
    difficulty_split,
    pooled_difference,
    retention_average,
    retention_difference,
)

__all__ = [
    "CompositePart",
    "Interval",
    "OneSided",
    "Paired",
    "Part",
    "Split",
    "benjamini_hochberg",
    "bootstrap",
    "composite_interval",
    "detectable",
    "difficulty_split",
    "holm",
    "mcnemar",
    "mean_interval",
    "non_inferiority",
    "one_sided",
    "paired",
    "paired_composite",
    "pooled_difference",
    "predicted_power",
    "retention_average",
    "retention_difference",
    "shared",
    "standard_error",
]
