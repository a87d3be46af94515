"""Kept tokens drawn on pictures: the drawing lives in `hero_ray.results.masks`, which the HTTP service uses, too."""

from hero_ray.results.masks import EDGE, Geometry, Panel, edges, mosaic, paint, panels, token_edges, unpack

__all__ = ["EDGE", "Geometry", "Panel", "edges", "mosaic", "paint", "panels", "token_edges", "unpack"]
