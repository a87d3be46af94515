"""What the plan must know of models, methods and benchmarks, found out without loading any weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hero_ray import benchmarks, methods, models
from hero_ray.benchmarks import sizes
from hero_ray.benchmarks.base import Benchmark
from hero_ray.core import hub
from hero_ray.core.config import MethodEntry, SweepConfig
from hero_ray.core.encoded import Needs, VisionInfo
from hero_ray.core.engine_args import EngineArgs
from hero_ray.core.engines import COPIED, HOW, OURS, engine_of, prefix_of, vllm_version
from hero_ray.core.errors import CheckpointError, ConfigError, UnknownNameError
from hero_ray.core.plan import ENDPOINT, MethodFact, ModelFact, Unit, cells, digest, split_unit, sweep_hash, units
from hero_ray.core.tasks import TaskEntry
from hero_ray.core.types import Cell, Sample
from hero_ray.costs.sharing import check_shares
from hero_ray.engine.endpoint import Endpoint, is_endpoint
from hero_ray.methods.base import Method
from hero_ray.models.asking import shown_prompt, worded_anew
from hero_ray.models.checkpoints.plausible import read_config
from hero_ray.models.checkpoints.revision import revision
from hero_ray.models.registry import SPECS, WITHOUT_CLS, foreign
from hero_ray.models.shapes import limited, shape
from hero_ray.models.sources import find_clip, find_folder, is_clip
from hero_ray.models.supported import check_for_vllm
from hero_ray.pipeline.hardware import cuda_here
from hero_ray.pipeline.opening import make_task, open_task, task_fact, tasks_of

MAX_SAMPLES_PER_UNIT = 64
"""Beyond this a picture's questions are cut into several units, so that one unit never holds a replica for long."""


@dataclass(frozen=True)
class Plan:
    """A sweep, resolved: everything an execution needs and nothing that depends on where it runs.

    Attributes:
        asked: benchmark -> questions it asks each of its cells.
        pictures: distinct pictures of all benchmarks together.
        hash: "" where the plan was made without weights and data; it has no units and samples then.
        commits: of every repository of the hub that was read: {"model:ID" or "dataset:ID": commit}.
    """

    config: SweepConfig
    models: tuple[ModelFact, ...]
    tasks: tuple[TaskEntry, ...]
    benchmarks: dict[str, Benchmark]
    cells: tuple[Cell, ...]
    units: tuple[Unit, ...]
    samples: tuple[Sample, ...]
    asked: Mapping[str, int]
    pictures: int
    hash: str
    commits: Mapping[str, str] = field(default_factory=dict)

    def cells_of(self, model: str) -> list[Cell]:
        return [cell for cell in self.cells if cell.model == model]

    @property
    def cautions(self) -> list[str]:
        """What readers of the scores must know: methods whose settings were searched on the rows they are scored on,
        and what stands in for a CLS token where a tower has none."""
        lines = [
            f"Caution: {model.name}'s vision tower has no CLS token; for {', '.join(read)} the mean over its patches "
            "stands in (docs/models.md)"
            for model in self.models
            if model.family in WITHOUT_CLS and (read := self._reading_cls())
        ]
        for entry in self.config.methods:
            shared = sorted(entry.tuned_on.keys() & self.benchmarks.keys())
            if same := [name for name in shared if self.benchmarks[name].fingerprint() == entry.tuned_on[name]]:
                lines.append(
                    f"Caution: {entry.name} runs with a preset that was searched on the very rows of "
                    f"{', '.join(same)} scored here; its scores there are too good. Tune on another split."
                )
        return lines

    def _reading_cls(self) -> list[str]:
        """Methods that look at the vision tower's CLS token."""
        read = (entry for entry in self.config.all_methods if _method(entry).needs(VisionInfo(48, 47)).cls)
        return list(dict.fromkeys(entry.name for entry in read))

    @property
    def expected(self) -> dict[str, int]:
        """Samples each cell should end with."""
        return {cell.id: self.asked.get(cell.benchmark, 0) for cell in self.cells}


