"""The front door of `hero_ray.engine.vlm`, under the name that others import."""

from hero_ray.engine.vlm import *  # noqa: F403
