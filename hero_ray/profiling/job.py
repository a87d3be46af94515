"""Time pruning methods side by side: `hero-ray profile --model llava-next-7b:random --out speeds.jsonl`.

Needs torch and transformers only: with `--out` and without `--db` no database is opened, and Ray is never used, so it
runs on a bare GPU box. The file is read into a database later with `hero-ray import`.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hero_ray.core.config import BudgetEntry, MethodEntry, SweepConfig
from hero_ray.core.errors import InputError
from hero_ray.core.plan import FULL, digest
from hero_ray.core.types import Cell

if TYPE_CHECKING:
    from hero_ray.profiling.records import ProfileSettings
    from hero_ray.profiling.requests import Probe, ProfileItem

KIND, FORMAT = "profile", 1
BENCHMARK = "profile"
"""Stands where a cell names its benchmark: these cells have figures and no answers."""


@dataclass(frozen=True)
class ProfileJob:
    """What to time on one model.

    Attributes:
        config: model, methods, budgets, budget base and newline policy, as in a sweep.
        settings: batch size, new tokens, warm-up, repeats, and what to measure besides.
        image_sizes: (width, height) of the pictures to time with.
        prompt: the user text asked of every picture.
        batches: batch sizes to try on top of `settings.batch_size`, up to the out-of-memory point.
        measure_peaks: also measure the device's peaks for the rooflines.
    """

    config: SweepConfig
    settings: ProfileSettings
    image_sizes: tuple[tuple[int, int], ...] = ((640, 480), (480, 640), (672, 672))
    prompt: str = "Describe the image in detail."
    batches: tuple[int, ...] = ()
    measure_peaks: bool = False


def run(job: ProfileJob, progress: Callable[[str], None] = lambda message: None) -> list[dict[str, Any]]:
    """Profile every method at every budget on one model; one JSON-able record each."""
    from hero_ray.models import load
    from hero_ray.profiling.roofline import measure_peaks
    from hero_ray.profiling.tables import with_break_even

    (name,) = job.config.models
    progress(f"loading {name}")
    adapter = load(name, **job.config.model_args)
    settings = job.settings
    if job.measure_peaks:
        progress("measuring the device's peaks")
        settings = replace(settings, peaks=measure_peaks(adapter.info.device, adapter.info.dtype))
    items = items_of(adapter, job.config)
    probes = make_probes(job.image_sizes, job.prompt)
    records = profile(adapter, items, probes, settings, job.batches, progress)
    revision = {"revision": adapter.info.revision, "family": adapter.info.family}
    return [{"kind": KIND, "format": FORMAT, **revision, **record} for record in with_break_even(records, FULL)]


def profile(
    adapter: Any,
    items: Sequence[ProfileItem],
    probes: Sequence[Probe],
    settings: ProfileSettings,
    batches: Sequence[int],
    progress: Callable[[str], None],
) -> list[dict[str, Any]]:
    """All items together at the settings' batch size, then the batch sweep on the first probe."""
    from hero_ray.profiling.batches import sweep_batches
    from hero_ray.profiling.cells import profile_cells

    records = profile_cells(adapter, items, probes, settings, progress)
    others = [size for size in batches if size != settings.batch_size]
    if others:
        records += sweep_batches(adapter, items, probes[0], others, replace(settings, stock=False), progress)
    return records


def items_of(adapter: Any, config: SweepConfig) -> list[ProfileItem]:
    """The sweep's methods and budgets as the profiling room takes them; `full` once and in front."""
    entries = [entry for entry in config.methods if entry.name != FULL]
    items = [item_of(adapter, MethodEntry(name=FULL), BudgetEntry(ratio=1.0), config)]
    for entry in entries:
        for budget in entry.budgets or config.budgets:
            items.append(item_of(adapter, entry, budget, config))
    return items


