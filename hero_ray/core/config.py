"""A sweep file, validated once: what was asked for, with every default made explicit.

Precedence: command line over file over defaults. Unknown keys are refused with a suggestion.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from hero_ray.core import presets
from hero_ray.core.budgets import BudgetEntry, parse_budget
from hero_ray.core.errors import ConfigError
from hero_ray.core.shipped import sweep_file
from hero_ray.core.strict import Strict, fault
from hero_ray.core.tasks import TaskEntry, listed
from hero_ray.core.text import brief, clean_text

BETWEEN_METHODS = r",(?![^,:]*=)"  # in `hero:alpha=0.7,variant=paper,hired` a comma before KEY= stays with its method

PRESET = "preset"
_SEEDS = 2**31
"""PostgreSQL's integers end below it, as do counts of rows."""
RIDERS = ("full", "random", "spatial", "downsample")
"""Methods that ride in every sweep unless `straw_men: false`: the unpruned model and the cheapest straw men."""


class MethodEntry(Strict):
    """One method with its parameters; several entries of one method compare variants.

    `tuned_on`, from a preset: benchmark -> fingerprint of the rows that the parameters were searched on.
    """

    name: str
    variant: str | None = None
    params: dict[str, Any] = Field(default_factory=dict)
    seeds: tuple[Annotated[int, Field(ge=-_SEEDS, lt=_SEEDS)], ...] | None = None
    budgets: tuple[BudgetEntry, ...] | None = None
    tuned_on: dict[str, str] = Field(default_factory=dict)

    @field_validator("budgets", mode="before")
    @classmethod
    def _budgets(cls, value: Any) -> Any:
        return None if value is None else tuple(parse_budget(entry) for entry in listed(value))


def parse_method(value: Any) -> MethodEntry:
    """Read `hero`, `hero:alpha=0.7,variant=paper`, `{hero: {alpha: 0.7}}` or `{name: hero, params: {...}}`.

    `preset:NAME` and `{preset: NAME, budgets: [...]}` take method and parameters from a preset file.
    """
    if isinstance(value, MethodEntry):
        return value
    if isinstance(value, Mapping) and PRESET in value:
        return _method_from_preset(**value)
    if isinstance(value, str) and value.startswith(f"{PRESET}:"):
        return _method_from_preset(value.partition(":")[2].strip())
    if isinstance(value, Mapping):
        if "name" in value:
            return MethodEntry(**value)
        if len(value) != 1:
            keys = ", ".join(str(key)[:40] for key in list(value)[:6])
            raise ConfigError(
                f"a method entry with the keys {keys} needs `name`, or exactly one key that is the method's name"
            )
        (name, params), *_ = value.items()
        return _method_from_params(str(name), dict(params or {}))
    name, _, rest = str(value).partition(":")
    parsed: dict[str, Any] = {}
    for pair in filter(None, rest.split(",")):
        key, equals, raw = pair.partition("=")
        if not equals:
            raise ConfigError(f"method parameter {brief(pair)} in {brief(value)} is not KEY=VALUE")
        parsed[key.strip()] = _one_value(raw, key.strip())
    return _method_from_params(name.strip(), parsed)


