"""Cell ids that commit c684a8b gave out are the ids of today: databases from then stay comparable and resumable.

Unless a method's answers changed on purpose, which `CHANGED_CODE` and `CHANGED_DEFAULTS` name one by one.
"""

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
CHANGED_CODE = {
    ("cdpruner", "exact"): 2,
    ("divprune", "exact"): 2,
    ("hired", "released"): 4,
    ("holov", "released"): 2,
    ("otprune", "exact"): 2,
}
"""Variants whose answers changed since: their cells differ in the code's version, 1 then, and in nothing else."""
CHANGED_DEFAULTS: dict[tuple[str, str], dict[str, Any]] = {
    ("ptp", "paper"): {"similarity": "minmax"},
    ("visionzip", "exact"): {"contextual_share": 10 / 64},
}
OLD_DEFAULTS = {"similarity": "raw", "contextual_share": 30 / 221}
"""Defaults that moved: what a file names stands as it did, and the old values are still there to be named."""
LOOSE = ("own-count", "per-picture")
"""Sweeps whose plan may shrink, or be refused by name, in a later version; the ids themselves must not change."""


@pytest.fixture(autouse=True)
def _in_the_fixture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FIXTURE)


def today(spec: dict[str, Any]) -> dict[str, Any]:
    """A stored cell as it is planned now."""
    method = dict(spec["method"])
    method["code"] = CHANGED_CODE.get((method["name"], method["variant"]), method["code"])
    moved = CHANGED_DEFAULTS.get((method["name"], method["variant"]), {})
    method["params"] = {
        key: moved[key] if key in moved and value == OLD_DEFAULTS[key] else value
        for key, value in method["params"].items()
    }
    return {**spec, "method": method}


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
    expected = [today(STORED["cells"][identity]) for identity in stored["cells"]]
    assert [cell.spec for cell in plan.cells] == expected
    assert [cell.id for cell in plan.cells] == [digest(spec) for spec in expected]
    # A resumed run knows its answers by these.
    assert digest(sorted(sample_id(sample) for sample in plan.samples)) == stored["samples"]
    if [cell.id for cell in plan.cells] == stored["cells"]:
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
