"""Cell ids that commit c684a8b gave out are the ids of today: databases from then stay comparable and resumable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from hero_ray.core.config import build
from hero_ray.core.errors import InputError
from hero_ray.core.plan import digest
from hero_ray.pipeline.facts import Plan, make_plan
from hero_ray.store import sample_id

FIXTURE = Path(__file__).parents[1] / "fixtures" / "c684a8b"
DOCUMENTS: dict[str, Any] = yaml.safe_load((FIXTURE / "plans.yaml").read_text(encoding="utf-8"))
STORED: dict[str, Any] = json.loads((FIXTURE / "cells.json").read_text(encoding="utf-8"))
LOOSE = ("own-count", "per-picture")
"""Sweeps whose plan may shrink, or be refused by name, in a later version; the ids themselves must not change."""


@pytest.fixture(autouse=True)
def _in_the_fixture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FIXTURE)


def planned(name: str) -> Plan:
    return make_plan(build(DOCUMENTS[name]))


def test_the_fixture_is_wide() -> None:
    content = STORED["cells"].values()
    assert len(content) >= 130
    assert len({spec["method"]["name"] for spec in content}) == 23
    assert {spec["method"]["variant"] for spec in content} == {"exact", "paper", "released", "v2"}
    assert {spec["model"]["name"] for spec in content} == {"hero-tiny", "hero-tiny-internvl"}
    assert {spec["budget"]["base"] for spec in content} == {"real", "grid"}


def test_an_id_is_the_hash_of_its_content() -> None:
    for identity, spec in STORED["cells"].items():
        assert digest(spec) == identity


@pytest.mark.parametrize("name", [name for name in DOCUMENTS if name not in LOOSE])
def test_a_sweep_has_the_cells_and_the_hash_it_had(name: str) -> None:
    plan, stored = planned(name), STORED["sweeps"][name]
    # Content first: where it differs, the message says in what; an id would only say that.
    assert [cell.spec for cell in plan.cells] == [STORED["cells"][identity] for identity in stored["cells"]]
    assert [cell.id for cell in plan.cells] == stored["cells"]
    # A resumed run knows its answers by these.
    assert digest(sorted(sample_id(sample) for sample in plan.samples)) == stored["samples"]
    assert plan.hash == stored["hash"], "an interrupted run of this sweep would no longer be found"


def test_methods_with_a_count_of_their_own_keep_an_id_they_had() -> None:
    """A plan may hold one cell of such a method instead of one per budget, never a new id for the same answers."""
    stored = STORED["sweeps"]["own-count"]["cells"]
    found = planned("own-count").cells
    assert {cell.id for cell in found} <= set(stored)

    def kinds(specs: list[dict[str, Any]]) -> set[str]:
        return {digest(spec["method"]) for spec in specs}

    assert kinds([dict(cell.spec) for cell in found]) == kinds([STORED["cells"][identity] for identity in stored])


def test_settings_of_our_own_keep_their_ids_or_are_refused_by_name() -> None:
    refusal, found = "", []
    try:
        found = planned("per-picture").cells
    except InputError as refused:
        refusal = str(refused)
    if refusal:
        assert "alpha" in refusal or "ratio" in refusal
    else:
        assert [cell.id for cell in found] == STORED["sweeps"]["per-picture"]["cells"]
