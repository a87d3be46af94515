"""The papers' tables as sweep files, and what one would cost, known from configurations alone.

Neither weights nor datasets are read: sizes come from the published architectures, row counts from the benchmarks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hero_ray import benchmarks, methods
from hero_ray.core.config import MethodEntry, SweepConfig, TaskEntry, build, read
from hero_ray.core.errors import ConfigError, DatasetError, InputError
from hero_ray.core.plan import MethodFact, ModelFact, TaskFact, cells
from hero_ray.core.types import Cell
from hero_ray.costs.ledger import ledger
from hero_ray.models.shapes import shape

PICTURES: Mapping[str, int] = {
    "vqav2_val": 40_504,
    "gqa": 398,
    "pope": 500,
    "mme": 1_187,
    "docvqa_val": 1_286,
    "mmbench_en_dev": 1_164,
    "textvqa_val": 3_166,
}
"""Distinct pictures where they are far fewer than questions; elsewhere every question counts as its own."""

UNCONFIRMED_ROWS: Mapping[str, int] = {"seedbench": 17_990, "realworldqa": 765, "gqa": 12_578}
"""Row counts that no source of ours confirms; good enough for a forecast."""

ANSWER_TOKENS = 4
PROMPT_TOKENS = 60
GPU_TFLOPS = 312.0
GPU_SHARE = 0.35
GPUS = 8
"""The forecast's machine: eight A100 (312 TFLOP/s dense bfloat16 each) at 35 %, an assumption and no measurement."""


@dataclass(frozen=True)
class Header:
    """What the comment atop a paper's sweep file says: `# Key: text` lines."""

    table: str
    needs: str
    hours: float
    offline: str


@dataclass(frozen=True)
class Forecast:
    """Cells, answers and petaFLOPs of one sweep file; `hours` on `GPUS` GPUs under the stated assumption."""

    cells: int
    answers: int
    encodes: int
    petaflops: float

    @property
    def hours(self) -> float:
        return self.petaflops * 1000 / (GPUS * GPU_TFLOPS * GPU_SHARE) / 3600


def header(path: Path) -> Header:
    """The header of a paper's sweep file.

    Raises:
        ConfigError: a line is missing.
    """
    text = path.read_text(encoding="utf-8")
    found = {key: value.strip() for key, value in re.findall(r"^# (Table|Needs|Hours|Offline): (.+)$", text, re.M)}
    if missing := {"Table", "Needs", "Hours", "Offline"} - found.keys():
        raise ConfigError(f"{path.name}: the header lacks {', '.join(sorted(missing))}")
    hours = re.match(r"about ([\d.]+)", found["Hours"])
    if hours is None:
        raise ConfigError(f"{path.name}: `# Hours:` must begin with `about NUMBER`")
    return Header(found["Table"], found["Needs"], float(hours[1]), found["Offline"])


def dry_run(config: SweepConfig) -> Forecast:
    """Plan a sweep as it would be planned with weights and data at hand, and add up its cost.

    Raises:
        InputError: a name, parameter or flavour that does not exist.
    """
    models = [_model_fact(name) for name in config.models]
    facts = [(entry, _method_fact(entry)) for entry in config.all_methods]
    opened = {task.name: _rows(task, config.limit) for task in config.tasks}
    tasks = [_task_fact(task) for task in config.tasks]
    planned = cells(config, models, facts, tasks)
    answers = {cell.id: opened[_named(config.tasks, cell.benchmark)] for cell in planned}
    pictures = sum(min(rows, PICTURES.get(benchmarks.resolve(name), rows)) for name, rows in opened.items())
    flops = 0.0
    for model in models:
        flops += _petaflops(model, [cell for cell in planned if cell.model == model.name], answers, pictures)
    return Forecast(len(planned), sum(answers.values()), pictures * len(models), flops)


def describe(config: SweepConfig, why: str) -> str | None:
    """A plan and its forecast for a sweep whose weights or data are not at hand; None where sizes are not known either.

    Args:
        why: what is missing, for the first line.
    """
    try:
        found = dry_run(config)
    except InputError:
        return None
    return "\n".join(
        (
            f"sweep {config.name}: planned from configurations alone, since {why}",
            f"{found.cells} cells of {', '.join(config.models)}; methods "
            f"{', '.join(dict.fromkeys(entry.name for entry in config.all_methods))}",
            f"{found.encodes} encodes instead of {found.answers} ({found.answers - found.encodes} saved)",
            f"about {found.petaflops:,.0f} PFLOP: {found.hours:.2g} hours on {GPUS} GPUs of {GPU_TFLOPS:g} TFLOP/s at "
            f"{GPU_SHARE:.0%}, an assumption and no measurement",
        )
    )


def load(path: Path) -> SweepConfig:
    """A validated sweep file."""
    return build(read(path))


def _named(tasks: Sequence[TaskEntry], benchmark: str) -> str:
    return next(task.name for task in tasks if benchmarks.resolve(task.name) == benchmark)


def _rows(task: TaskEntry, limit: int | None) -> int:
    limit = task.limit or limit
    cls = benchmarks.get_class(task.name)
    if task.name.startswith("synth-"):
        return sum(1 for _ in benchmarks.get(task.name, **task.source).samples(limit))
    source = getattr(cls, "source", None)
    rows: int | None = (source and source.rows) or UNCONFIRMED_ROWS.get(benchmarks.resolve(task.name))
    if rows is None:
        raise DatasetError(f"{task.name}: how many rows it has is not known, so its cost cannot be forecast")
    return min(rows, limit) if limit else rows


def _task_fact(task: TaskEntry) -> TaskFact:
    cls = benchmarks.get_class(task.name)
    flavour = task.flavour or cls.flavours[0]
    if flavour not in cls.flavours:
        raise ConfigError(f"{task.name} has no flavour {flavour!r}; it has {', '.join(cls.flavours)}")
    return TaskFact(benchmarks.resolve(task.name), flavour, "", cls.max_new_tokens)


def _method_fact(entry: MethodEntry) -> MethodFact:
    method = methods.create(entry.name, **entry.params, **({"variant": entry.variant} if entry.variant else {}))
    params = method.parameters()
    budgeted = method.fixed_budget
    return MethodFact(entry.name, method.variant, params, method.code_version, "seed" in params, budgeted)


def _model_fact(name: str) -> ModelFact:
    sizes = shape(name)
    patches = sizes.vision.tokens - 1
    largest = {"llava-next": 5 * patches, "llava-1.5": patches, "internvl2": 7 * patches // 4}[sizes.family]
    return ModelFact(name, sizes.family, "", "bfloat16", largest)


def _petaflops(model: ModelFact, planned: Sequence[Cell], answers: Mapping[str, int], pictures: int) -> float:
    sizes = shape(model.name)
    tokens = [max(1, round(cell.tokens or cell.retention_ratio * model.max_tokens)) for cell in planned]
    rows = ledger(sizes.name, tokens, PROMPT_TOKENS + ANSWER_TOKENS, views=1, dtype="bfloat16")
    fold = 4 if model.family == "internvl2" else 1
    views = max(1, model.max_tokens * fold // (sizes.vision.tokens - 1))
    encodes = pictures * views * (rows[0]["tflops_encoder"] or 0.0)
    return (encodes + sum(answers[c.id] * row["tflops_model"] for c, row in zip(planned, rows, strict=True))) / 1000
