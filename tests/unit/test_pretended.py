"""The pretended device refuses, counts and lets pass what a real one would."""

from __future__ import annotations

import pytest
import torch

from tests.pretended import DeviceMixError, Pretended, pretended, up


def test_a_mix_is_refused_and_names_the_line() -> None:
    with pretended(), pytest.raises(DeviceMixError, match=r"on the CPU, \(3,\); at .*test_pretended.py:\d+"):
        up(torch.ones(3)) + torch.ones(3)
    with pretended(), pytest.raises(DeviceMixError, match="use cpu"):
        up(torch.ones(3)).numpy()
    with pretended(), pytest.raises(DeviceMixError):
        torch.ones(3)[up(torch.tensor([0]))]
    with pretended(), pytest.raises(DeviceMixError):
        torch.cat([up(torch.ones(3)), torch.ones(3)])


def test_a_number_on_the_cpu_goes_along() -> None:
    with pretended() as device:
        assert isinstance(up(torch.ones(3)) * torch.tensor(2.0), Pretended)
    assert not device.copies


WAITS = {
    "item": lambda t: t.sum().item(),
    "bool": lambda t: bool(t.sum() > 0),
    "int": lambda t: int(t.sum()),
    "tolist": lambda t: t.tolist(),
    "cpu": lambda t: t.cpu(),
    "to": lambda t: t.to("cpu"),
    "nonzero": lambda t: t.nonzero(),
    "where": lambda t: torch.where(t > 1),
    "mask": lambda t: t[t > 1],
    "masked write": lambda t: t.__setitem__(t > 1, 0),
    "unique": lambda t: t.unique(),
    "bincount": lambda t: t.bincount(),
    "equal": lambda t: torch.equal(t, t),
    "isin of many": lambda t: torch.isin(t, t.repeat(9)),
    "repeats": lambda t: torch.repeat_interleave(t),
    "copy": lambda t: torch.empty(3, dtype=torch.long).copy_(t),
}


@pytest.mark.parametrize("name", WAITS)
def test_what_waits_is_counted_once(name: str) -> None:
    with pretended() as device:
        WAITS[name](up(torch.tensor([1, 2, 3])))
    assert sum(device.waits.values()) == 1, device.told()


def test_what_does_not_wait_is_not_counted() -> None:
    with pretended() as device:
        tensor = torch.arange(6, device="cuda").view(2, 3)
        kept = tensor.masked_fill(tensor > 1, 0).gather(1, tensor.argsort(1)).index_select(0, tensor[:, 0].clamp(max=1))
        torch.nn.functional.embedding_bag(kept, tensor[0].float()[:, None].expand(-1, 2), mode="sum")
        assert isinstance(kept, Pretended)
        assert kept.device.type == "cuda"
    assert not device.waits
    assert not device.copies


def test_what_is_copied_up_is_counted() -> None:
    with pretended() as device:
        features = up(torch.ones(3, 2))
        features[torch.tensor([0])]
        torch.tensor([1.0], device="cuda")
        torch.ones(2).to("cuda")
    assert not device.waits
    assert sorted(cause for cause, _ in device.copies.elements()) == [
        "copy to the device",
        "copy to the device",
        "index on the CPU",
    ]
