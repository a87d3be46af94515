"""The benchmarks of a sweep file, and what is said of one's own data among them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from hero_ray.core.errors import ConfigError
from hero_ray.core.strict import Strict

OWN_DATA = "file:"


class TaskEntry(Strict):
    """One benchmark: its name, scoring flavour, and where its rows come from if not the default."""

    name: str
    flavour: str | None = None
    limit: int | None = Field(default=None, ge=1, lt=2**31)
    source: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _metric_is_the_flavour(cls, value: Any) -> Any:
        """`metric` is what the flavour of one's own data is called; benchmarks with rules of their own have none."""
        if not isinstance(value, Mapping) or "metric" not in value:
            return value
        rest = {key: one for key, one in value.items() if key != "metric"}
        name, metric = str(value.get("name")), value["metric"]
        if not name.startswith(OWN_DATA):
            raise ConfigError(f"task {name!r}: `metric` goes with {OWN_DATA}PATH; other benchmarks have a `flavour`")
        if rest.get("flavour") not in (None, metric):
            raise ConfigError(f"task {name!r}: metric {metric!r} and flavour {rest['flavour']!r}; give one")
        return rest | {"flavour": metric}


def for_own_data(document: dict[str, Any], metric: str | None = None, **source: bool) -> None:
    """Give every `file:` task of a document a metric, where it names none, and options of its source, in place.

    Raises:
        ConfigError: there is no such task.
    """
    more = {key: True for key, wanted in source.items() if wanted}
    if metric is None and not more:
        return
    given = listed(document.get("tasks") or ())
    entries: list[dict[str, Any]] = [{"name": entry} if isinstance(entry, str) else dict(entry) for entry in given]
    own = [entry for entry in entries if str(entry.get("name")).startswith(OWN_DATA)]
    if not own:
        options = [f"--{name.replace('_', '-')}" for name in (*(["metric"] if metric else []), *more)]
        raise ConfigError(f"{', '.join(options)} goes with a {OWN_DATA}PATH in tasks, and there is none")
    for entry in own:
        if metric is not None and not {"metric", "flavour"} & entry.keys():
            entry["metric"] = metric
        if more:
            entry["source"] = {**(entry.get("source") or {}), **more}
    document["tasks"] = entries


def listed(value: Any, separator: str = ",") -> list[Any]:
    """A list from a list, a comma-separated string, or one entry."""
    if isinstance(value, str):
        return [part.strip() for part in re.split(separator, value) if part.strip()]
    if isinstance(value, list | tuple):
        return list(value)
    return [value]
