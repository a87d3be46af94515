"""Time pruning methods side by side: `hero-ray profile --model llava-next-7b:random --out speeds.jsonl`.

Needs torch and transformers only: with `--out` and without `--db` no database is opened, and Ray is never used, so it
runs on a bare GPU box. The file is read into a database later with `hero-ray import`.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hero_ray.core.config import SweepConfig
from hero_ray.core.engines import OURS, engine_of
from hero_ray.core.errors import InputError, ParameterError
from hero_ray.core.plan import FULL, digest
from hero_ray.core.types import Cell

if TYPE_CHECKING:
    from hero_ray.engine.cut import Pruning
    from hero_ray.profiling.requests import Probe

KIND, FORMAT = "profile", 1
BENCHMARK = "profile"
"""Stands where a cell names its benchmark: these cells have figures and no answers."""


@dataclass(frozen=True)
class ProfileJob:
    """What to time on one model.

    Attributes:
        config: model, methods, budgets, budget base and newline policy, as in a sweep, and how to time in `profile`.
        image_sizes: (width, height) of the pictures to time with.
        prompt: the user text asked of every picture.
        batches: batch sizes to try on top of the first, up to the out-of-memory point.
        with_stock, energy: as `profile_cells` takes them.
        roofline: also measure the device's peaks for the rooflines.
    """

    config: SweepConfig
    image_sizes: tuple[tuple[int, int], ...] = ((640, 480), (480, 640), (672, 672))
    prompt: str = "Describe the image in detail."
    batches: tuple[int, ...] = ()
    with_stock: bool = False
    energy: bool = False
    roofline: bool = False


def run(job: ProfileJob, progress: Callable[[str], None] = lambda message: None) -> list[dict[str, Any]]:
    """Profile every method at every budget on one model; one JSON-able record each.

    All items together at the settings' batch size, then the batch sweep on the first picture.
    """
    from hero_ray.models import load
    from hero_ray.profiling.batches import sweep_batches
    from hero_ray.profiling.cells import profile_cells
    from hero_ray.profiling.roofline import measure_peaks

    if (engine := engine_of(job.config.model_args)) != OURS:
        raise ParameterError(
            f"engine={engine}: profile times our own blocks, stage by stage; `python -m perf.engines` times both"
        )
    (name,) = job.config.models
    progress(f"loading {name}")
    adapter, peaks = load(name, **job.config.model_args), None
    if job.roofline:
        progress("measuring the device's peaks")
        peaks = measure_peaks(adapter.info.device, adapter.info.dtype)
    settings, items, probes = job.config.profile, prunings_of(job.config), make_probes(job.image_sizes, job.prompt)
    measure = partial(profile_cells, energy=job.energy, peaks=peaks)
    records = measure(adapter, items, probes, settings, progress, with_stock=job.with_stock)
    others = [size for size in job.batches if size != settings.batch_size]
    if others:
        records += sweep_batches(adapter, items, probes[0], others, settings, progress, measure=measure)
    return written(adapter, records)


def written(adapter: Any, records: Sequence[dict[str, Any]], **more: Any) -> list[dict[str, Any]]:
    """Records as a file holds them: with their format, their model's family and where they break even."""
    from hero_ray.profiling.tables import with_break_even

    origin = {"revision": adapter.info.revision, "family": adapter.info.family, **more}
    return [{"kind": KIND, "format": FORMAT, **origin, **record} for record in with_break_even(records, FULL)]


def prunings_of(config: SweepConfig) -> dict[str, Pruning]:
    """The sweep's methods at its budgets, by label; `full` once and in front."""
    from hero_ray.engine.cut import Pruning
    from hero_ray.methods import create

    base, policy = config.budget_base, config.newline_policy
    found = {f"{FULL}@100%": Pruning(create(FULL), 1.0, None, base, policy)}
    for entry in config.methods:
        if entry.name != FULL:
            given = {**entry.params, **({"variant": entry.variant} if entry.variant else {})}
            label = ",".join([entry.name, *(f"{key}={value}" for key, value in given.items())])
            for budget in entry.budgets or config.budgets:
                pruning = Pruning(create(entry.name, **given), budget.ratio, budget.tokens, base, policy)
                found[f"{label}@{budget.label}"] = pruning
    return found


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
        raise InputError(f"no profile file at {str(path)!r}; write one with: hero-ray profile --out {path}")
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
    except (OSError, ValueError, RecursionError):  # ValueError: no UTF-8, no JSON, a path with a NUL
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
        "benchmark": {"name": record.get("benchmark", BENCHMARK)},
    }
    return Cell(
        id=digest(spec),
        model=record["model"],
        method=record["method"],
        variant=record["variant"],
        params=params,
        retention_ratio=record["retention_ratio"],
        benchmark=record.get("benchmark", BENCHMARK),
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
