"""The records of `hero_ray.core.types`, under the name that others import."""

from hero_ray.core.types import *  # noqa: F403
