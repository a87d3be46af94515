"""The evaluator of `hero_ray.engine.evaluate`, under the name that others import."""

from hero_ray.engine.evaluate import *  # noqa: F403
