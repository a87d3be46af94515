"""Looking at values that lie on a device: every look makes the host wait for all that was queued, so looks are shared.

What must hold of tensors (scores are finite) is noted where it is known and looked at once, together with whatever else
the host has to read. Nothing is skipped: who leaves the block without an error has seen every check hold.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hero_ray.core.lazy import Tensor, torch

Made = TypeVar("Made")
Refusal = Callable[[], None]
"""Raises the error that a truth which does not hold stands for; returns where it holds after all."""


@dataclass(frozen=True)
class Looks:
    """What is to be read from the device in one transfer.

    Attributes:
        pending: truths (bool, no dimension) with what is to be done where one does not hold.
    """

    pending: list[tuple[Tensor, Refusal]] = field(default_factory=list)

    def fetch(self, *tensors: Tensor) -> list[Tensor]:
        """These tensors on the CPU, and every pending truth looked at in the same transfer.

        Raises:
            HeroRayError: what the first truth that does not hold stands for.
        """
        asked = list(self.pending)
        self.pending.clear()
        if not asked:
            return on_host(tensors)
        together = torch.stack([truth.to(asked[0][0].device) for truth, _ in asked])
        *found, truths = on_host([*tensors, together])
        for holds, (_, refuse) in zip(truths.tolist(), asked, strict=True):
            if not holds:
                refuse()
        return found

    @contextmanager
    def shared(self) -> Iterator[None]:
        """What is ensured inside waits for `fetch`; an error that comes first is told as what made it, if anything."""
        token = _current.set(self)
        try:
            yield
        except Exception:
            self.fetch()
            raise
        finally:
            _current.reset(token)


_current: ContextVar[Looks | None] = ContextVar("looks", default=None)


_made: ContextVar[dict[Hashable, Any] | None] = ContextVar("made", default=None)


def ensure(truth: Tensor, refuse: Refusal) -> None:
    """See that a truth (bool, no dimension) holds: now, or with everything else where looks are shared."""
    looks = _current.get()
    if looks is not None:
        looks.pending.append((truth, refuse))
    elif not truth:
        refuse()


@contextmanager
def remembering() -> Iterator[None]:
    """What is made `once` inside is kept until the block ends."""
    token = _made.set({})
    try:
        yield
    finally:
        _made.reset(token)


def once(key: Hashable, make: Callable[[], Made]) -> Made:
    """What `make` gives, of an equal key made only once where that is remembered; elsewhere made at every call.

    What it ensured is ensured anew for everyone who asks: each is told of scores that are not finite.

    Args:
        key: all that the value hangs on; what it names by `id` must live as long as the block that remembers.
    """
    known = _made.get()
    if known is None:
        return make()
    if key not in known:
        looks = Looks()
        with looks.shared():
            known[key] = make(), looks.pending
    made, truths = known[key]
    for truth, refuse in truths:
        ensure(truth, refuse)
    return made  # type: ignore[no-any-return]


def on_host(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors on the CPU, those of a device in one transfer."""
    away = [index for index, tensor in enumerate(tensors) if tensor.device.type != "cpu"]
    found = list(tensors)
    if len(away) < 2:
        for index in away:
            found[index] = tensors[index].cpu()
        return found
    raw = [tensors[index].contiguous().reshape(-1).view(torch.uint8) for index in away]
    parts = torch.cat(raw).cpu().split([len(part) for part in raw])
    for index, part in zip(away, parts, strict=True):
        # A copy of its own begins where any type may begin.
        found[index] = part.clone().view(tensors[index].dtype).view(tensors[index].shape)
    return found


def places(mask: Tensor, count: int) -> Tensor:
    """Where a mask [..., n] is true, ascending, for a `count` the host knows: int64 [..., count]; reads nothing."""
    if mask.device.type == "cpu" and mask.dim() == 1:
        return mask.nonzero()[:, 0]
    return mask.byte().argsort(dim=-1, descending=True, stable=True)[..., :count]
