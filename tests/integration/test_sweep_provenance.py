"""What a sweep notes beside its answers: the batch-invariance certificate of a model, and where methods break even."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from sweeps import LOADER, small_plan

from hero_ray.core.config import build
from hero_ray.engine.evaluate import Settings
from hero_ray.methods import create
from hero_ray.pipeline.facts import Plan, make_plan
from hero_ray.pipeline.invariance import certificates, certify_run, describe, settled
from hero_ray.pipeline.orders import WorkerJob, pack_unit
from hero_ray.pipeline.profile_pass import Stopwatch
from hero_ray.pipeline.status import describe_run
from hero_ray.pipeline.worker import UnitWorker
from hero_ray.store import Store

MACHINE = {"processor": "a", "gpus": [], "packages": {"torch": "2.13", "transformers": "5.23"}}


def tiny_plan() -> Plan:
    source = {"num_images": 2, "questions_per_image": 1}
    return make_plan(
        build(
            {
                "models": ["hero-tiny"],
                "tasks": [{"name": "synth-exist", "source": source}],
                "methods": ["full"],
                "straw_men": False,
                "profile": {"enabled": False},
            }
        )
    )


def begin(store: Store, plan: Plan, run_id: str, environment: dict[str, Any] | None = None) -> None:
    config = plan.config.model_dump(mode="json")
    store.create_run(run_id, "sweep", config, plan.hash, MACHINE if environment is None else environment)
    store.add_cells(run_id, plan.cells, plan.expected)
    store.add_samples(plan.samples)


def job(store: Store, plan: Plan, run_id: str, **more: Any) -> WorkerJob:
    given: dict[str, Any] = {"model": "hero-tiny", "model_args": {}, "cells": plan.cells, "tasks": plan.tasks}
    return WorkerJob(run_id=run_id, store_url=store.url, settings=Settings(), **given | more)


def test_one_replica_certifies_its_model_after_its_unit(store: Store) -> None:
    plan = tiny_plan()
    begin(store, plan, "one")
    assert not settled(store, "one", plan.models[0])
    first, second = plan.units
    store.set_status("one", "running")
    assert "no answer yet" in describe_run(store, store.run("one"))[0][0]
    worker = UnitWorker(job(store, plan, "one", certify_after=second.id))
    worker({"unit": [pack_unit(first)]})  # type: ignore[dict-item]
    assert "no answer yet" not in describe_run(store, store.run("one"))[0][0]
    assert certificates(store.run("one")) == {}
    worker({"unit": [pack_unit(second)]})  # type: ignore[dict-item]
    found = certificates(store.run("one"))["hero-tiny"]
    assert (found["dtype"], found["samples"], found["batched"], found["shared"]) == ("float32", 4, 0.0, 0.0)
    assert store.run("one").environment["packages"] == MACHINE["packages"]
    assert settled(store, "one", plan.models[0])
    lines, _ = describe_run(store, store.run("one"))
    assert lines[1].startswith("hero-tiny in float32 on cpu: answers do not depend on the batch")


def test_a_like_run_copies_the_certificate_and_another_machine_does_not(store: Store) -> None:
    plan = tiny_plan()
    fact = plan.models[0]
    found = {"revision": fact.revision, "dtype": fact.dtype, "batched": 0.25}
    begin(store, plan, "one")
    store.add_environment("one", "invariance", {"hero-tiny": found, "other": {"dtype": "bfloat16"}})
    begin(store, plan, "two")
    assert settled(store, "two", fact)
    assert certificates(store.run("two")) == {"hero-tiny": found}
    begin(store, plan, "three", MACHINE | {"gpus": ["another"]})
    assert not settled(store, "three", fact)
    assert certificates(store.run("three")) == {}


def test_trouble_is_noted_and_goes_no_further(store: Store) -> None:
    plan = tiny_plan()
    begin(store, plan, "one")
    certify_run(store, "one", "hero-tiny", SimpleNamespace(decoder=object()))
    (found,) = certificates(store.run("one")).values()
    assert found["error"].startswith("AttributeError")
    assert "not certified" in describe("hero-tiny", found)


def test_a_model_of_someone_elses_has_nothing_to_certify(store: Store) -> None:
    plan = small_plan(num_images=1)
    begin(store, plan, "one")
    worker = UnitWorker(job(store, plan, "one", model="sleeping", loader=LOADER, certify_after=plan.units[0].id))
    worker({"unit": [pack_unit(plan.units[0])]})  # type: ignore[dict-item]
    assert certificates(store.run("one")) == {}


def test_the_profile_pass_tells_where_a_method_breaks_even() -> None:
    plan = tiny_plan()
    full = plan.cells[0]
    pruned = replace(full, id="pruned", method="spatial", retention_ratio=0.2, params=create("spatial").parameters())
    config = build({"tasks": ["synth-exist"], "profile": {"repeats": 1, "warmup": 0, "new_tokens": 3}})
    work = ("hero_ray.models:load", "hero-tiny", {}, [full, pruned], plan.tasks, plan.units[:1], config)
    watch, told = Stopwatch("hero_ray.models:load"), []
    watch.survey(*work)
    while (step := watch.step())[0] == "told":
        told.append(step[1])
    assert told == ["0 of 2 requests timed", "2 of 2 requests timed"]
    base, record = step[1]
    found = record["details"]["break_even"]
    assert "break_even" not in base["details"]
    assert found["prefill_saved_ms"] == base["prefill_ms"] - record["prefill_ms"]
    assert found["step_saved_ms"] == base["tpot_ms_p50"] - record["tpot_ms_p50"]
