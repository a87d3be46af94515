"""The verb `list`: what there is to choose from."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import typer

from hero_ray.cli import app

What = Annotated[Literal["methods", "models", "tasks"], typer.Argument(help="methods, models or tasks.")]
AsJson = Annotated[bool, typer.Option("--json", help="The same as --format json.")]
Text = Annotated[Literal["text", "json"], typer.Option("--format", help="text, or json: one array.")]


_IN_LINE = ("name", "line", "stage", "text_aware", "paper", "family")


@app.command("list")
def list_(what: What = "methods", form: Text = "text", as_json: AsJson = False) -> None:
    """List methods (stage, what they read, defaults, paper), models or tasks; packages of one's own included."""
    entries = {"methods": _methods, "models": _models, "tasks": _tasks}[what]()
    if as_json or form == "json":
        typer.echo(json.dumps(entries))
        return
    width = max(len(entry["name"]) for entry in entries)
    for entry in entries:
        typer.echo(f"{entry['name']:<{width}}  {entry['line']}".rstrip())
        for key, value in entry.items():
            if key not in _IN_LINE:
                typer.echo(f"{'':<{width}}    {key.replace('_', ' ')}: {value}")


def _methods() -> list[dict[str, str]]:
    from hero_ray.methods.kit.catalogue import cards

    return [
        {
            "name": one.name,
            "line": f"{one.stage}, {'text-aware' if one.text_aware else 'text-free'}  {one.paper}",
            "stage": one.stage,
            "text_aware": "yes" if one.text_aware else "no",
            "reads": one.reads,
            "defaults": one.defaults,
            "variants": ", ".join(one.variants),
            "count_follows": one.budget,
            "paper": one.paper,
        }
        for one in cards()
    ]


def _models() -> list[dict[str, str]]:
    from hero_ray.models.registry import SPECS

    return [
        {"name": spec.name, "line": f"{spec.family}  {spec.source or 'embedded'}", "family": spec.family}
        for spec in SPECS.values()
    ]


def _tasks() -> list[dict[str, str]]:
    from hero_ray import benchmarks

    listed = []
    for name in benchmarks.names():
        task = benchmarks.get_class(name)
        aliases, flavours = ", ".join(task.aliases) or "none", ", ".join(task.flavours)
        listed.append({"name": name, "line": "", "aliases": aliases, "flavours": flavours})
    return listed
