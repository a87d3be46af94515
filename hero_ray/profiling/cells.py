"""Profile several methods of one model side by side: what `hero-ray profile` and a sweep's profile pass store."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from typing import Any

from hero_ray.core.config import ProfileSettings
from hero_ray.engine.cut import Pruning
from hero_ray.models.base import Adapter
from hero_ray.profiling import stock
from hero_ray.profiling.certificate import certify
from hero_ray.profiling.energy import joules_per_call
from hero_ray.profiling.marks import Marks
from hero_ray.profiling.records import record, stock_record
from hero_ray.profiling.requests import Arrangement, Probe, arrange, run_request
from hero_ray.profiling.roofline import Peaks
from hero_ray.profiling.survey import Encodes, Survey, survey
from hero_ray.profiling.timing import TimedCall, finished, turns

SURVEYED = "warming up"


def profile_cells(
    adapter: Adapter,
    items: Mapping[str, Pruning],
    probes: Sequence[Probe],
    settings: ProfileSettings,
    progress: Callable[[str], object] = lambda message: None,
    **more: Any,
) -> list[dict[str, Any]]:
    """`profiling`, gone through to the end; `progress` is told of every step."""
    return finished(profiling(adapter, items, probes, settings, **more), progress)


def profiling(
    adapter: Adapter,
    items: Mapping[str, Pruning],
    probes: Sequence[Probe],
    settings: ProfileSettings,
    *,
    with_stock: bool = False,
    energy: bool = False,
    peaks: Peaks | None = None,
) -> Generator[str, None, list[dict[str, Any]]]:
    """Time whole requests of every item on every probe, interleaved, and account for their tokens.

    Args:
        items: by the key of its record; nothing is shared between them.
        probes: one or a few pictures with a question each.
        with_stock: time transformers' own `generate()` as one more, interleaved contender.
        energy: also measure joules per request, where the device has a counter.
        peaks: the device's measured peaks; with them every record gets its rooflines.

    Yields:
        What is done, before it is begun; `SURVEYED` in front of the first thing that wants the machine to itself.

    Returns:
        One JSON-able record per item with the columns of table `profiles`, the certificate and `details`.
    """
    size, new_tokens, captured = settings.batch_size, settings.new_tokens, adapter.decoder.step
    arranged = [[arrange(adapter, pruning, probe) for probe in probes] for pruning in items.values()]
    surveys: list[list[Survey]] = []
    encodes: Encodes = {}
    for key, row in zip(items, arranged, strict=True):
        yield f"survey {key}"
        surveys.append([])
        for arrangement in row:
            if captured is not None:
                captured.release()  # buffers of another item are no memory of this one
            surveys[-1].append(survey(adapter, arrangement, size, new_tokens, encodes))
    if captured is not None:
        captured.reserve(len(items) * len(probes))
    calls = [[timed(adapter, arrangement, settings) for arrangement in row] for row in arranged]
    if with_stock:
        calls.append([stock.stock_call(adapter, probe, size, new_tokens) for probe in probes])
    yield SURVEYED
    times = yield from turns(calls, adapter.info.device, warmup=settings.warmup, repeats=settings.repeats)
    certificate = certify(
        adapter.info,
        batch_size=size,
        new_tokens=new_tokens,
        warmup=settings.warmup,
        n=settings.repeats * len(probes),
        cache="preallocated" if captured is None else "fixed",
        cuda_graphs=captured is not None and adapter.info.device.startswith("cuda"),
    )
    records = []
    for (key, pruning), row, seen, spans in zip(items.items(), arranged, surveys, times[: len(items)], strict=True):
        request = partial(run_request, adapter, row[0], size, new_tokens)
        joules = joules_per_call(request, adapter.info.device) if energy else None
        records.append(record(adapter, key, pruning, seen, spans, certificate, joules, peaks))
    if with_stock:
        records.append(stock_record(adapter, probes, times[-1], certificate))
    return records


def timed(adapter: Adapter, arrangement: Arrangement, settings: ProfileSettings) -> TimedCall:
    """One request that stamps the ends of its stages."""

    def call(marks: Marks) -> None:
        marks.stamp("start")
        run_request(adapter, arrangement, settings.batch_size, settings.new_tokens, marks.around)

    return call
