"""The errors of `hero_ray.core.errors`, under the name that others import."""

from hero_ray.core.errors import *  # noqa: F403
