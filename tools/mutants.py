"""Do the tests notice? Random mutants of a file, made by cosmic-ray's operators, against the tests of that file.

pip install --target SOMEWHERE --no-deps cosmic-ray parso stevedore
PYTHONPATH=SOMEWHERE python -m tools.mutants [--count 40] [--seed 1] [FILE ...]

Files and their tests are in `TESTS`. A mutant is tested in a fork of one process that has the libraries but nothing of
hero_ray loaded, and never touches the disk. Annotations are left alone: nothing reads them when the code runs.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import difflib
import gc
import importlib
import importlib.machinery
import os
import random
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REST = ("contract/test_records", "unit/test_stats", "unit/test_stats_families", "unit/test_stats_evidence")
TESTS = {
    "core/plan.py": ("unit/test_plan", "contract/test_records"),
    "core/encoded.py": ("unit/test_encoded", "contract/test_records"),
    "stats/evidence.py": ("unit/test_stats_exact", "unit/test_stats_pairs", *REST),
    "stats/verdicts.py": ("unit/test_stats_exact", *REST),
    "stats/clusters.py": ("unit/test_stats_pairs", *REST),
    "stats/intervals.py": ("unit/test_stats_pairs", "unit/test_stats_composites", "unit/test_stats_exact", *REST),
    "stats/paired.py": ("unit/test_stats_pairs", "unit/test_stats_composites", *REST),
    "stats/of_sums.py": ("unit/test_benchmarks_tally",),
    "stats/families.py": ("unit/test_stats_decisions", *REST),
    "stats/planning.py": ("unit/test_stats_decisions", *REST),
    "stats/retention.py": ("unit/test_stats_retention", *REST),
    "stats/anytime.py": ("unit/test_stats_decisions", *REST),
    "stats/frontier.py": ("unit/test_stats_decisions", "unit/test_frontier", *REST),
    "stats/crossing.py": ("unit/test_crossing", "contract/test_records"),
    "methods/hero.py": ("unit/test_methods_exact", "unit/test_methods_early", "contract/test_records"),
    "methods/hired.py": ("unit/test_methods_exact", "unit/test_methods_early", "contract/test_records"),
    "methods/ptp.py": ("unit/test_methods_ptp", "unit/test_methods_tiles", "contract/test_records"),
}
"""Test files by file of hero_ray, the one that fails soonest first."""
LIBRARIES = (
    "_hypothesis_pytestplugin", "hypothesis.strategies", "numpy", "pydantic", "pytest_timeout", "scipy.stats",
    "statsmodels.api", "statsmodels.stats.multitest", "statsmodels.stats.proportion", "torch", "xdist.scheduler",
    "yaml",
)  # fmt: skip
OPTIONS = (
    "-x", "-q", "--assert=plain", "--hypothesis-seed=0", "-m", "not slow", "-p", "no:cacheprovider",
    "-p", "_hypothesis_pytestplugin", "-p", "pytest_timeout",
)  # fmt: skip
SECONDS = 20
"""Processor time after which a mutant counts as hanging, and so as noticed."""


def annotated(source: str) -> set[tuple[int, int]]:
    """Positions (line, column) that lie inside annotations."""
    found: set[tuple[int, int]] = set()
    for node in ast.walk(ast.parse(source)):
        for part in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if isinstance(part, ast.expr):
                assert part.end_lineno is not None
                assert part.end_col_offset is not None
                for line in range(part.lineno, part.end_lineno + 1):
                    first = part.col_offset if line == part.lineno else 0
                    last = part.end_col_offset if line == part.end_lineno else 200
                    found |= {(line, column) for column in range(first, last)}
    return found


def mutants(source: str, count: int, seed: int) -> Iterator[tuple[str, str]]:
    """(operator, mutated source) of `count` mutants: a random change at random places, all places before any twice."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.operators.provider import OperatorProvider

    provider, skipped = OperatorProvider(), annotated(source)
    places: dict[tuple[Any, str], list[tuple[str, int]]] = {}
    nodes = list(ast_nodes(get_ast(source)))
    for name in provider:
        if not name.startswith("Variable"):
            operator = provider[name]()
            spots = [spot for node in nodes for spot in operator.mutation_positions(node)]
            for occurrence, spot in enumerate(spots):
                if spot[0] not in skipped:
                    places.setdefault((spot, name.split("_")[0]), []).append((name, occurrence))
    rng = random.Random(seed)
    chosen = [rng.choice(places[place]) for place in rng.sample(sorted(places), len(places))]
    others = sorted({change for changes in places.values() for change in changes} - set(chosen))
    for name, occurrence in [*chosen, *rng.sample(others, len(others))][:count]:
        yield name, mutate_code(source, provider[name](), occurrence)


def _load_instead(file: Path, text: str) -> None:
    """Have the import of `file` find other text than what lies on disk."""
    usual = importlib.machinery.SourceFileLoader.get_code

    def get_code(self: importlib.machinery.SourceFileLoader, fullname: str) -> Any:
        if self.path == str(file.resolve()):
            return compile(text, self.path, "exec", dont_inherit=True)
        return usual(self, fullname)

    importlib.machinery.SourceFileLoader.get_code = get_code  # type: ignore[assignment,method-assign]


def passes(file: Path, text: str, tests: list[str]) -> bool:
    """Whether the tests pass with `text` in the place of `file`."""
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(Exception):
            resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            _load_instead(file, text)
            code = int(pytest.main([*OPTIONS, tests[0]])) or int(pytest.main([*OPTIONS, *tests[1:]]))
        os._exit(code)
    _, status = os.waitpid(child, 0)
    return status == 0


def main() -> None:
    """Test mutants of the files asked for, all of them by default; prints the survivors and a count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", default=list(TESTS))
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, nargs="+", help="numbers of the mutants to test, of one file's")
    given = parser.parse_args()
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    for library in LIBRARIES:
        importlib.import_module(library)
    gc.freeze()  # pytest collects garbage at its end; what is loaded here is none
    for name in given.files:
        file = Path("hero_ray") / name
        source, tests = file.read_text(encoding="utf-8"), [f"tests/{test}.py" for test in TESTS[name]]
        if not passes(file, source, tests):
            sys.exit(f"the tests of {name} fail without any mutant: {' '.join(tests)}")
        tried = killed = 0
        for number, (operator, text) in enumerate(mutants(source, given.count, given.seed), start=1):
            if given.only and number not in given.only:
                continue
            tried += 1
            if passes(file, text, tests):
                changed = list(difflib.unified_diff(source.splitlines(), text.splitlines(), n=0))[2:]
                print(f"{name} survivor {number}: {operator}", *changed, sep="\n", flush=True)
            else:
                killed += 1
        print(f"{name}: {tried} mutants, {killed} killed", flush=True)


if __name__ == "__main__":
    main()
