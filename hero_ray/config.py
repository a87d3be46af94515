"""The sweep file of `hero_ray.core.config`, under the name that others import."""

from hero_ray.core.config import *  # noqa: F403
