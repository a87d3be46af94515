"""Verb `init`: a commented sweep file for a model, a question about budgets and one's own data."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from hero_ray.cli import app
from hero_ray.cli.show import Answer, show
from hero_ray.core.shipped import sweep_file

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
TABLES = (".jsonl", ".parquet")
QUESTIONS = "questions.jsonl"
TEMPLATE = """\
# {name}: how few visual tokens does {model} need on {data}?
#
#   hero-ray sweep {file} --dry-run   what it would do; writes nothing
#   hero-ray sweep {file}             runs it; the same command again goes on where it stopped
#   hero-ray advise --max-loss {loss:g}       the cheapest cell shown to lose no more than that
name: {name}

# One or several: a name of `hero-ray list models`, a hub id, or a folder in a published layout.
models: [{model}]

# Methods under test (`hero-ray list methods`); parameters go behind a colon: "hero:alpha=0.7".
# full, random (3 seeds), spatial and downsample ride along: what beats none of them is not worth its code.
methods: [{methods}]

# Shares of the visual tokens kept; also 20tok (a number) or drop=0.9 (a share dropped).
budgets: [{budgets}]

# Benchmarks (`hero-ray list tasks`), and files of one's own as file:PATH, relative to where the command is run.
tasks: [{task}]

# With `until: decided` a cell gets no more answers once it is surely within `margin` points of the unpruned model,
# surely worse or surely dominated.
# until: decided
# margin: {loss:g}

# Where results go; else HERO_RAY_DB, else ./hero_ray.db.
# db: sqlite:///results.db

# Speed is measured after the answers; `enabled: false` skips it.
# profile: {{enabled: false}}
"""


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="Sweep file to write.")] = Path("sweep.yaml"),
    model: Annotated[str | None, typer.Option("--model", help="Name, hub id or folder.")] = None,
    data: Annotated[
        str | None, typer.Option("--data", help="Benchmark name, JSONL or Parquet file, or a folder of pictures.")
    ] = None,
    methods: Annotated[str | None, typer.Option("--methods", help="Comma-separated.")] = None,
    budgets: Annotated[str | None, typer.Option("--budgets", help="Comma-separated: 40%,20%,10%.")] = None,
    max_loss: Annotated[float | None, typer.Option("--max-loss", help="Points that may be lost.")] = None,
    metric: Annotated[str | None, typer.Option("--metric", help="How own data is scored: letter, anls, ...")] = None,
    like: Annotated[
        str | None, typer.Option("--like", help="Copy a shipped sweep file instead: demo, paper/hero-table-5, ...")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Write a commented sweep file, asking on a terminal for what is not given; or copy a shipped one, to change it."""
    from hero_ray.core.config import BETWEEN_METHODS
    from hero_ray.core.errors import InputError

    if path.exists() and not force:
        raise InputError(f"{path} is there already; give another name, or --force to write over it")
    if like is not None:
        others: dict[str, object] = {"--model": model, "--data": data, "--methods": methods, "--budgets": budgets}
        others |= {"--max-loss": max_loss, "--metric": metric}
        if given := [name for name, value in others.items() if value is not None]:
            raise InputError(
                f"--like {like} copies a file as it is; change it afterwards, or leave out {', '.join(given)}"
            )
        write(path, sweep_file(like).read_text(encoding="utf-8"))
        show(Answer([f"next: hero-ray sweep {path} --dry-run"], record={"path": str(path), "like": like}))
        return
    model = asked("Model", model, "hero-tiny")
    check_model(model)
    data = asked("Benchmark, data file or folder of pictures", data, "synth-attribute")
    chosen = asked("Methods under test", methods, "hero,hired,fastervlm")
    shares = asked("Budgets, shares of tokens kept", budgets, "40%,20%,10%")
    loss = points(asked("Points that may be lost", None if max_loss is None else f"{max_loss:g}", "1.0"))
    task, pictures = find_task(data)
    text = TEMPLATE.format(
        name=path.stem,
        file=path,
        model=model,
        data=data,
        loss=loss,
        methods=flow(BETWEEN_METHODS, chosen),
        budgets=flow(",", shares),
        task=f"{{name: {quoted(task)}, metric: {metric}}}" if metric else quoted(task),
    )
    check_sweep(text)
    write(path, text)
    if pictures:
        rows = [json.dumps({"image": name, "question": "", "answer": ""}, ensure_ascii=False) for name in pictures]
        write(Path(task.removeprefix("file:")), "\n".join(rows) + "\n", ": put a question and its answer into each row")
    show(Answer([f"next: hero-ray sweep {path} --dry-run"], record={"path": str(path), "model": model, "task": task}))


