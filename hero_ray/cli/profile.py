"""The verb `profile`: speed, memory and cost of methods side by side, with a certificate."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hero_ray.cli import app
from hero_ray.cli.options import Attention, Db, Device, Engine, ModelArgs, model_pairs
from hero_ray.cli.show import Answer, show

if TYPE_CHECKING:
    from hero_ray.results.writer import Grid

Model = Annotated[str, typer.Option("--model", help="Name, hub id or folder; NAME:random for speed without weights.")]
Methods = Annotated[str, typer.Option("--methods", help="Comma-separated: full,hero:alpha=0.7,hired.")]
Budgets = Annotated[str, typer.Option("--budgets", help="Comma-separated: 0.4, 20%, drop=0.9, 576tok.")]
Batch = Annotated[int, typer.Option("--batch-size", min=1, help="Requests run together.")]
NewTokens = Annotated[int, typer.Option("--new-tokens", min=2, help="Fixed answer length; the end token is ignored.")]
Repeats = Annotated[int, typer.Option("--repeats", min=1, help="Timed runs of every picture.")]
Warmup = Annotated[int, typer.Option("--warmup", min=0, help="Discarded runs of every shape.")]
Sizes = Annotated[str, typer.Option("--image-sizes", help="Pictures to time with, as WIDTHxHEIGHT,...")]
Prompt = Annotated[str, typer.Option("--prompt", help="The user text asked of every picture.")]
Batches = Annotated[str, typer.Option("--batches", help="Batch sizes to sweep up to the out-of-memory point: 1,2,4,8.")]
Stock = Annotated[bool, typer.Option("--with-stock", help="Also time transformers' generate() on the same weights.")]
Roofline = Annotated[
    bool, typer.Option("--roofline", help="Also measure the device's peaks and what share is reached.")
]
Graphs = Annotated[bool, typer.Option("--graphs", help="Replay decode steps as CUDA graphs.")]
Energy = Annotated[bool, typer.Option("--energy", help="Also measure joules per request (NVML).")]
Base = Annotated[str, typer.Option("--budget-base", help="What budgets are a share of: real or grid.")]
Newlines = Annotated[str, typer.Option("--newline-policy", help="Newline tokens kept: unpadded_rows, none, ...")]
Dtype = Annotated[str | None, typer.Option("--dtype", help="float32, bfloat16 or float16.")]
Out = Annotated[
    Path | None, typer.Option("--output", "--out", help="Write JSONL here and, unless --db is given, nowhere else.")
]
Clients = Annotated[
    str, typer.Option("--clients", help="Load a server with so many clients at once instead: 1,8,32,64.")
]
Task = Annotated[
    str, typer.Option("--tasks", "--task", help="With --clients: the benchmark whose questions are asked.")
]
Requests = Annotated[
    int, typer.Option("--requests", min=1, help="With --clients: requests of a round (--repeats many).")
]
Questions = Annotated[int, typer.Option("--limit", min=1, help="With --clients: different questions at most.")]
Against = Annotated[
    str | None, typer.Option("--against", help="With --clients and an endpoint: the unpruned server, asked in turns.")
]
Stream = Annotated[
    bool | None,
    typer.Option("--stream/--whole", help="With --clients: answers piece by piece; default for endpoints alone."),
]


@app.command()
def profile(
    model: Model = "hero-tiny",
    methods: Methods = "full,hero",
    budgets: Budgets = "0.4,0.2,0.1",
    batch_size: Batch = 1,
    new_tokens: NewTokens = 16,
    repeats: Repeats = 10,
    warmup: Warmup = 3,
    image_sizes: Sizes = "640x480,480x640,672x672",
    prompt: Prompt = "Describe the image in detail.",
    batches: Batches = "",
    with_stock: Stock = False,
    roofline: Roofline = False,
    energy: Energy = False,
    graphs: Graphs = False,
    budget_base: Base = "real",
    newline_policy: Newlines = "unpadded_rows",
    device: Device = None,
    dtype: Dtype = None,
    attention: Attention = None,
    engine: Engine = None,
    model_args: ModelArgs = None,
    clients: Clients = "",
    task: Task = "synth-attribute",
    requests: Requests = 64,
    limit: Questions = 64,
    against: Against = None,
    stream: Stream = None,
    out: Out = None,
    db: Db = None,
) -> None:
    """Time methods side by side on one model: tokens, FLOPs, cache, memory, TTFT and TPOT, with a certificate.

    Every request runs alone and whole; pictures are cut and questions tokenised beforehand. Accuracy needs a sweep.
    With --clients a server is loaded instead, ours or any endpoint:URL: requests a second, TTFT and accuracy.
    """
    from hero_ray.core import config
    from hero_ray.profiling import job as room

    started = time.perf_counter()
    asked_for = {"device": device, "dtype": dtype, "attention": attention, "graphs": graphs or None, "engine": engine}
    loading = model_pairs(model_args) | {key: value for key, value in asked_for.items() if value is not None}
    built = config.build(
        {
            "models": [model],
            "methods": methods,
            "budgets": budgets,
            "tasks": [task if clients else room.BENCHMARK],
            "model_args": loading,
            "budget_base": budget_base,
            "newline_policy": newline_policy,
            "profile": {
                "batch_size": batch_size,
                "new_tokens": new_tokens,
                "warmup": warmup,
                "repeats": repeats,
            },
        }
    )
    if clients:
        from hero_ray.serve import load

        asked = load.LoadRequest(built, _numbers(clients, "clients"), requests, limit, against, stream)
        records = load.run(asked, lambda message: typer.echo(message, err=True))
        _finish(records, _load_tables(records), _load_said(records), out, db, started)
        return
    sizes, more = _sizes(image_sizes), _numbers(batches)
    job = room.ProfileJob(built, sizes, prompt, more, with_stock=with_stock, energy=energy, roofline=roofline)
    records = room.run(job, lambda message: typer.echo(message, err=True))
    _finish(records, _tables(records), _said(records), out, db, started)


def _finish(
    records: list[dict[str, Any]],
    tables: list[Grid],
    notes: list[str],
    out: Path | None,
    db: str | None,
    started: float,
) -> None:
    run_id = _keep(records, out, db)
    notes += [*([f"wrote {out}"] if out else []), *([f"stored as run {run_id}"] if run_id else [])]
    record: dict[str, Any] = {"records": len(records), "out": str(out) if out else None, "run_id": run_id}
    record["seconds"] = round(time.perf_counter() - started, 2)
    show(Answer(tables=[("", table) for table in tables], notes=notes, record=record))


def _tables(records: list[dict[str, Any]]) -> list[Grid]:
    from hero_ray.profiling import tables

    views = (tables.efficiency_table, tables.break_even_table, tables.paying_budget_table, tables.roofline_table)
    return [view(records) for view in views]


def _said(records: list[dict[str, Any]]) -> list[str]:
    """What was timed, and under what certificate."""
    lines = []
    if all(record["peak_memory_bytes"] is None for record in records):
        lines.append("Memory is n/a: a CPU's peak cannot be reset between requests.")
    certificate = records[0]["certificate"]
    lines.append(
        f"{certificate['device_name']}, {certificate['dtype']}, {certificate['attention']} attention, "
        f"{certificate['cache']} cache, {certificate['new_tokens']} new tokens, {certificate['warmup']} warm-up runs, "
        f"n = {records[0]['n']}, torch {certificate['torch']}, "
        f"{'random' if certificate['random_weights'] else 'trained'} weights; certificate {certificate['hash']}"
    )
    return lines


def _load_tables(records: list[dict[str, Any]]) -> list[Grid]:
    from hero_ray.profiling import load_tables

    return [load_tables.load_table(records), load_tables.pays_table(records)]


def _load_said(records: list[dict[str, Any]]) -> list[str]:
    certificate = records[0]["certificate"]
    engine = certificate["engine"] + (f" over vLLM {certificate['vllm']}" if "vllm" in certificate else "")
    return [
        f"{engine} on {certificate['device_name']}, {certificate['answers']} answers to "
        f"{certificate['questions']} questions of {certificate['benchmark']}, {certificate['rounds']} rounds of "
        f"{certificate['requests']} requests; certificate {certificate['hash']}"
    ]


def _keep(records: list[dict[str, Any]], out: Path | None, db: str | None) -> str | None:
    from hero_ray.profiling import job as room

    if out is not None:
        room.write_records(out, records)
        if db is None:
            return None
    from hero_ray.results.database import open_results
    from hero_ray.store import default_url

    return room.store_records(open_results(db or default_url()), records)


def _sizes(text: str) -> tuple[tuple[int, int], ...]:
    from hero_ray.core.errors import ConfigError

    sizes = []
    for part in filter(None, text.split(",")):
        width, _, height = part.strip().lower().partition("x")
        if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
            raise ConfigError(f"image size {part!r} is not WIDTHxHEIGHT in pixels, as in 640x480")
        sizes.append((int(width), int(height)))
    if not sizes:
        raise ConfigError("--image-sizes is empty; give at least one picture, as in 640x480")
    return tuple(sizes)


def _numbers(text: str, what: str = "batch sizes") -> tuple[int, ...]:
    from hero_ray.core.errors import ConfigError

    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdigit() and int(part) for part in parts):
        raise ConfigError(f"{what} {text!r} are not positive numbers, as in 1,2,4,8")
    return tuple(int(part) for part in parts)
