"""Whole requests on a small random model: stages, turns, counts, batch sweep and host synchronisations."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import LlamaConfig, LlamaForCausalLM

from hero_ray.core.config import ProfileSettings
from hero_ray.core.encoded import Budget, Encoded, ImagePlan, Needs, Selection, VisionInfo, keep_all
from hero_ray.core.errors import DeviceMemoryError
from hero_ray.core.layout import Layout
from hero_ray.engine.cut import Pruning
from hero_ray.methods import create
from hero_ray.methods.base import LayerPruner, Method, Survivors
from hero_ray.models.base import LanguageShape, ModelInfo, Prepared, Prompt, VisionShape
from hero_ray.models.generation import Decoder
from hero_ray.models.runner import Runner
from hero_ray.profiling.batches import sweep_batches
from hero_ray.profiling.cells import profile_cells, timed
from hero_ray.profiling.counter import CountedFlops, count_flops
from hero_ray.profiling.requests import STAGES, Probe, arrange, prefill, run_request
from hero_ray.profiling.survey import survey
from hero_ray.profiling.syncs import host_syncs
from hero_ray.profiling.timing import take_turns

WIDTH, VIEWS, SIDE = 32, 2, 6
LANGUAGE = LanguageShape(num_layers=3, hidden=WIDTH, intermediate=64, num_heads=4, num_kv_heads=2, head_dim=8, vocab=40)
VISION = VisionShape(2, 1, 8, 16, 2, SIDE * SIDE + 1, 4, (8, WIDTH))
QUICK = ProfileSettings(new_tokens=3, warmup=1, repeats=3)


@dataclass
class SmallAdapter:
    """A real runner over a random Llama behind a one-matrix vision tower."""

    runner: Runner
    info: ModelInfo
    vision: VisionInfo
    projector: torch.Tensor
    encodes: int = 0
    clip: None = None

    @property
    def decoder(self) -> Decoder:
        return Decoder(self.runner, frozenset(), self.info.context)

    @classmethod
    def make(cls, device: str = "cpu") -> SmallAdapter:
        config = LlamaConfig(
            vocab_size=LANGUAGE.vocab,
            hidden_size=WIDTH,
            intermediate_size=64,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
        )
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).eval().to(device)
        info = ModelInfo(
            "small", "llava-next", "random:0", True, LANGUAGE, VISION, "float32", device, "sdpa", context=512
        )
        return cls(Runner(model.model, model.lm_head), info, VisionInfo(2, 1), torch.randn(8, WIDTH, device=device))

    def prepare(self, image: Image.Image, image_id: str = "", plan: ImagePlan | None = None) -> Prepared:
        side = SIDE if plan is None else plan.side
        views = VIEWS if plan is None else 1
        layout = Layout(
            (0, 0) if views == 1 else (1, 1),
            (side, side),
            torch.arange(views * side * side),
            torch.ones(views, side * side, dtype=torch.bool),
        )
        return Prepared(image_id, torch.zeros(views, 3, 4, 4), layout, image.size)

    def plans(self, size: tuple[int, int]) -> tuple[ImagePlan, ...]:
        return (ImagePlan((1, 1), SIDE, 72), ImagePlan((0, 0), 4, 16))

    def encode(self, prepared: Prepared, needs: Needs) -> Encoded:
        self.encodes += 1
        tokens = torch.arange(prepared.layout.valid.numel() * 8).reshape(*prepared.layout.valid.shape, 8) / 1000.0
        return Encoded("x", prepared.layout, self.vision, tokens.to(self.projector.device) @ self.projector)

    def encode_many(self, prepared: Sequence[Prepared], needs: Needs) -> list[Encoded]:
        return [self.encode(one, needs) for one in prepared]

    def ask(self, encoded: Encoded, question: str, needs: Needs, prompt: Prompt) -> Encoded:
        return encoded

    def prompt(self, text: str, question: str | None = None) -> Prompt:
        return Prompt((1, 2), (3, 4, 5), (0, 2))

    def assemble(self, encoded: Encoded, selection: Selection, policy: Any) -> torch.Tensor:
        order = selection.sequence(encoded.layout, policy)
        return encoded.features.flatten(0, 1)[order.to(self.projector.device)]


class DropHalf(LayerPruner):
    """Keeps every second visual token from block 2 on; scores nothing, so its FLOPs are all in the blocks."""

    def before(self, state: Any) -> Survivors | None:
        if state.layer != 2:
            return None
        even = torch.arange(state.valid.shape[1]) % 2 == 0
        return Survivors(keep=state.valid & (~state.visual | even))


@dataclass(frozen=True)
class First(Method):
    """Keeps the first tokens."""

    name = "first"

    def select(self, encoded: Encoded, budget: Budget) -> Selection:
        keep = torch.zeros_like(encoded.layout.valid).flatten()
        keep[: budget.total] = True
        return Selection(keep.view_as(encoded.layout.valid))


@dataclass(frozen=True)
class SlowFirst(First):
    def select(self, encoded: Encoded, budget: Budget) -> Selection:
        time.sleep(0.02)
        return super().select(encoded, budget)


@dataclass(frozen=True)
class Peeking(First):
    def select(self, encoded: Encoded, budget: Budget) -> Selection:
        if encoded.features.sum().item() > 1e9:
            return keep_all(encoded.layout)
        return super().select(encoded, budget)


@dataclass(frozen=True)
class ReadingTheHost(First):
    def select(self, encoded: Encoded, budget: Budget) -> Selection:
        assert encoded.layout.sequence.max().item() > 0  # the layout stays on the host: no wait
        return super().select(encoded, budget)


@dataclass(frozen=True)
class Refusing(Method):
    name = "x"

    def needs(self, vision: VisionInfo) -> Needs:
        return Needs(cls_attention=frozenset({1}))

    def select(self, encoded: Encoded, budget: Budget) -> Selection:
        raise AssertionError("selected at R = 1")


@dataclass(frozen=True)
class Dropping(Method):
    name = "drop"
    stage = "in-llm"

    def pruner(self, budget: Budget) -> LayerPruner:
        return DropHalf()


@dataclass(frozen=True)
class SecondLook(Method):
    name = "downsample"
    stage = "image"

    def choose(self, options: tuple[ImagePlan, ...], budget: Budget) -> ImagePlan:
        return options[1]


@pytest.fixture(scope="module")
def adapter() -> SmallAdapter:
    return SmallAdapter.make()


@pytest.fixture(scope="module")
def probe() -> Probe:
    return Probe(Image.new("RGB", (8, 8)), "What?", "What?")


FULL = Pruning(create("full"))
HALF = Pruning(First(), 0.5)
RAGGED = Pruning(Dropping(), 0.5)
SMALLER = Pruning(SecondLook(), 0.3)
ALL = {"full": FULL, "half": HALF, "ragged": RAGGED, "image": SMALLER}


def by_key(records: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {record["key"]: record for record in records}


@pytest.mark.slow
def test_planted_sleep_shows_in_select_and_nowhere_else(adapter: SmallAdapter, probe: Probe) -> None:
    arranged = [arrange(adapter, pruning, probe) for pruning in (HALF, Pruning(SlowFirst(), 0.5))]
    calls = [[timed(adapter, one, QUICK)] for one in arranged]
    quick, slow = take_turns(calls, "cpu", warmup=1, repeats=15)
    # The fastest of 15 runs: a busy machine slows some of them, a planted sleep all.
    added = {stage: slow.at(0.0, stage) - quick.at(0.0, stage) for stage in STAGES}
    assert 19.5 < added.pop("select") < 25
    assert all(abs(extra) < 2.5 for extra in added.values()), added


@pytest.mark.slow
def test_planted_sleep_reaches_the_record(adapter: SmallAdapter, probe: Probe) -> None:
    (record,) = profile_cells(adapter, {"slow": Pruning(SlowFirst(), 0.5)}, [probe], QUICK)
    assert record["ttft_ms_p50"] > record["select_ms"] > 20


def test_tokens_and_bytes_are_those_of_the_live_cache(adapter: SmallAdapter, probe: Probe) -> None:
    records = by_key(profile_cells(adapter, ALL, [probe], QUICK))
    assert {key: record["tokens"] for key, record in records.items()} == {
        "full": 72,
        "half": 36,
        "ragged": 72,
        "image": 16,
    }
    assert records["ragged"]["details"]["visual_per_layer"] == [72, 36, 36]
    assert records["ragged"]["details"]["equivalent_tokens"] == 48
    for record in records.values():
        assert record["kv_bytes"] == record["details"]["kv_bytes_analytic"]
    assert records["full"]["kv_bytes"] == 2 * 3 * (72 + 5) * 16 * 4


@pytest.mark.slow
def test_counted_flops_agree_with_the_formula(adapter: SmallAdapter, probe: Probe) -> None:
    for batch_size in (1, 2):
        settings = QUICK.model_copy(update={"batch_size": batch_size})
        for record in profile_cells(adapter, ALL, [probe], settings):
            assert abs(record["details"]["counted_difference"]) < 1e-3, record["key"]


def test_every_request_encodes_for_itself(adapter: SmallAdapter, probe: Probe) -> None:
    before = adapter.encodes
    settings = ProfileSettings(new_tokens=2, warmup=2, repeats=3, batch_size=2)
    profile_cells(adapter, {"full": FULL, "half": HALF}, [probe], settings)
    assert adapter.encodes - before == 2 * 2 * (1 + 2 + 3)  # items x batch x (survey + warm-up + repeats)


def test_an_encoding_that_methods_share_is_counted_once(
    adapter: SmallAdapter, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[CountedFlops] = []
    monkeypatch.setattr(
        "hero_ray.profiling.survey.count_flops", lambda call: counts.append(count_flops(call)) or counts[-1]
    )
    encodes: dict[Any, CountedFlops] = {}
    items = [arrange(adapter, pruning, probe) for pruning in ALL.values()]
    together = [survey(adapter, item, 1, 3, encodes) for item in items]
    assert len(counts) == 2 * len(items) + 2, "encode once for the whole picture and once for the smaller one"
    assert [one.counted_before for one in together] == [survey(adapter, item, 1, 3).counted_before for item in items]


@pytest.mark.slow
def test_requests_run_to_the_fixed_length(adapter: SmallAdapter, probe: Probe) -> None:
    stages: list[str] = []

    def around(stage: str, work: Callable[[], Any]) -> Any:
        stages.append(stage)
        return work()

    outcome = run_request(adapter, arrange(adapter, FULL, probe), 3, 5, around)
    assert outcome.token_ids.shape == (3, 5)
    assert stages == ["encode", "select", "prefill", "decode"]
    assert (outcome.token_ids == outcome.token_ids[0]).all()


def test_ratio_one_bypasses_the_method(adapter: SmallAdapter, probe: Probe) -> None:
    (record,) = profile_cells(adapter, {"whole": Pruning(Refusing())}, [probe], QUICK)
    assert record["tokens"] == 72
    assert record["tflops_scoring"] == 0


@pytest.mark.slow
def test_records_hold_the_columns_and_their_arithmetic(adapter: SmallAdapter, probe: Probe) -> None:
    (record,) = profile_cells(adapter, {"half": HALF}, [probe, probe], QUICK.model_copy(update={"batch_size": 2}))
    assert record["n"] == 6
    assert record["ttft_ms_p95"] >= record["ttft_ms_p50"] > 0
    assert record["decode_tokens_per_s"] == pytest.approx(2 * 1e3 / record["tpot_ms_p50"])
    assert record["certificate"]["batch_size"] == 2
    assert record["certificate"]["hash"] == record["certificate_hash"]
    assert record["peak_memory_bytes"] is None
    assert record["details"]["attention_kernels"] == ["aten._scaled_dot_product_flash_attention_for_cpu"]
    assert record["details"]["memory"]["base_bytes"] is None
    assert record["details"]["end_to_end_ms_p50"] > record["ttft_ms_p50"]


@pytest.mark.slow
def test_batch_sweep_finds_each_edge_and_lets_the_rest_take_turns(adapter: SmallAdapter, probe: Probe) -> None:
    limits = {"full": 5, "half": 100}
    measured = []

    def attempt(adapter: Any, arrangement: Any, size: int, new_tokens: int) -> None:
        if size > limits["full" if arrangement.pruning is FULL else "half"]:
            raise torch.OutOfMemoryError

    def measure(adapter: Any, items: Any, probes: Any, settings: ProfileSettings) -> list[dict[str, Any]]:
        measured.append((settings.batch_size, list(items)))
        return [{"key": key, "batch_size": settings.batch_size} for key in items]

    items = {"full": FULL, "half": HALF}
    records = sweep_batches(adapter, items, probe, [16, 1, 2, 4, 8], QUICK, attempt=attempt, measure=measure)
    both, one = ["full", "half"], ["half"]
    assert measured == [(1, both), (2, both), (4, both), (8, one), (16, one)]
    edges = {record["key"]: record["details"]["batch_sweep"] for record in records}
    assert edges["full"] == {"largest_batch": 5, "out_of_memory_at": 6}
    assert edges["half"] == {"largest_batch": 16, "out_of_memory_at": None}


@pytest.mark.slow
def test_batch_sweep_runs_for_real_and_refuses_a_device_without_room(adapter: SmallAdapter, probe: Probe) -> None:
    records = sweep_batches(adapter, {"full": FULL}, probe, [2, 1], QUICK)
    assert [record["batch_size"] for record in records] == [1, 2]
    assert records[0]["kv_bytes"] == records[1]["kv_bytes"]  # of one request, whatever the batch

    def never(*_: Any) -> None:
        raise torch.OutOfMemoryError

    with pytest.raises(DeviceMemoryError, match="full: not even one request"):
        sweep_batches(adapter, {"full": FULL}, probe, [4], QUICK, attempt=never)


def test_planted_host_sync_is_found(adapter: SmallAdapter, probe: Probe) -> None:
    items = {"half": HALF, "peeking": Pruning(Peeking(), 0.5)}
    records = by_key(profile_cells(adapter, items, [probe], QUICK))
    found = {key: [sync for sync in r["details"]["host_syncs"] if sync["call"] == "item"] for key, r in records.items()}
    assert found["half"] == []
    (planted,) = found["peeking"]
    assert "test_profiling_requests.py" in planted["where"]


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda x: x.tolist(), ["tolist"]),
        (lambda x: bool(x.any()), ["__bool__"]),
        (lambda x: x[x > 0], ["__getitem__"]),
        (lambda x: torch.nonzero(x), ["nonzero"]),
        (lambda x: torch.where(x > 0), ["where"]),
        (lambda x: x.cpu(), ["cpu"]),
        (lambda x: torch.where(x > 0, x, -x).topk(2).indices, []),
        (lambda x: x[:2].to(torch.float64).softmax(-1), []),
    ],
)
def test_waiting_calls_are_told_from_others(call: Any, expected: list[str]) -> None:
    values = torch.tensor([1.0, -1.0, 2.0])
    assert [sync.call for sync in host_syncs(lambda: call(values))] == expected


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_decode_steps_on_cuda_never_wait_for_the_host(probe: Probe) -> None:
    adapter = SmallAdapter.make("cuda")
    arrangement = arrange(adapter, FULL, probe)
    visual = torch.randn(72, WIDTH, device="cuda")
    state = prefill(adapter, arrangement, [visual], new_tokens=8)
    token = state.logits.argmax(-1)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(4):
            token = adapter.runner.decode(state, token).argmax(-1)
        with pytest.raises(RuntimeError, match="synchroniz"):
            token.tolist()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_planted_host_sync_is_found_on_cuda_and_only_there(probe: Probe) -> None:
    items = {"half": Pruning(ReadingTheHost(), 0.5), "peeking": Pruning(Peeking(), 0.5)}
    records = by_key(profile_cells(SmallAdapter.make("cuda"), items, [probe], QUICK))
    assert "item" not in [sync["call"] for sync in records["half"]["details"]["host_syncs"]]
    assert "item" in [sync["call"] for sync in records["peeking"]["details"]["host_syncs"]]
    assert records["half"]["peak_memory_bytes"] > records["half"]["details"]["memory"]["base_bytes"] > 0