def write(path: Path, text: str, hint: str = "") -> None:
    """Write a file and say so.

    Raises:
        InputError: it cannot be written.
    """
    from hero_ray.core.errors import InputError

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as problem:
        raise InputError(f"cannot write {path}: {problem.strerror}") from None
    typer.echo(f"wrote {path}{hint}")


def asked(question: str, given: str | None, default: str) -> str:
    """What was given, else what a person at the terminal says, else the default."""
    if given is not None:
        return given
    return str(typer.prompt(question, default=default)) if sys.stdin.isatty() else default


def points(text: str) -> float:
    """A loss in points as somebody typed it.

    Raises:
        InputError: no number above 0.
    """
    from hero_ray.core.errors import InputError

    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < 100:
        raise InputError(f"points that may be lost: {text!r} is no number above 0 and below 100, as in 1.0")
    return found


def quoted(text: str) -> str:
    """`text` as YAML reads it back."""
    return json.dumps(text, ensure_ascii=False) if any(c in text for c in ":#{}[],&*!|>'\"%@`") else text


def flow(separator: str, text: str) -> str:
    """The entries of a list written with separators, as the inside of a YAML list."""
    from hero_ray.core.tasks import listed

    return ", ".join(one if one.endswith("%") else quoted(one) for one in listed(text, separator))


def check_model(name: str) -> None:
    """A name we know, a folder, or what could be a hub id.

    Raises:
        UnknownNameError: none of them.
    """
    from hero_ray.core.errors import UnknownNameError
    from hero_ray.models.registry import SPECS

    plain = name.removesuffix(":random")
    if plain not in SPECS and "/" not in plain and not Path(plain).is_dir():
        raise UnknownNameError("model", plain, SPECS)


def find_task(data: str) -> tuple[str, list[str]]:
    """The task's name, and the pictures of a folder that has no file of questions yet.

    Raises:
        InputError: a folder with neither questions nor pictures, or with several files of questions.
        UnknownNameError: no benchmark, file or folder of that name.
    """
    from hero_ray import benchmarks
    from hero_ray.core.errors import InputError

    place = Path(data.removeprefix("file:"))
    if place.is_dir():
        tables = sorted(one for one in place.iterdir() if one.suffix.lower() in TABLES)
        pictures = sorted(one.name for one in place.iterdir() if one.suffix.lower() in PICTURES)
        if len(tables) > 1:
            raise InputError(f"{place} holds several files of questions ({tables[0].name}, {tables[1].name}); name one")
        if tables:
            return f"file:{tables[0]}", []
        if not pictures:
            raise InputError(f"{place} holds no pictures ({' '.join(PICTURES)}) and no file of questions")
        return f"file:{place / QUESTIONS}", pictures
    if place.is_file():
        return f"file:{place}", []
    benchmarks.get_class(data)
    return data, []


def check_sweep(text: str) -> None:
    """Everything that can be said of the file without opening its data.

    Raises:
        ConfigError: a budget or metric that is none.
        UnknownNameError: a method that is none.
    """
    import yaml

    from hero_ray import methods
    from hero_ray.core import config
    from hero_ray.core.errors import UnknownNameError

    for entry in config.build(yaml.safe_load(text)).methods:
        if entry.name not in methods.names():
            raise UnknownNameError("method", entry.name, methods.names())
