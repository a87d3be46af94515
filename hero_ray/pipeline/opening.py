"""A sweep's benchmarks: opened as the plan and the workers need them, and what of each makes a cell's identity."""

from __future__ import annotations

from collections.abc import Sequence

from hero_ray import benchmarks
from hero_ray.benchmarks.base import Benchmark
from hero_ray.benchmarks.dataset import DatasetBenchmark
from hero_ray.core.config import SweepConfig
from hero_ray.core.errors import ConfigError
from hero_ray.core.plan import TaskFact, digest
from hero_ray.core.tasks import TaskEntry
from hero_ray.core.types import Sample

NO_QUESTIONS = frozenset({"duts"})


def tasks_of(config: SweepConfig) -> tuple[TaskEntry, ...]:
    """The benchmarks of a sweep, each with the limit that holds for it: workers read as much data as the plan."""
    return tuple(task.model_copy(update={"limit": task.limit or config.limit}) for task in config.tasks)


def make_task(task: TaskEntry) -> Benchmark:
    """The benchmark object of one task entry; no row is read.

    Raises:
        ConfigError: a benchmark that asks no questions.
    """
    benchmark = benchmarks.get(task.name, flavour=task.flavour, **task.source)
    if benchmark.name in NO_QUESTIONS:
        raise ConfigError(f"{benchmark.name} asks no questions; it serves `hero-ray study`, not sweeps")
    if task.limit is not None and isinstance(benchmark, DatasetBenchmark):
        benchmark.only(task.limit)
    return benchmark


def open_task(task: TaskEntry) -> Benchmark:
    """`make_task`, with all that scoring needs at hand.

    Raises:
        ConfigError: a benchmark that asks no questions.
        JudgeError: a judge-based one without a judge.
    """
    benchmark = make_task(task)
    benchmark.require()
    return benchmark


def task_fact(benchmark: Benchmark, families: set[str], samples: Sequence[Sample] | None) -> TaskFact:
    """A benchmark's identity; its prompts enter as a hash over the first samples' texts, None where there are none."""
    if samples is None:
        return TaskFact(benchmark.name, benchmark.flavour, "", benchmark.max_new_tokens)
    mine = [sample for sample in samples if sample.benchmark == benchmark.name][:8]
    prompts = {family: digest([benchmark.prompt(sample, family) for sample in mine]) for family in sorted(families)}
    return TaskFact(
        benchmark.name,
        benchmark.flavour,
        benchmark.fingerprint(),
        benchmark.max_new_tokens,
        prompts,
        benchmarks.code_of(benchmark.name),
    )
