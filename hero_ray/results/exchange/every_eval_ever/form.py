"""Names, places and the published schema of Every Eval Ever's files."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from hero_ray.core.errors import DatasetError
from hero_ray.core.text import brief
from hero_ray.results.exchange.lmms_export import safe_name

VERSION = "0.3.0"
OURS = "hero_ray"
"""Beginning of our own keys in the format's free fields, whose values have to be texts."""
CELL_KEY, RUN_KEY, ROW_KEY, METRIC_KEY, PROFILES_KEY = (
    f"{OURS}_{name}" for name in ("cell", "run", "row", "metric", "profiles")
)
Kind = Literal["eval", "instance_level_eval"]


def identity(*parts: str) -> str:
    """A UUID of version 4, as the format's paths want it, that is the same for the same parts."""
    return str(uuid.UUID(bytes=hashlib.sha256("\n".join(parts).encode()).digest()[:16], version=4))


def place(collection: str, model: str, name: str) -> Path:
    """`data/COLLECTION/DEVELOPER/MODEL/NAME`."""
    developer, _, short = model_id(model).rpartition("/")
    return Path("data", safe_name(collection), safe_name(developer), safe_name(short), name)


def model_id(model: str) -> str:
    """DEVELOPER/MODEL: a hub's id as it is, of a folder its name, and whatever has no developer is under ours."""
    if model.startswith((".", "/", "~")) or model.count("/") > 1:
        model = Path(model).name
    return model if "/" in model else f"{OURS}/{model}"


@cache
def _validator(kind: Kind) -> Any:
    from jsonschema import Draft7Validator

    text = files(__package__).joinpath(f"{kind}.schema.json").read_text(encoding="utf-8")
    return Draft7Validator(json.loads(text))


def check(document: Any, kind: Kind, where: str) -> None:
    """Hold a document against the published schema; an instance of a shape that passed before passes.

    Raises:
        DatasetError: the first fault, with its place.
    """
    shape = _shape(document) if kind == "instance_level_eval" else None
    if shape is not None and shape in _PASSED:
        return
    faults = sorted(_validator(kind).iter_errors(document), key=lambda error: list(map(str, error.path)))
    if not faults:
        _PASSED.add(shape)
        return
    path = "/".join(map(str, faults[0].absolute_path)) or "the whole"
    raise DatasetError(f"{where}: not Every Eval Ever {VERSION}: {path}: {brief(faults[0].message)}")


_PASSED: set[Any] = set()
SEEN_BY_SHAPE = {
    *("$schema", "version", "type", "description", "required", "additionalProperties", "properties", "items"),
    *("enum", "minimum", "const", "not", "allOf", "if", "then"),
}
"""Words of the instance schema; none but `enum` and `const` (of `interaction_type`) and `minimum` looks at values."""


def _shape(value: Any, key: str = "") -> Any:
    """All of an instance that its schema looks at: keys, kinds of values, numbers below 0 and 1, the interaction. To
    hold each of 100,000 lines against it costs minutes, to compare shapes seconds."""
    if isinstance(value, dict):
        return tuple((name, _shape(value[name], str(name))) for name in sorted(value))
    if isinstance(value, list):
        return frozenset(_shape(item) for item in value), "list"
    if isinstance(value, bool) or value is None:
        return type(value)
    if isinstance(value, int | float):
        return float(value).is_integer(), value >= 0, value >= 1
    return value if key == "interaction_type" else str


def sample_hash(raw: str, reference: list[str]) -> str:
    """The format's own recipe, equal for equal questions whoever writes them."""
    text = json.dumps({"raw": raw, "reference": reference}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Free fields: texts as they are, everything else as JSON, nothing for None."""
    found = {name: value for name, value in values.items() if value is not None}
    return {name: value if isinstance(value, str) else dumps(value) for name, value in found.items()}


_LINE_ENDS = {ord(end): f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"}


def dumps(value: Any) -> str:
    """One line of JSON, for readers too that end a line wherever Unicode does."""
    text = json.dumps(value, ensure_ascii=False, default=str, separators=(",", ":"))
    return text.translate(_LINE_ENDS)
