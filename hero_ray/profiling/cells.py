"""Profile several methods of one model side by side: what `hero-ray profile` and a sweep's profile pass store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hero_ray.profiling import requests, stock
from hero_ray.profiling.certificate import certify
from hero_ray.profiling.energy import joules_per_call
from hero_ray.profiling.marks import Marks
from hero_ray.profiling.records import ProfileSettings, record, stock_record
from hero_ray.profiling.requests import Arrangement, Probe, ProfileItem
from hero_ray.profiling.survey import survey
from hero_ray.profiling.timing import TimedCall, take_turns

__all__ = ["ProfileSettings", "profile_cells"]


def profile_cells(
    adapter: Any,
    items: Sequence[ProfileItem],
    probes: Sequence[Probe],
    settings: ProfileSettings | None = None,
    progress: Callable[[str], None] = lambda message: None,
) -> list[dict[str, Any]]:
    """Time whole requests of every item on every probe, interleaved, and account for their tokens.

    Args:
        adapter: a loaded model with a public `runner`.
        items: methods and budgets; nothing is shared between them.
        probes: one or a few pictures with a question each.

    Returns:
        One JSON-able record per item with the columns of table `profiles`, the certificate and `details`.
    """
    settings = settings or ProfileSettings()
    arranged = [[requests.arrange(adapter, item, probe) for probe in probes] for item in items]
    captured = requests.captured_step(adapter)
    surveys = []
    for item, row in zip(items, arranged, strict=True):
        progress(f"survey {item.key}")
        surveyed = []
        for arrangement in row:
            if captured is not None:
                captured.release()  # buffers of another item are no memory of this one
            surveyed.append(survey(adapter, arrangement, settings.batch_size, settings.new_tokens))
        surveys.append(surveyed)
    if captured is not None:
        captured.reserve(len(items) * len(probes))
    calls = [[_timed(adapter, arrangement, settings) for arrangement in row] for row in arranged]
    if settings.stock:
        calls.append([stock.stock_call(adapter, probe, settings.batch_size, settings.new_tokens) for probe in probes])
    progress(f"timing {len(calls)} items")
    times = take_turns(calls, adapter.info.device, warmup=settings.warmup, repeats=settings.repeats)
    certificate = certify(
        adapter.info,
        batch_size=settings.batch_size,
        new_tokens=settings.new_tokens,
        warmup=settings.warmup,
        n=settings.repeats * len(probes),
        cache="preallocated" if captured is None else "fixed",
        cuda_graphs=captured is not None and adapter.info.device.startswith("cuda"),
    )
    records = []
    for item, row, seen, timed in zip(items, arranged, surveys, times[: len(items)], strict=True):
        joules = _energy(adapter, row[0], settings) if settings.energy else None
        records.append(record(adapter, item, seen, timed, settings, certificate, joules))
    if settings.stock:
        records.append(stock_record(adapter, probes, times[-1], settings, certificate))
    return records


def _timed(adapter: Any, arrangement: Arrangement, settings: ProfileSettings) -> TimedCall:
    def call(marks: Marks) -> None:
        requests.run_request(adapter, arrangement, settings.batch_size, settings.new_tokens, marks.stamp)

    return call


def _energy(adapter: Any, arrangement: Arrangement, settings: ProfileSettings) -> float | None:
    size, tokens = settings.batch_size, settings.new_tokens
    return joules_per_call(lambda: requests.run_request(adapter, arrangement, size, tokens), adapter.info.device)
