"""Synthetic high-resolution visual question answering: scenes, questions and ground truth made on the fly."""

from hero_ray.benchmarks.synthetic.documents import documents

__all__ = ["documents"]