def make_plan(
    config: SweepConfig,
    model_facts: Sequence[ModelFact] | None = None,
    at_hand: bool = True,
    named: Callable[[], None] = lambda: None,
) -> Plan:
    """Resolve names, parameters and datasets into cells and units.

    Args:
        config: the validated sweep.
        model_facts: known already, for models that come from a loader of one's own.
        at_hand: whether weights and data are. Without them sizes come from the published architectures and row counts
            from the benchmarks: the plan can be described and forecast, not run.
        named: called once every name and parameter is known to be good; rows are read after it.

    Raises:
        InputError: an unknown name, a parameter out of range, a dataset that cannot be read, or nothing left to do.
    """
    with hub.pinned() as commits:
        return replace(_make_plan(config, model_facts, at_hand, named), commits=dict(commits))


def _make_plan(
    config: SweepConfig, model_facts: Sequence[ModelFact] | None, at_hand: bool, named: Callable[[], None]
) -> Plan:
    methods.foreign(), benchmarks.foreign()  # who has a broken plug-in hears of it here, once, not from the workers
    method_facts = [(entry, method_fact(entry)) for entry in config.all_methods]
    if model_facts is None:
        on_gpu = bool(config.gpus_per_replica) or cuda_here()
        with_clip = any(fact.reads_clip for _, fact in method_facts)
        model_facts = [
            endpoint_fact(name, config.model_args)
            if is_endpoint(name)
            else (
                model_fact(name, config.model_args, on_gpu, with_clip)
                if at_hand
                else published_fact(name, config.model_args)
            )
            for name in config.models
        ]
    EngineArgs.asked(engine_of(config.model_args), config.model_args.get("engine_args")).check_gpus(
        float(config.gpus_per_replica or 0)
    )
    limited = tasks_of(config)
    opened = {task.name: open_task(task) if at_hand else make_task(task) for task in limited}
    by_name = {benchmark.name: benchmark for benchmark in opened.values()}
    named()
    limits = {opened[task.name]: task.limit for task in limited}
    samples = [sample for one, limit in limits.items() for sample in one.samples(limit=limit)] if at_hand else []
    asked = Counter(sample.benchmark for sample in samples)
    pictures = len({sample.image_key for sample in samples})
    if not at_hand:
        asked = Counter({one.name: sizes.questions(one, limit) for one, limit in limits.items()})
        pictures = sum(sizes.pictures(name, count) for name, count in asked.items())
    families = {fact.family for fact in model_facts}
    tasks = [task_fact(benchmark, families, samples if at_hand else None) for benchmark in by_name.values()]
    planned = cells(config, model_facts, method_facts, tasks)
    keys = {name: digest(sorted(s.key for s in samples if s.benchmark == name)) for name in by_name}
    return Plan(
        config=config,
        models=tuple(model_facts),
        tasks=limited,
        benchmarks=by_name,
        cells=tuple(planned),
        units=tuple(part for unit in units(samples) for part in split_unit(unit, MAX_SAMPLES_PER_UNIT)),
        samples=tuple(samples),
        asked=asked,
        pictures=pictures,
        hash=sweep_hash(config, planned, keys) if at_hand else "",
    )


def _method(entry: MethodEntry) -> Method:
    return methods.create(entry.name, **entry.params, **({"variant": entry.variant} if entry.variant else {}))


def method_fact(entry: MethodEntry) -> MethodFact:
    """Resolve one method entry to its variant and every hyper-parameter."""
    method = _method(entry)
    params, needs = method.parameters(), method.needs(VisionInfo(48, 47))
    return MethodFact(
        name=entry.name,
        variant=method.variant,
        params=params,
        code_version=methods.code_of(method),
        seeded="seed" in params,
        budgeted=method.fixed_budget,
        straw_man=method.straw_man,
        reads_clip=reads_clip(needs),
        inside=method.stage == "in-llm",
        reads_blocks=bool(needs.llm_attention),
    )


def reads_clip(needs: Needs) -> bool:
    """Whether a method looks at CLIP's text side, or at what CLIP makes of the picture."""
    return bool(needs.clip or "projected" in needs.cls_embedding)


