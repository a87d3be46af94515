"""Results to and from other tools' files (`hero_ray.results.exchange`), under the name that others import."""

from hero_ray.results.exchange import *  # noqa: F403
