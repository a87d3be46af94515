"""Where a model may stand, what a replica may take of a card, and a device whose memory ends."""

from __future__ import annotations

import logging
import weakref
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaForCausalLM

from hero_ray.core.errors import DeviceMemoryError, ParameterError, ReplicaError
from hero_ray.models import miniature
from hero_ray.models.base import Prompt, Request
from hero_ray.models.build import build, randomise
from hero_ray.models.generation import Decoder, GenerationOptions
from hero_ray.models.job import Target
from hero_ray.models.runner import Runner
from hero_ray.pipeline.worker import keep_to_share


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> Any:
    """So many CUDA devices as torch would show them; returns the shares of memory that are asked for."""

    def make(count: int) -> list[float]:
        shares: list[float] = []
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", shares.append)
        return shares

    return make


@pytest.mark.parametrize(
    ("device", "says"),
    [
        ("mps", "device 'mps' is not supported: .* float64, which Apple's MPS lacks; use device='cpu'"),
        ("mps:0", "device 'mps' is not supported"),
        ("xpu", "device 'xpu' is not supported; use cuda, cuda:1, cpu or meta"),
        ("gpu", "device 'gpu' is unknown; use cuda"),
        ("cuda:x", "device 'cuda:x' is unknown"),
        ("cuda", "torch sees no CUDA device"),
    ],
)
def test_a_device_that_cannot_be_is_refused_by_name(cards: Any, device: str, says: str) -> None:
    cards(0)
    with pytest.raises(ParameterError, match=says):
        Target.of(device, None, None)


def test_a_card_that_is_not_visible_is_refused(cards: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cards(2)
    assert Target.of("cuda:1", None, None).device == torch.device("cuda", 1)
    assert Target.of(None, None, None).dtype == torch.bfloat16
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-4f5e,MIG-77aa")
    with pytest.raises(
        ParameterError, match=r"sees 2 CUDA device\(s\), counted from 0 of CUDA_VISIBLE_DEVICES=MIG-4f5e"
    ):
        Target.of("cuda:2", None, None)


def test_a_replica_keeps_to_its_part_of_a_card(cards: Any) -> None:
    shares = cards(1)
    for gpus in (0.0, 1.0, 2.0, 0.25):
        keep_to_share(gpus)
    assert shares == [0.25]


def test_a_gpu_that_torch_does_not_find_is_said(cards: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cards(0)
    keep_to_share(0.0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-4f5e")
    with pytest.raises(ReplicaError, match=r"given 0.5 GPU \(CUDA_VISIBLE_DEVICES=MIG-4f5e\) and torch .* finds none"):
        keep_to_share(0.5)


class Allowance(TorchDispatchMode):
    """An allocator that says no: memory that is alive at once, storage by storage, may not pass `limit` bytes."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit, self.live, self.peak, self.refused = limit, 0, 0, 0
        self._alive: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        made = [one for one in (out if isinstance(out, (tuple, list)) else [out]) if isinstance(one, torch.Tensor)]
        given = {one.untyped_storage()._cdata for one in args if isinstance(one, torch.Tensor)}
        for storage in [one.untyped_storage() for one in made]:
            self._add(storage, given)
        if self.live > self.limit:
            self.refused += 1
            raise torch.OutOfMemoryError(f"{self.live} bytes are more than {self.limit:.0f}")
        return out

    def _add(self, storage: torch.UntypedStorage, given: set[int]) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._alive or key in given:  # of before, or a view
            return

        def gone(_: Any) -> None:
            del self._alive[key]
            self.live -= size

        self._alive[key] = weakref.ref(storage, gone)
        self.live += size
        self.peak = max(self.peak, self.live)


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    language: Any = build(LlamaForCausalLM, miniature.text_config(), torch.device("cpu"), torch.float32, "sdpa")
    randomise(language, seed=4)
    return Decoder(Runner(language.model, language.lm_head), frozenset({2}), context=512)


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    generator = torch.Generator().manual_seed(0)
    picture = torch.randn(60, 64, generator=generator)
    return [Request(Prompt((1, 5, 6), tuple(range(10, 14 + n)), (0, 2)), picture, 5) for n in range(8)]


@pytest.mark.parametrize("shared", [True, False])
def test_a_batch_that_memory_refuses_is_split_and_answers_alike(
    decoder: Decoder, requests: list[Request], shared: bool, caplog: pytest.LogCaptureFixture
) -> None:
    options = GenerationOptions(share_prefix=shared)
    with Allowance(float("inf")) as free:
        wanted = decoder.answer(requests, options=options)
    with Allowance(float("inf")) as alone:
        decoder.answer(requests[:1], options=options)
    assert alone.peak < 0.4 * free.peak
    for part in (0.8, 0.4):
        with caplog.at_level(logging.WARNING), Allowance(part * free.peak) as tight:
            assert decoder.answer(requests, options=options) == wanted
        assert tight.refused > 0
        assert f"out of memory with {len(requests)} requests together; going on with 4" in caplog.text
    with Allowance(0.9 * alone.peak), pytest.raises(DeviceMemoryError, match=r"1 request\(s\) of up to \d+ tokens"):
        decoder.answer(requests, options=options)
