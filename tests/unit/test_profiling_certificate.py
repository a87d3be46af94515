"""Certificates, marks and turns: what makes two speeds comparable."""

from __future__ import annotations

import gc
import json
import time
from dataclasses import replace

import pytest
import torch

from hero_ray.core.errors import NotComparableError
from hero_ray.models.base import ModelInfo
from hero_ray.models.shapes import shape
from hero_ray.profiling.certificate import INFORMATION, Certificate, certify, require_comparable
from hero_ray.profiling.energy import joules_per_call
from hero_ray.profiling.marks import Marks, percentile
from hero_ray.profiling.memory import PhaseMemory
from hero_ray.profiling.timing import StageTimes, finished, turns


@pytest.fixture
def certificate() -> Certificate:
    known = shape("llava-next-7b")
    info = ModelInfo(
        "llava-next-7b:random",
        "llava-next",
        "random:0",
        True,
        known.language,
        known.vision,
        "float32",
        "cpu",
        "sdpa",
        1,
    )
    return certify(info, batch_size=1, new_tokens=16, warmup=3, n=20)


def test_says_what_the_figures_were_measured_with(certificate: Certificate) -> None:
    values = certificate.as_dict()
    assert values["device"] == "cpu"
    assert values["device_name"]
    assert values["torch"] == torch.__version__
    assert values["threads"] == torch.get_num_threads()
    assert values["random_weights"] is True
    assert Certificate.from_dict(json.loads(json.dumps(values))) == certificate


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 4},
        {"new_tokens": 64},
        {"dtype": "bfloat16"},
        {"attention": "eager"},
        {"cache": "dynamic"},
        {"cuda_graphs": True},
        {"device_name": "NVIDIA L20"},
        {"driver": "1.2"},
        {"torch": "2.11.0"},
        {"random_weights": False},
        {"warmup": 0},
        {"power_limit_w": 350.0},
    ],
)
def test_unlike_conditions_are_refused_by_name(certificate: Certificate, change: dict) -> None:
    other = replace(certificate, **change)
    assert other.hash != certificate.hash
    with pytest.raises(NotComparableError, match=next(iter(change))):
        require_comparable([certificate, certificate, other.as_dict()])


def test_subject_and_sample_size_do_not_forbid_comparison(certificate: Certificate) -> None:
    other = replace(certificate, n=5, model="llava-next-13b:random", commit="abc", clock_mhz=1000)
    assert other.hash == certificate.hash
    require_comparable([certificate, other])
    require_comparable([])


def test_every_field_is_a_condition_or_information(certificate: Certificate) -> None:
    for name, value in vars(certificate).items():
        other = replace(certificate, **{name: "changed" if isinstance(value, str) else 12345})
        assert (other.hash == certificate.hash) == (name in INFORMATION), name


def test_a_certificate_of_another_version_is_refused(certificate: Certificate) -> None:
    values = certificate.as_dict()
    del values["cache"]
    with pytest.raises(NotComparableError, match="lacks cache"):
        require_comparable([certificate, values])


def test_marks_name_the_interval_by_its_end() -> None:
    marks = Marks("cpu")
    marks.stamp("start")
    time.sleep(0.01)
    marks.stamp("first")
    marks.stamp("second")
    spans = marks.intervals()
    assert list(spans) == ["first", "second"]
    assert spans["first"] >= 10


def test_percentiles_interpolate() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2
    assert percentile([0.0, 10.0], 0.95) == pytest.approx(9.5)
    assert percentile([7.0], 0.95) == 7


def test_sums_are_taken_run_by_run() -> None:
    times = StageTimes()
    times.add({"encode": 1.0, "select": 9.0})
    times.add({"encode": 9.0, "select": 1.0})
    assert times.at(0.95, "encode", "select") == 10  # the percentiles alone would add up to 17.2
    assert times.n == 2


def test_turns_rotate_after_every_shape_is_warm() -> None:
    order: list[str] = []

    def call(name: str):
        def run(marks: Marks) -> None:
            order.append(name)
            marks.stamp("start")
            marks.stamp("end")

        return run

    calls, told = [[call("A1"), call("A2")], [call("B")], [call("C")]], []
    times = finished(turns(calls, "cpu", warmup=1, repeats=2), lambda text: told.append((text, len(order))))
    assert told == [("0 of 8 requests timed", 4), ("4 of 8 requests timed", 8), ("8 of 8 requests timed", 12)]
    assert order[:4] == ["A1", "A2", "B", "C"]
    assert order[4:] == ["A1", "A2", "B", "C", "B", "C", "A1", "A2"]
    assert [entry.n for entry in times] == [4, 2, 2]


def test_garbage_is_collected_between_rounds_and_never_in_one() -> None:
    events: list[str] = []

    def collected(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            events.append("collect")

    def call(marks: Marks) -> None:
        marks.stamp("start")
        rings = [[] for _ in range(10_000)]  # type: list[list[object]]
        for ring in rings:
            ring.append(ring)
        events.append("call")
        marks.stamp("encode")

    frozen = gc.get_freeze_count()
    gc.callbacks.append(collected)
    try:
        finished(turns([[call, call]], "cpu", warmup=0, repeats=2))
    finally:
        gc.callbacks.remove(collected)
    calls = [place for place, event in enumerate(events) if event == "call"]
    assert len(calls) == 4
    assert all("collect" not in events[a:b] for a, b in ((calls[0], calls[1]), (calls[2], calls[3])))
    assert "collect" in events[calls[1] : calls[2]]
    assert gc.isenabled()
    assert gc.get_freeze_count() == frozen


def test_a_cpu_tells_no_memory_and_no_energy() -> None:
    memory = PhaseMemory.start("cpu")
    memory.phase("encode")
    assert (memory.base_bytes, memory.peaks, memory.peak_bytes, memory.reserved_bytes) == (None, {}, None, None)
    assert joules_per_call(lambda: None, "cpu") is None


def test_an_image_says_its_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image holds no checkout; the name is the one that the Dockerfile sets."""
    from pathlib import Path

    from hero_ray.profiling import certificate

    dockerfile = (Path(__file__).resolve().parents[2] / "Dockerfile").read_text(encoding="utf-8")
    assert "ENV HERO_RAY_GIT_COMMIT=${GIT_COMMIT}" in dockerfile
    monkeypatch.setattr(certificate, "checkout", lambda: None)
    monkeypatch.setenv("HERO_RAY_GIT_COMMIT", "abc123")
    assert certificate.commit() == "abc123"
    monkeypatch.delenv("HERO_RAY_GIT_COMMIT")
    assert certificate.commit() == ""
