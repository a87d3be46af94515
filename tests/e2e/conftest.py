"""The package, built once and installed once for all tests of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import installed
from tests.installed import Installed


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed.build("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def user(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Whoever installed the wheel."""
    return installed.install(wheel, tmp_path_factory.mktemp("outside") / "work")
