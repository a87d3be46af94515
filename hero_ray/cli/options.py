"""Options that several verbs share, and the reader of their KEY=VALUE lists."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hero_ray.core.errors import ConfigError

Db = Annotated[str | None, typer.Option("--db", help="Database URL; else HERO_RAY_DB, else ./hero_ray.db.")]
Limit = Annotated[int | None, typer.Option("--limit", help="First n documents of each benchmark.")]
Assign = Annotated[list[str] | None, typer.Option("--set", help="Any sweep key: --set profile.images=2.")]
ModelArgs = Annotated[str | None, typer.Option("--model-args", help="KEY=VALUE,...: dtype=bfloat16,max_tiles=6.")]
Engine = Annotated[str | None, typer.Option("--engine", help="Who answers: ours, vllm, or auto for both.")]
Until = Annotated[str | None, typer.Option("--until", help="decided: a cell gets no more answers once it is known.")]
RunName = Annotated[str | None, typer.Option("--run-id", "--run", help="Name of the run; made if not there.")]
Which = Annotated[str, typer.Argument(help="Run id, a prefix of one, or latest.")]
RunOption = Annotated[str | None, typer.Option("--run", help="The same as RUN_ID.")]
Address = Annotated[str | None, typer.Option("--address", help="Ray cluster; else one is started here.")]
Device = Annotated[str | None, typer.Option("--device", help="Default: CUDA where there is one.")]
Attention = Annotated[str | None, typer.Option("--attention", help="sdpa, flash_attention_2 or eager.")]


def using(engine: str | None) -> list[str]:
    """`--engine` as an assignment to the sweep file's `model_args`, whose other keys stay."""
    return [] if engine is None else [f"model_args.engine={engine}"]


def pairs(text: str | None, option: str = "--source") -> dict[str, str]:
    """`a=1,b=2` as a mapping. Raises `ConfigError` naming the part without a `=`."""
    parts = [part.partition("=") for part in (text or "").split(",") if part.strip()]
    for key, equals, _ in parts:
        if not equals or not key.strip():
            raise ConfigError(f"{option} {text!r}: {key.strip()!r} is not KEY=VALUE, as in max_tiles=6")
    return {key.strip(): value.strip() for key, _, value in parts}


def model_pairs(text: str | None) -> dict[str, Any]:
    """`--model-args` as a sweep file would hold them: whole numbers, true and false are none of text.

    Cells are named after these values, and one setting must not have two names.
    """
    known: dict[str, Any] = {"true": True, "false": False}
    return {
        key: int(value) if value.isdecimal() else known.get(value, value)
        for key, value in pairs(text, "--model-args").items()
    }
