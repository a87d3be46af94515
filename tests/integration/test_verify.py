"""Stored answers asked again: a true run is bit-equal, every forgery is found, and what cannot be asked is named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from scipy.stats import hypergeom
from sqlalchemy import text
from typer.testing import CliRunner

from hero_ray.cli import app, load_verbs
from hero_ray.core.errors import InputError
from hero_ray.core.plan import Unit
from hero_ray.nightly import run as nightly
from hero_ray.nightly.records import NightVerdict
from hero_ray.pipeline.facts import Plan
from hero_ray.pipeline.verify import Draw, verify
from hero_ray.results import truth
from hero_ray.results.close import close_cells
from hero_ray.store import Store, maintenance, open_store, runs, schema, verifications
from hero_ray.store.merging import merge
from tests.answered import answered, small_sweep
from tests.forgeries import KINDS, Forgery, plant

RUN = "small-1"


@pytest.fixture(scope="module")
def plan() -> Plan:
    return small_sweep(images=8)


@pytest.fixture(scope="module")
def finished(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A true run; tests work on copies."""
    path = tmp_path_factory.mktemp("run") / "true.db"
    with open_store(str(path)) as store:
        answered(store, plan, RUN)
        maintenance.backup(store, path.with_name("copy.db"))
    return path.with_name("copy.db")


@pytest.fixture
def store(finished: Path, tmp_path: Path) -> Iterator[Store]:
    path = tmp_path / "results.db"
    path.write_bytes(finished.read_bytes())
    with open_store(str(path)) as opened:
        yield opened


def found(row: verifications.VerificationRow) -> set[Forgery]:
    """Everything a verification names, in the words of a forgery."""
    named = {Forgery(part, one["cell_id"], one["sample_key"]) for one in row.report["unlike"] for part in one["parts"]}
    return named | {Forgery(one["kind"], one["cell_id"], one["where"]) for one in row.report["untrue"]}


@pytest.mark.slow
def test_a_true_run_is_bit_equal_and_marked(store: Store) -> None:
    row = verify(store, RUN, 1.0)
    assert (row.verdict, row.drawn, row.differs, row.unasked, row.recounted) == ("bit-equal", 8, 0, 0, 0)
    assert row.bit_equal == row.answers == sum(store.totals(RUN))
    assert [each.id for each in store.read(verifications.of_run, RUN)] == [row.id]
    assert store.read(verifications.newest) == {RUN: "bit-equal"}
    assert row.content == store.read(verifications.content, RUN, [cell.id for cell in store.cells(RUN)])


@pytest.mark.slow
def test_twenty_forgeries_of_six_kinds_are_all_found(store: Store, plan: Plan) -> None:
    planted = plant(store, plan, RUN, 20)
    assert len(planted) == 20
    assert {one.kind for one in planted} == set(KINDS)
    row = verify(store, RUN, 1.0)
    assert row.verdict == "differs"
    assert [one for one in planted if one not in found(row)] == []
    texts = {(one.cell, one.key) for one in planted if one.kind == "text"}
    margins = [one["margin"] for one in row.report["unlike"] if (one["cell_id"], one["sample_key"]) in texts]
    assert len(margins) == len(texts)
    assert all(margin is not None and margin > 0 for margin in margins)


@pytest.mark.slow
def test_what_needs_no_model_is_found_at_any_fraction(store: Store, plan: Plan) -> None:
    planted = [one for one in plant(store, plan, RUN, 12) if one.kind in ("score", "sample", "metric")]
    row = verify(store, RUN, 0.01, seed="one")
    assert row.drawn == 1
    assert [one for one in planted if one not in found(row)] == []


@pytest.mark.slow
def test_answers_left_out_are_counted(store: Store, plan: Plan) -> None:
    """The wrong answers of one cell removed, its figures and counters made anew: the score is 100 and a lie."""
    cell = store.cells(RUN)[1]
    gone = text(
        "delete from outcomes where cell in (select number from cell_numbers where cell_id = :id) and score < 1"
    )
    assert store.transaction(lambda c: c.execute(gone, {"id": cell.id}).rowcount) > 0
    close_cells(store, RUN, plan.cells, plan.benchmarks)
    row = verify(store, RUN, 0.01, seed="one")
    assert [(one["kind"], one["where"]) for one in row.report["untrue"]] == [("count", "questions")]
    assert row.verdict == "differs"


