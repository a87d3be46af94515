"""Memory by closed form against a tracker of allocations on true-size models without weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hero_ray.core.config import build
from hero_ray.core.encoded import Needs
from hero_ray.core.errors import BudgetError
from hero_ray.costs.memory import batch_memory, largest_batch
from hero_ray.models.base import Request
from hero_ray.models.invariance import drawn_picture
from hero_ray.pipeline import forecast
from hero_ray.pipeline.facts import make_plan
from tests.allocations import peak_of, weightless

NAMES = ("internvl2-2b", "llava-next-7b", "llava-next-13b", "internvl2-8b")
QWEN = ("qwen2.5-vl-3b", "qwen2.5-vl-7b")
"""Whose towers see pictures of any size: the language model alone is held here."""
ROOM = 16


@pytest.fixture(scope="module", params=NAMES + QWEN)
def adapter(request: pytest.FixtureRequest) -> Any:
    return weightless(request.param)


def forecast_of(
    adapter: Any, views: int, visual: int, rows: int, groups: int | None = None, in_place: bool = False
) -> Any:
    prompt, info = adapter.prompt("Describe the image."), adapter.info
    tower = "clip" if adapter.vision.tower == "clip" else "internvit"
    text = {"prefix": len(prompt.prefix), "suffix": len(prompt.suffix), "room": ROOM}
    asked = {"views": views, "visual": visual, "rows": rows, "groups": groups, "in_place": in_place, "tower": tower}
    return batch_memory(info.language, info.vision, **asked, **text)


def asked(adapter: Any, visual: int, rows: int, groups: int) -> list[Request]:
    pictures = [
        torch.empty(visual, adapter.info.language.hidden, device="meta", dtype=torch.bfloat16) for _ in range(groups)
    ]
    prompt = adapter.prompt("Describe the image.")
    return [Request(prompt, pictures[row * groups // rows], ROOM) for row in range(rows)]


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "visual"), [(1, 2340), (1, 200), (8, 576), (32, 576), (32, 2340)])
def test_prefill_takes_what_is_forecast(adapter: Any, rows: int, visual: int) -> None:
    requests = asked(adapter, visual, rows, rows)
    measured = peak_of(adapter.model, lambda: adapter.decoder.prefill(requests, share_prefix=False))
    found = forecast_of(adapter, 1, visual, rows)
    assert found.prefill + found.cache == pytest.approx(measured, rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "groups"), [(18, 1), (32, 4)])
def test_copies_of_a_shared_prefix_are_counted(adapter: Any, rows: int, groups: int) -> None:
    requests = asked(adapter, 2340, rows, groups)
    measured = peak_of(adapter.model, lambda: adapter.decoder.prefill(requests))
    found = forecast_of(adapter, 1, 2340, rows, groups)
    assert found.prefill + found.cache == pytest.approx(measured, rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "groups", "visual"), [(18, 1, 2340), (32, 4, 2340), (32, 2, 64)])
def test_a_prefix_read_in_place_is_counted_once(adapter: Any, rows: int, groups: int, visual: int) -> None:
    requests, decoder = asked(adapter, visual, rows, groups), replace(adapter.decoder, in_place=True)
    measured = peak_of(adapter.model, lambda: decoder.prefill(requests))
    found = forecast_of(adapter, 1, visual, rows, groups, in_place=True)
    assert found.prefill + found.cache == pytest.approx(measured, rel=0.03)
    copied = forecast_of(adapter, 1, visual, rows, groups)
    assert found.cache < copied.cache * (0.2 if visual > 1000 else 1.0)


@pytest.mark.slow
def test_encoding_and_weights_take_what_is_forecast(adapter: Any) -> None:
    if adapter.info.name in QWEN:
        pytest.skip("views of any size")
    prepared = adapter.prepare(drawn_picture(0))
    views = prepared.layout.num_views
    for copies in (1, 4):
        measured = peak_of(adapter.model, lambda copies=copies: adapter.encode_many([prepared] * copies, Needs()))
        found = forecast_of(adapter, views * copies, 576, 1)
        assert found.encode == pytest.approx(measured, rel=0.03)
    weights = sum(tensor.numel() * tensor.element_size() for tensor in adapter.model.parameters())
    assert found.weights == pytest.approx(weights, rel=0.01)


def test_a_plan_names_the_batch_that_fits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    document = {"models": ["llava-next-7b"], "methods": ["full"], "tasks": ["pope"], "straw_men": False}
    plan = make_plan(build(document | {"batch_size": 64}), at_hand=False)
    url = f"sqlite:///{tmp_path / 'none.db'}"

    def told(device: int) -> str:
        monkeypatch.setattr(forecast, "_device_bytes", lambda: device)
        return forecast.describe_plan(plan, url, "they are elsewhere")

    memory = forecast.forecast(plan, plan.models[0]).memory
    assert memory(64).cache > 64 * 1400 * 2**20  # 2,880 tokens of half a MiB each, copied for each of 18 questions
    assert "WARNING" not in told(memory(64).peak)
    assert "--batch-size 20 fits" in told(memory(20).peak)
    assert "not even one answer fits" in told(memory(1).peak - 1)


def test_a_plan_knows_of_prefixes_read_in_place() -> None:
    document = {"models": ["llava-next-7b"], "methods": ["full"], "tasks": ["pope"], "straw_men": False}
    copied, read = (
        make_plan(build(document | {"batch_size": 18, "model_args": {"prefix": prefix}}), at_hand=False)
        for prefix in ("copied", "in-place")
    )
    peaks = [forecast.forecast(plan, plan.models[0]).memory(18).peak / 2**30 for plan in (copied, read)]
    assert peaks[0] > 40
    assert peaks[1] < 17


def test_the_largest_batch_that_fits_is_found() -> None:
    assert largest_batch(100, 64, lambda rows: 10 + 3 * rows) == 30
    assert largest_batch(1000, 64, lambda rows: 10 + 3 * rows) == 64
    with pytest.raises(BudgetError, match="one answer takes 13 bytes"):
        largest_batch(12, 64, lambda rows: 10 + 3 * rows)