def model_fact(name: str, arguments: Mapping[str, Any], on_gpu: bool = False, with_clip: bool = False) -> ModelFact:
    """Identity of a model from its configuration and weight hashes, no weights loaded.

    The dtype is decided here, once, so that replicas on unlike machines cannot disagree about it.

    Args:
        with_clip: a method of the sweep reads CLIP, which is fetched now: its absence is said before Ray starts.

    Raises:
        ConfigError: random weights, whose answers mean nothing, or a model that does not divide over its cards.
        UnknownNameError, CheckpointError: no such model, or not one of the supported families.
        ParameterError, MissingExtraError: an engine nobody knows, or vLLM where it is not installed.
    """
    if name.endswith(":random"):
        raise ConfigError(
            f"{name} has random weights: its answers mean nothing, so accuracy is refused. "
            f"Measure its speed with: hero-ray profile --model {name}"
        )
    folder = find_folder(name)
    found = shape(name) if name in models.names() else shape(str(folder))
    options = {key: value for key, value in arguments.items() if key not in ("device", "dtype", *HOW)}
    if prefix_of(arguments) == COPIED:  # as if it had not been said
        options.pop("prefix", None)
    engine = engine_of(arguments)
    if engine != OURS:
        check_for_vllm(read_config(folder), folder)
        check_shares(name, found.language, EngineArgs.asked(engine, arguments.get("engine_args")))
    if "style" in options:
        shown_prompt(name, "TEXT", options["style"])  # a style that is not there is known now
    elif wording := worded_anew(name):
        options["prompt"] = digest(wording)
    return ModelFact(
        name=name,
        family=found.family,
        revision=revision(folder),
        dtype=str(arguments.get("dtype") or ("bfloat16" if on_gpu else "float32")),
        max_tokens=limited(found, options).largest,
        options=options,
        clip=_clip_hash(name, folder, found.family, arguments) if with_clip else "",
        engine=engine,
        engine_version="" if engine == OURS else vllm_version(),
    )


def _clip_hash(name: str, folder: Path, family: str, arguments: Mapping[str, Any]) -> str:
    """Weight hash of the CLIP beside a model; "" where there is none, or where the model's own hash covers it."""
    source = clip_source(name, folder, family, arguments)
    if source is None or Path(source).parent == folder:
        return ""
    try:
        return revision(find_folder(source, is_clip))
    except CheckpointError as error:
        raise CheckpointError(
            f"{error}. Methods that read CLIP need it beside {name}: give --model-args clip=FOLDER, or leave them out"
        ) from error


def clip_source(name: str, folder: Path | None, family: str, arguments: Mapping[str, Any]) -> str | None:
    """Where the CLIP that methods read beside a model (`folder`, if at hand) comes from; None where there is none."""
    chosen = SPECS.get(name) or foreign(name, family)
    return find_clip(chosen, folder, arguments.get("clip"), arguments.get("clip_vision", "tower"))


def sample_prompts(plan: Plan) -> dict[str, str]:
    """Each model's whole prompt around the plan's first question (without data, around `TEXT`), `<image>` where the
    picture stands. Models that come from a loader of someone's own are left out."""
    first = plan.samples[0] if plan.samples else None
    found = {}
    with hub.pinned(plan.commits):
        for model in plan.models:
            if is_endpoint(model.name):
                continue  # the server puts its own template around a question
            text = "TEXT" if first is None else plan.benchmarks[first.benchmark].prompt(first, model.family)
            try:
                found[model.name] = shown_prompt(model.name, text, plan.config.model_args.get("style"))
            except (CheckpointError, UnknownNameError):
                continue
    return found


def endpoint_fact(name: str, arguments: Mapping[str, Any]) -> ModelFact:
    """Identity of a server: the model it says it serves, and the flag it prunes by; how fast it is asked is no part.

    Raises:
        ConfigError: not allowed, or an argument it does not have. EndpointError: it cannot be asked which.
    """
    endpoint = Endpoint.of(name, arguments)
    return ModelFact(name, ENDPOINT, endpoint.find_served(), "n/a", 1, endpoint.naming)


def published_fact(name: str, arguments: Mapping[str, Any]) -> ModelFact:
    """What the published architecture alone tells of a model.

    Raises:
        UnknownNameError, CheckpointError: its sizes are not known.
        ConfigError: it does not divide over the cards its engine is to be shared out over.
    """
    found, engine = shape(name), engine_of(arguments)
    if engine != OURS:
        check_shares(name, found.language, EngineArgs.asked(engine, arguments.get("engine_args")))
    return ModelFact(name, found.family, "", "bfloat16", found.largest, engine=engine)
