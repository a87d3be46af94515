"""docs/benchmarks.md says what the code does."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from hero_ray.benchmarks import get, get_class, judge, names, resolve
from hero_ray.benchmarks.dataset import DatasetBenchmark
from hero_ray.benchmarks.sources import DATA_FOLDER

PAGE = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text(encoding="utf-8")
TABLE = [line for line in PAGE.splitlines() if line.startswith("| `") and line.count("|") == 7]
ROWS = {name: line for line in TABLE for name in re.findall(r"`([\w-]+)`", line.split("|")[1])}


@pytest.mark.parametrize("name", names())
def test_every_benchmark_has_its_line(name: str) -> None:
    line = ROWS[name]
    benchmark = get(name)
    assert f"`{benchmark.main_metric}`" in line
    assert line.rstrip(" |").rsplit("| ", 1)[1].split() == list(get_class(name).flavours)
    if isinstance(benchmark, DatasetBenchmark):
        assert benchmark.source.ids[0] in line
        assert benchmark.source.rows is None or f"{benchmark.source.rows:,}" in line
        assert benchmark.scale == 1.0 or f"of {benchmark.scale:g}" in line
    for alias in filter(None, (part.strip() for part in line.split("|")[2].split(","))):
        assert resolve(alias) == name


def test_every_option_and_variable_is_named() -> None:
    options = set(inspect.signature(DatasetBenchmark).parameters) - {"flavour"}
    assert {option for option in options if f"{option}=" not in PAGE} == set()
    for variable in (DATA_FOLDER, judge.URL, judge.MODEL, judge.KEY, judge.CACHE):
        assert variable in PAGE