class _NoAliases(yaml.SafeLoader):
    """YAML of one line: it has no use for aliases, and each level of them doubles what it means."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) have no place in a value of one line")
        return super().compose_node(parent, index)


def _one_value(text: str, key: str) -> Any:
    """What stands behind `KEY=`.

    Raises:
        ConfigError: not YAML, or with aliases.
    """
    try:
        return yaml.load(text, Loader=_NoAliases)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"the value of {brief(key)}, {brief(text)}, is not YAML: {first[:200]}") from None


def _method_from_preset(preset: str, **more: Any) -> MethodEntry:

    if unknown := sorted(more.keys() - {"seeds", "budgets"}):
        raise ConfigError(
            f"preset {preset!r} with {unknown[0]!r}: beside a preset only `budgets` and `seeds` may stand"
        )
    found = presets.load(preset)
    tuned_on = found.tuned.fingerprints if found.tuned else {}
    return MethodEntry(name=found.method, variant=found.variant, params=found.params, tuned_on=tuned_on, **more)


def _method_from_params(name: str, params: dict[str, Any]) -> MethodEntry:
    special = {key: params.pop(key) for key in ("variant", "seeds", "budgets") if key in params}
    return MethodEntry(name=name, params=params, **special)


class ProfileSettings(Strict):
    """The profile pass of a sweep: whole requests timed alone, on the same machine."""

    enabled: bool = True
    images: int = Field(default=2, ge=1)
    repeats: int = Field(default=5, ge=1)
    warmup: int = Field(default=1, ge=0)
    new_tokens: int = Field(default=8, ge=2)
    batch_size: int = Field(default=1, ge=1)


class SweepConfig(Strict):
    """The whole request. Scientific fields decide cell ids; the others only how and where it runs."""

    name: Annotated[str, AfterValidator(clean_text)] = "sweep"
    models: tuple[str, ...] = ("hero-tiny",)
    model_args: dict[str, Any] = Field(default_factory=dict)
    methods: tuple[MethodEntry, ...] = (MethodEntry(name="hero"),)
    budgets: tuple[BudgetEntry, ...] = (BudgetEntry(ratio=0.4), BudgetEntry(ratio=0.2), BudgetEntry(ratio=0.1))
    tasks: tuple[TaskEntry, ...] = ()
    limit: int | None = Field(default=None, ge=1, lt=_SEEDS)
    seed: int = Field(default=0, ge=-_SEEDS, lt=_SEEDS)
    random_seeds: int = Field(default=3, ge=1, description="seeds of the random baseline")
    straw_men: bool = True
    baseline: str = "full"
    budget_base: Literal["real", "grid"] = "real"
    newline_policy: Literal["unpadded_rows", "nonempty_rows", "all_rows", "none"] = "unpadded_rows"
    max_new_tokens: int | None = Field(default=None, ge=1)
    include: tuple[dict[str, Any], ...] = ()
    exclude: tuple[dict[str, Any], ...] = ()
    profile: ProfileSettings = ProfileSettings()
    until: Literal["all", "decided"] = Field(default="all", description="decided: stop cells once they are known")
    margin: float = Field(default=1.0, gt=0, lt=100, description="points below the baseline that do not matter")

    batch_size: int = Field(default=64, ge=1, description="answers generated together")
    replicas: int | Literal["auto"] = "auto"
    gpus_per_replica: float | None = Field(default=None, ge=0)
    unit_timeout_s: float = Field(default=1800.0, gt=0)
    max_attempts: int = Field(default=3, ge=1)
    max_failed: int = Field(default=0, ge=0)
    db: str | None = None
    rows: Literal["auto", "database", "parquet"] = Field(default="auto", description="where answers go until the end")
    rows_folder: str | None = Field(default=None, description="shared folder for rows in Parquet files")
    output_path: str | None = None
    log_samples: bool = False

    @field_validator("models", mode="before")
    @classmethod
    def _models(cls, value: Any) -> Any:
        return tuple(listed(value))

    @field_validator("methods", mode="before")
    @classmethod
    def _methods(cls, value: Any) -> Any:
        return tuple(parse_method(entry) for entry in listed(value, BETWEEN_METHODS))

    @field_validator("budgets", mode="before")
    @classmethod
    def _budgets(cls, value: Any) -> Any:
        return tuple(parse_budget(entry) for entry in listed(value))

    @field_validator("tasks", mode="before")
    @classmethod
    def _tasks(cls, value: Any) -> Any:
        return tuple({"name": entry} if isinstance(entry, str) else entry for entry in listed(value))

    @model_validator(mode="after")
    def _something_to_do(self) -> SweepConfig:
        if self.seed + self.random_seeds > _SEEDS:
            raise ConfigError(f"seeds from {self.seed} on, {self.random_seeds} of them, end beyond {_SEEDS - 1}")
        if self.rows == "parquet" and self.until == "decided":
            raise ConfigError(
                "`rows: parquet` with `until: decided`: cells are decided by rows in the database; give one"
            )
        for field in ("models", "tasks", "budgets"):
            if not getattr(self, field):
                raise ConfigError(f"`{field}` is empty; a sweep needs at least one")
        return self

    @property
    def all_methods(self) -> tuple[MethodEntry, ...]:
        """Methods asked for, the straw men in front unless they are named or switched off."""
        named = {entry.name for entry in self.methods}
        riders = [MethodEntry(name=name) for name in RIDERS if self.straw_men and name not in named]
        return (*riders, *self.methods)


def build(document: Mapping[str, Any]) -> SweepConfig:
    """Validate a document.

    Raises:
        ConfigError: an unknown key (with the nearest known one) or a value of the wrong kind.
        BudgetError: a budget out of range.
    """
    document = dict(document)
    if (margin := document.pop("race_margin", None)) is not None:  # what earlier sweep files call it
        document |= {"until": "decided", "margin": margin}
    unknown = [key for key in document if key not in SweepConfig.model_fields]
    if unknown:
        close = difflib.get_close_matches(unknown[0], SweepConfig.model_fields, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else f" Known: {', '.join(SweepConfig.model_fields)}."
        raise ConfigError(f"unknown sweep key {str(unknown[0])[:60]!r}.{hint}")
    try:
        return SweepConfig(**document)
    except ValidationError as error:
        raise ConfigError(f"sweep key {fault(error)}") from None


def read(path: str | Path) -> dict[str, Any]:
    """A sweep file as a plain document; see `shipped.sweep_file` for what may stand for one.

    Raises:
        ConfigError: no such file, not YAML, or not a mapping.
    """
    if str(path).startswith("env:"):
        return _from_environment(str(path).removeprefix("env:"))
    file = sweep_file(path)
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{str(file)!r} is not valid YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{str(file)!r} must hold a mapping of sweep keys, not {type(document).__name__}")
    return document


def _from_environment(variable: str) -> dict[str, Any]:
    """A sweep handed over as JSON or YAML in an environment variable: how the service passes one to a job."""
    text = os.environ.get(variable)
    if text is None:
        raise ConfigError(f"environment variable {variable!r} holds no sweep; it is not set")
    document = yaml.safe_load(text)
    if not isinstance(document, dict):
        raise ConfigError(f"environment variable {variable!r} must hold a mapping of sweep keys")
    return document


def override(document: dict[str, Any], assignment: str) -> None:
    """Apply one `KEY=VALUE` (`profile.images=2`) to a document in place."""
    path, equals, raw = assignment.partition("=")
    if not equals:
        raise ConfigError(f"--set {assignment!r} is not KEY=VALUE")
    *parents, leaf = path.strip().replace("-", "_").split(".")
    node = document
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise ConfigError(f"--set {assignment!r}: {parent!r} is not a mapping")
    node[leaf] = _one_value(raw, path.strip())