def item_of(adapter: Any, entry: MethodEntry, budget: BudgetEntry, config: SweepConfig) -> ProfileItem:
    """One method at one budget, as callables: the profiling room knows no method."""
    from hero_ray.methods import create
    from hero_ray.profiling.requests import ProfileItem

    given = dict(entry.params) | ({"variant": entry.variant} if entry.variant else {})
    method = create(entry.name, **given)
    label = entry.name + "".join(f",{key}={value}" for key, value in given.items())
    image = method.stage == "image"
    return ProfileItem(
        key=f"{label}@{budget.label}",
        method=entry.name,
        retention_ratio=budget.ratio if budget.ratio is not None else 1.0,
        tokens=budget.tokens,
        base=config.budget_base,
        variant=method.variant,
        params=method.parameters(),
        needs=method.needs(adapter.vision),
        select=None if image or entry.name == FULL else method.select,
        pruner=method.pruner_for if method.stage == "in-llm" else None,
        plan=method.choose if image else None,
        positions=method.positions,
        newline_policy=config.newline_policy,
    )


def make_probes(sizes: Iterable[tuple[int, int]], prompt: str) -> list[Probe]:
    """Seeded noise pictures: speed depends on their size, never on what they show."""
    import numpy as np
    from PIL import Image

    from hero_ray.profiling.requests import Probe

    probes = []
    for number, (width, height) in enumerate(sizes):
        pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
        probes.append(Probe(Image.fromarray(pixels), prompt, prompt, f"noise-{width}x{height}-{number}"))
    return probes


def write_records(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """One record per line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record, sort_keys=True) + "\n" for record in records), encoding="utf-8")


def read_records(path: Path) -> list[dict[str, Any]]:
    """Records of a file written by `write_records`.

    Raises:
        InputError: no such file, or lines that are no profile records of this format.
    """
    if not path.is_file():
        raise InputError(
            f"no profile file at {str(path)!r}; write one with: python -m hero_ray.profiling.job --out {path}"
        )
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{path}, line {number} is not JSON: {error.msg}") from None
        if not isinstance(record, dict) or (record.get("kind"), record.get("format")) != (KIND, FORMAT):
            raise InputError(f"{path}, line {number} is no profile record of format {FORMAT}; write the file again")
        records.append(record)
    return records


def is_profile_file(path: Path) -> bool:
    """Whether a file begins with a profile record (and not with another tool's samples)."""
    try:
        with path.open(encoding="utf-8") as lines:
            first = json.loads(lines.readline())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError):
        return False
    return isinstance(first, dict) and first.get("kind") == KIND


def cell_of(record: Mapping[str, Any]) -> Cell:
    """The cell a record belongs to; equal content gives an equal id in every database."""
    certificate, budget = record["certificate"], dict(record["budget"])
    params = dict(record["params"])
    spec = {
        "model": {
            "name": record["model"],
            "family": record["family"],
            "revision": record["revision"],
            "dtype": certificate["dtype"],
        },
        "method": {"name": record["method"], "variant": record["variant"], "params": params},
        "budget": {"ratio": record["retention_ratio"], "tokens": budget["tokens"], "base": budget["base"]},
        "newline_policy": budget["newline_policy"],
        "benchmark": {"name": BENCHMARK},
    }
    return Cell(
        id=digest(spec),
        model=record["model"],
        method=record["method"],
        variant=record["variant"],
        params=params,
        retention_ratio=record["retention_ratio"],
        benchmark=BENCHMARK,
        flavour="",
        tokens=budget["tokens"],
        seed=int(params.get("seed", 0)),
        spec=spec,
    )


def store_records(store: Any, records: Sequence[Mapping[str, Any]], trigger: str = "cli") -> str:
    """Put records into a database as one complete run; storing the same records again changes nothing.

    Args:
        store: an open `hero_ray.store.Store`.

    Returns:
        The run's id.
    """
    content = digest([dict(record) for record in records], 32)
    run_id = str(uuid.uuid5(uuid.NAMESPACE_OID, content))
    first = records[0]["certificate"]
    cells = {cell.id: cell for cell in map(cell_of, records)}
    models = sorted({record["model"] for record in records})
    store.create_run(run_id, "profile", {"models": models}, content, first, first["commit"] or None, trigger)
    store.add_cells(run_id, list(cells.values()), dict.fromkeys(cells, 0))
    for record in records:
        store.write_profile(run_id, cell_of(record).id, record)
    store.set_status(run_id, "complete")
    return run_id
