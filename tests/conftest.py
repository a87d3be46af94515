"""Settings every test shares."""

from __future__ import annotations

import os
import secrets
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

# Before anything imports Ray, which reads them once: every Ray of a test run asks for this token.
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# A shell that runs the tests in the background has its children ignore Ctrl-C; drivers and services here must hear it.
signal.signal(signal.SIGINT, signal.default_int_handler)
ROOT = Path(__file__).resolve().parents[1]
# Test helpers and `perf` are imported by name, in this process and in Ray's workers.
for folder in (ROOT, ROOT / "tests", ROOT / "tests" / "integration"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))

from tests import tiers  # noqa: E402
from tests.demo import demo  # noqa: E402,F401


@pytest.fixture(scope="session")
def hub_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few rows of every benchmark in its hub's own layout, to be read."""
    from tests import hub_layouts

    return hub_layouts.write(tmp_path_factory.mktemp("hub"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    config.stash[tiers.COLLECTED] = list(items)
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: tiers.turn(item.nodeid.partition("::")[0]))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """`-m slow` reads no file without a slow test: two files in three have none."""
    only = config.option.markexpr == "slow" and collection_path.match("test_*.py")
    return True if only and not tiers.has_slow(collection_path) else None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """`--dist loadfile`: file by file, but one process for each of the lanes of `tiers`."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return tiers.scope(nodeid)

    return Scheduling(config, log)
