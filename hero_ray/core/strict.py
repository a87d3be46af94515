"""What every record read from a file is built on."""

from pydantic import BaseModel, ConfigDict, ValidationError


class Strict(BaseModel):
    """Frozen, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def fault(error: ValidationError) -> str:
    """The first thing that is wrong with a record, in words: key, what is expected, what stands there.

    A file may hold secrets, and be another file than was meant: numbers that stand there are shown, of anything else
    the kind, and nothing of a key that does not belong there.
    """
    first = error.errors()[0]
    where = ".".join(str(part)[:60] for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"`{where}` is unknown"
    if first["type"] == "missing":
        return f"`{where}` is missing"
    given = first.get("input")
    shown = repr(given)[:40] if given is None or isinstance(given, bool | int | float) else f"a {type(given).__name__}"
    return f"`{where}`: {first['msg']} (got {shown})"
