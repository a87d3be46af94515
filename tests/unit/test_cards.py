"""Cards by name and in figures, times by the roofline, and a plan that is forecast for one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from hero_ray import cli
from hero_ray.core.config import build
from hero_ray.core.errors import ConfigError, UnknownNameError
from hero_ray.costs import costs
from hero_ray.costs.cards import CARDS, GpuCard, card
from hero_ray.costs.memory import model_weights
from hero_ray.costs.times import BANDWIDTH_SHARE, FLOPS_SHARE, Times
from hero_ray.models.shapes import shape
from hero_ray.pipeline import forecast
from hero_ray.pipeline.facts import make_plan
from hero_ray.pipeline.on_card import KEPT_FREE

SEVEN_B = shape("llava-next-7b")
ROUND = GpuCard("round", 100e9, 1e12, 100e12)


def test_every_figure_has_the_page_it_was_read_from() -> None:
    assert {"a100", "h100", "h200", "l40s", "a10", "4090", "mi300x"} == CARDS.keys()
    for name, one in CARDS.items():
        read = {key for key in ("memory", "bandwidth", "flops") if getattr(one, key) is not None}
        assert one.name == name
        assert one.pages.keys() == read
        assert all(
            re.match(r"(docs\.nvidia\.com|github\.com/(NVIDIA|NVIDIA-NeMo|ROCm))/", one.pages[key]) for key in read
        )


@pytest.mark.parametrize(
    ("text", "memory", "bandwidth", "flops"),
    [
        ("memory=80GB,bandwidth=3350GB/s,flops=989T", 80e9, 3.35e12, 989e12),
        ("memory=24 GiB, bandwidth=1.008TB/s, flops=165 TFLOP/s", 24 * 2**30, 1.008e12, 165e12),
        ("memory=8e10,flops=9.89e+14", 8e10, None, 989e12),
        ("memory=12000MB,flops=30TFLOPS", 12e9, None, 30e12),
    ],
)
def test_a_card_is_given_in_figures(text: str, memory: float, bandwidth: float | None, flops: float | None) -> None:
    made = card(text)
    assert made == GpuCard("your card", memory, bandwidth, flops)


@pytest.mark.parametrize("name", ["h200", "H200", "NVIDIA H200", "nvidia-h200"])
def test_names_are_read_as_people_write_them(name: str) -> None:
    assert card(name) is not None
    assert card(name).name == "h200"
    assert card("RTX 4090").name == card("GeForce RTX 4090").name == card("rtx4090").name == "4090"
    assert card("AMD Instinct MI300X").name == "mi300x"


def test_a_figure_behind_a_name_takes_the_place_of_what_was_read() -> None:
    made = card("h200,flops=800T,memory=140GB")
    assert (made.memory, made.bandwidth, made.flops) == (140e9, CARDS["h200"].bandwidth, 800e12)
    assert made.pages.keys() == {"bandwidth"}


def test_a_card_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("name: our box\nmemory: 48GB\nbandwidth: 8.64e+11\n", encoding="utf-8")
    assert card(str(file)) == GpuCard("our box", 48e9, 864e9)
    for text in ("- a list", "memory: [", "flops: 3T"):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match="--card"):
            card(str(file))
    with pytest.raises(ConfigError, match="cannot be read"):
        card(str(tmp_path / "none.yaml"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("memory=80", "memory='80' is no figure with its unit; write memory=80GB"),
        ("memory=lots", "write memory=80GB"),
        ("memory=-3GB", "write memory=80GB"),
        ("memory=80GB,flops=inf", "write flops=989T"),
        ("memory=80GB,bandwidth=3XB", "write bandwidth=3350GB/s"),
        ("memory=80GB,cores=9T", "unknown key 'cores'; known are memory, bandwidth, flops"),
        ("flops=9T", "names no memory"),
        ("h200,fast", "'fast' is not KEY=VALUE"),
        ("", "is not KEY=VALUE"),
    ],
)
def test_what_is_no_card_is_said(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)):
        card(text)


def test_an_unknown_card_names_those_that_are_known() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown card 'h20'.*h100.*mi300x"):
        card("h20")


def test_times_are_the_later_roof() -> None:
    times = Times(SEVEN_B.language, SEVEN_B.vision, ROUND, 2)
    weights = costs.weight_bytes(SEVEN_B.language, 2)
    long = costs.prefill_flops(SEVEN_B.language, [3000] * 32)
    assert times.prefill(3000) == pytest.approx(long / (100e12 * FLOPS_SHARE))
    assert times.prefill(1) == pytest.approx(weights / (1e12 * BANDWIDTH_SHARE)), "weights are read for one token too"
    cache = costs.kv_bytes(SEVEN_B.language, [3000] * 32, 2)
    assert cache == 3000 * 2**19
    assert times.step(3000, 4) == pytest.approx((weights + 4 * cache) / (1e12 * BANDWIDTH_SHARE))
    slow = Times(SEVEN_B.language, SEVEN_B.vision, GpuCard("slow", 1e11, 1e15, 1e12), 2)
    assert slow.step(100, 8) == pytest.approx(8 * costs.decode_flops(SEVEN_B.language, [100] * 32, 2) / 0.35e12)


def test_what_a_card_does_not_say_is_not_forecast() -> None:
    unknown = Times(SEVEN_B.language, SEVEN_B.vision, GpuCard("x", 1e11), 2)
    assert unknown.encode(5) is unknown.prefill(9) is unknown.step(9, 1) is None
    wide = Times(SEVEN_B.language, SEVEN_B.vision, ROUND, 4)
    assert wide.prefill(9) is None, "a card's FLOP/s are of 16-bit numbers"
    assert wide.step(9, 1) is not None


def plan_of(**more: Any) -> Any:
    document = {"models": ["llava-next-7b"], "methods": ["fastervlm"], "tasks": ["pope"], "budgets": ["0.2"]}
    return make_plan(build(document | {"batch_size": 64, "gpus_per_replica": 1} | more), at_hand=False)


def told(plan: Any, on: GpuCard) -> list[str]:
    return forecast.describe_plan(plan, "sqlite:///none.db", "they are elsewhere", on).splitlines()


def test_a_plan_on_a_card_is_forecast_with_its_assumptions() -> None:
    plan = plan_of()
    lines = told(plan, ROUND)
    times = Times(SEVEN_B.language, SEVEN_B.vision, ROUND, 2)
    first = 1000 * (times.encode(5) + times.prefill(2880 + 64))  # type: ignore[operator]
    full = next(line for line in lines if "2880 visual tokens" in line)
    assert float(re.search(r"first token after (\d+) ms", full)[1]) == pytest.approx(first, rel=0.01)  # type: ignore[index]
    assert any("576 visual tokens" in line for line in lines)
    hours = next(line for line in lines if "hours on one card" in line)
    found = forecast.forecast(plan, plan.models[0])
    seconds = plan.pictures * times.encode(5)  # type: ignore[operator]
    for cell in plan.cells:
        tokens, answers = found.visual[cell.id] + 64, plan.expected[cell.id]
        seconds += answers * times.prefill(tokens)  # type: ignore[operator]
        seconds += -(-answers // 64) * 15 * times.step(tokens, 64)  # type: ignore[operator]
    assert float(re.search(r"about ([\d.e+]+) hours", hours)[1]) == pytest.approx(seconds / 3600, rel=0.05)  # type: ignore[index]
    assert any(line.startswith("assumed on round: 35%") and "no measurement" in line for line in lines)
    assert any("round: flops 1e+14 FLOP/s (as given)" in line for line in lines)
    assert not any("GPUs of 312" in line for line in lines), "no other machine is forecast beside it"


def test_a_batch_that_does_not_fit_a_card_is_split_or_refused() -> None:
    plan = plan_of()
    memory = forecast.forecast(plan, plan.models[0]).memory
    exact = GpuCard("exact", memory(20).peak / (1 - KEPT_FREE) + 2**20, 1e12, 1e14)
    (line,) = [line for line in told(plan, exact) if "--batch-size" in line]
    assert "at a batch of 20; the batch of 64 that is asked for takes" in line
    assert line.endswith("--batch-size 20")
    roomy = GpuCard("roomy", memory(64).peak / (1 - KEPT_FREE) + 2**20)
    assert any("at a batch of 64, which fits" in line for line in told(plan, roomy))
    short = GpuCard("short", memory(1).peak, 1e12, 1e14)
    with pytest.raises(ConfigError, match=r"llava-next-7b does not fit short: one answer takes \d+\.\d+ GiB"):
        told(plan, short)
    halves = plan_of(gpus_per_replica=0.5)
    with pytest.raises(ConfigError, match="by each of 2 replicas a card"):
        told(halves, GpuCard("one", 1.5 * memory(1).peak, 1e12, 1e14))


def test_replicas_share_the_hours() -> None:
    def hours(**more: Any) -> float:
        line = next(line for line in told(plan_of(**more), ROUND) if "hours on" in line)
        return float(re.search(r"about ([\d.e+]+) hours", line)[1])  # type: ignore[index]

    assert hours(replicas=4) == pytest.approx(hours() / 4, rel=0.06)


def test_what_no_page_was_read_for_is_asked_for() -> None:
    lines = told(plan_of(), CARDS["4090"])
    assert any("4090: no page of its maker was read for flops; what hangs on it is n/a" in line for line in lines)
    assert any("hours of the sweep need its bandwidth and flops" in line for line in lines)
    assert any("first token after n/a" in line and "then n/a a token" in line for line in lines)
    lines = told(plan_of(), GpuCard("half known", 80e9, 1e12))
    assert any("first token after n/a" in line and " ms a token" in line for line in lines)


@pytest.mark.parametrize("name", sorted(CARDS.keys() - {"4090"}))
def test_a_card_by_name_is_forecast_to_the_end(name: str) -> None:
    lines = told(plan_of(), CARDS[name])
    assert not any("n/a" in line for line in lines)
    assert any(f"llava-next-7b on {name}: about" in line and "hours on one card" in line for line in lines)
    read = [line for line in lines if line.startswith(f"{name}: ") and "github.com" in line]
    assert len(read) == 3, "each figure with its page"


def test_the_verbs_take_a_card(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    db = ["--db", f"sqlite:///{tmp_path / 'none.db'}"]
    words = ["--models", "llava-next-7b", "--tasks", "pope", *db]
    with pytest.raises(SystemExit) as ended:
        cli.main(["plan", *words, "--card", "mi300x"])
    assert ended.value.code in (0, None)
    said = capsys.readouterr().out
    assert "bfloat16" in said, "a sweep on a card runs in its precision"
    assert "llava-next-7b on mi300x" in said
    assert f"weights {model_weights(SEVEN_B.language, SEVEN_B.vision, 2) / 2**30:.4g} GiB" in said
    with pytest.raises(SystemExit) as ended:
        cli.main(["sweep", *words, "--dry-run", "--card", "memory=12GB"])
    assert ended.value.code == 2
    assert "does not fit your card" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        cli.main(["sweep", *words, "--card", "mi300x"])
    assert ended.value.code == 2
    assert "give it with --dry-run" in capsys.readouterr().err