def test_a_seed_draws_the_same_pictures_and_none_draws_others() -> None:
    units = [Unit(str(number), str(number), ()) for number in range(100)]
    draws = [Draw.of_run(units, 0.295, seed) for seed in ("same", "same", None, None)]
    assert draws[0] == draws[1]
    assert len(draws[0].drawn) == 30
    assert len({draw.seed for draw in draws}) == 3
    assert len(Draw.of_run(units, 0.0001, None).drawn) == 1
    with pytest.raises(InputError, match="not in"):
        Draw.of_run(units, 1.5, None)


@pytest.mark.slow
def test_another_machine_may_move_masks_and_no_more(store: Store, plan: Plan) -> None:
    plant(store, plan, RUN, 3)  # a text, a score, a mask
    before = verify(store, RUN, 1.0)
    assert (before.differs, before.equal_text) == (3, 0)
    store.add_environment(RUN, "packages", {"torch": "1.0"})
    after = verify(store, RUN, 1.0)
    assert (after.differs, after.equal_text) == (2, 1)
    assert [one["parts"] for one in after.report["unlike"] if one["verdict"] == "equal text"] == [("mask",)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"method": {"code": 99}}, "code version"),
        ({"benchmark": {"data": "0" * 16}}, "are not those of the run"),
        ({"model": {"revision": "0" * 16}}, "weights of hero-tiny"),
    ],
    ids=["method", "data", "weights"],
)
def test_what_changed_since_is_named_and_not_called_a_lie(
    store: Store, changed: dict[str, dict[str, object]], reason: str
) -> None:
    for cell in store.cells(RUN):
        spec = dict(cell.spec) | {part: dict(cell.spec[part]) | values for part, values in changed.items()}
        told = {"spec": json.dumps(spec), "id": cell.id}
        store.transaction(lambda c, told=told: c.execute(text("update cells set spec = :spec where id = :id"), told))
    row = verify(store, RUN, 0.2)
    assert (row.verdict, row.answers) == ("not asked", 0)
    assert row.unasked > 0
    assert all(reason in why for why in row.report["unasked"])


@pytest.mark.slow
def test_the_command_prints_chances_and_ends_with_the_verdict(store: Store, plan: Plan) -> None:
    load_verbs()
    asked = ["verify", "--fraction", "0.2", "--seed", "s", "--db", store.url]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout.strip().splitlines()[-1])
    assert record["verdict"] == "bit-equal"
    assert record["chances"]["1"] == pytest.approx(2 / 8)
    assert "chance that this draw holds at least one altered picture, by how many there are: 1: 25.0%" in done.stdout
    plant(store, plan, RUN, 6)
    done = CliRunner().invoke(app, ["verify", "--fraction", "1", "--db", store.url])
    assert done.exit_code == 1
    assert "What its rows do not give" in done.stdout
    done = CliRunner().invoke(app, ["status", RUN, "--db", store.url])
    assert json.loads(done.stdout.strip().splitlines()[-1])["verified"] == "differs"


@pytest.mark.slow
def test_marks_travel_with_merges_and_go_with_their_run(store: Store, tmp_path: Path) -> None:
    row = verify(store, RUN, 0.1)
    with open_store(str(tmp_path / "other.db")) as other:
        merge(store, other, "team-")
        (taken,) = other.read(verifications.of_run, "team-small-1")
        assert taken == replace(row, run_id="team-small-1")
    maintenance.prune(store, [RUN])
    assert store.read(verifications.newest) == {}


@pytest.mark.slow
def test_a_night_whose_answers_differ_opens_an_alert(store: Store, plan: Plan) -> None:
    plant(store, plan, RUN, 6)
    verdict = NightVerdict(RUN, "2026-01-01", "ok")
    noted = nightly._checked(store, verdict, lambda run: verify(store, run, 1.0))
    assert "verified 8 of 8 pictures: differs" in noted.notes[-1]
    (alert,) = store.read(runs.alerts, RUN)
    assert (alert["kind"], alert["severity"]) == ("nightly-verify", "error")


@pytest.mark.slow
def test_schema_0006_comes_and_goes(store: Store) -> None:
    answers_before = store.totals(RUN)
    verify(store, RUN, 0.1)
    schema.downgrade(store.engine, "0005")
    schema.upgrade(store.engine)
    assert store.totals(RUN) == answers_before
    assert store.read(verifications.of_run, RUN) == []
    assert schema.drift(store.engine) == []


def test_chances_are_the_hypergeometric_distribution() -> None:
    for pictures, drawn in ((100, 1), (100, 10), (1000, 10), (7, 7)):
        for altered, chance in truth.chances(pictures, drawn).items():
            assert chance == pytest.approx(1 - hypergeom.pmf(0, pictures, altered, drawn), abs=1e-12)
    assert truth.needed(1000, 10) == next(k for k in range(1, 1000) if truth.chance(1000, 10, k) >= 0.95)
