"""What crosses rooms is a value: nobody who is handed a record can change it for the others."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import pytest


def records(room: str) -> Iterator[type]:
    package = importlib.import_module(room)
    for found in pkgutil.walk_packages(package.__path__, f"{room}."):
        for _, kind in inspect.getmembers(importlib.import_module(found.name), inspect.isclass):
            if kind.__module__ == found.name and dataclasses.is_dataclass(kind):
                yield kind


@pytest.mark.parametrize("room", ["hero_ray.core", "hero_ray.methods", "hero_ray.stats"])
def test_records_cannot_be_changed(room: str) -> None:
    found = list(records(room))
    assert len(found) > 5
    assert [kind.__name__ for kind in found if not kind.__dataclass_params__.frozen] == []  # type: ignore[attr-defined]
