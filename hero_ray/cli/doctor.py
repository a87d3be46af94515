"""The verb `doctor`: what this installation can do, what of it listens, and whether answers depend on their batch."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
import time
from dataclasses import asdict
from typing import Annotated, Any

import typer

from hero_ray.cli import app
from hero_ray.cli.options import Attention, Device
from hero_ray.cli.show import Answer, show
from hero_ray.core.errors import ConfigError
from hero_ray.core.version import __version__

PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "sentencepiece", "ray", "sqlalchemy", "flash-attn")

Model = Annotated[str | None, typer.Option("--model", help="Also certify a model: name, hub id, folder, NAME:random.")]
Dtypes = Annotated[str, typer.Option("--dtype", help="Comma-separated dtypes to certify; default: the device's.")]
Samples = Annotated[int, typer.Option("--samples", min=2, help="Answers compared in every setting.")]
AgainstStock = Annotated[
    bool, typer.Option("--against-stock", help="Compare the model with transformers' own class and processor.")
]
NewTokens = Annotated[int, typer.Option("--new-tokens", min=1, help="Longest answer compared.")]


@app.command()
def doctor(
    model: Model = None,
    dtype: Dtypes = "",
    samples: Samples = 8,
    new_tokens: NewTokens = 16,
    device: Device = None,
    attention: Attention = None,
    against_stock: AgainstStock = False,
) -> None:
    """Check the installation; with --model, how often answers change with what they are batched with.

    With --against-stock the model's pixel values, prompts, logits and greedy answers are compared with transformers'
    own; the exit code is 1 where they differ.
    """
    started = time.perf_counter()
    facts = environment()
    for key, value in facts.items():
        typer.echo(f"{key:14} {value}")
    added = plugins()
    for one in added:
        typer.echo(f"{'plug-in':14} {one['group']} {one['name']} of {one['distribution']}: {one['state']}")
    open_ports = listening()
    for port in open_ports:
        where = f"{port['address']}:{port['port']}"
        typer.echo(f"{'listens':14} {where:24} for {port['reach']}: {port['program']} (process {port['pid']})")
    certificates, checks = [], []
    asked: list[str | None] = [part.strip() for part in dtype.split(",") if part.strip()]
    if model is None and against_stock:
        raise ConfigError("--against-stock needs a model: --model NAME, hub id or folder")
    for name in (asked or [None]) if model is not None else []:
        if against_stock:
            checks.append(_compare(str(model), name, samples, device, attention))
        else:
            certificates.append(_certify(str(model), name, samples, new_tokens, device, attention))
    record: dict[str, Any] = {"environment": facts, "plugins": added, "listening": open_ports}
    record |= {"certificates": certificates, "against_stock": checks}
    show(Answer(record=record | {"seconds": round(time.perf_counter() - started, 2)}))
    raise typer.Exit(0 if all(check["is_equal"] for check in checks) else 1)


def environment() -> dict[str, Any]:
    """Versions and devices of this installation."""
    import torch

    from hero_ray.models.engines.installed import state
    from hero_ray.pipeline.provenance import installation

    facts: dict[str, Any] = {"hero-ray": __version__, "python": platform.python_version(), "platform": sys.platform}
    for package in PACKAGES:
        try:
            facts[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            facts[package] = "not installed"
    facts["vllm"] = state()
    versions = installation()
    facts["versions"] = versions["installed"]
    facts["lock"] = "not found" if versions["locked"] is None else "; ".join(versions["moved"]) or "same versions"
    facts["cuda"] = torch.cuda.is_available()
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
        facts["gpu_memory"] = f"{torch.cuda.get_device_properties(0).total_memory / 2**30:.0f} GiB"
        facts["bf16"] = torch.cuda.is_bf16_supported()
    facts["threads"] = torch.get_num_threads()
    return facts


def listening() -> list[dict[str, Any]]:
    """What of ours and of Ray listens on this machine, and whether beyond it; docs/serving.md says what should."""
    from hero_ray.pipeline.listening import listeners

    return [asdict(one) | {"reach": one.reach} for one in listeners()]


def plugins() -> list[dict[str, str]]:
    """What other packages add, with `state` "ok" or "broken: WHY"."""
    from hero_ray import benchmarks, methods

    return [
        {
            "group": plugin.group,
            "name": plugin.name,
            "value": plugin.value,
            "distribution": plugin.distribution,
            "code": plugin.code,
            "state": f"broken: {plugin.error}" if plugin.error else "ok",
        }
        for plugin in (*methods.foreign(), *benchmarks.foreign())
    ]


def _certify(
    model: str, dtype: str | None, samples: int, new_tokens: int, device: str | None, attention: str | None
) -> dict[str, Any]:
    from hero_ray import models
    from hero_ray.models.invariance import certify

    adapter = models.load(model, device=device, dtype=dtype, attention=attention)
    found = certify(adapter, samples, new_tokens)
    verdict = "answers do not depend on the batch" if found.is_invariant else "answers depend on the batch"
    typer.echo(
        f"{found.model} in {found.dtype} on {found.device}: {verdict}. Of {found.samples} answers change: "
        f"{found.batched:.1%} batched, {found.neighbours:.1%} with other neighbours, {found.shared:.1%} with prefix "
        f"reuse; first-token logits move by {found.logit_diff:.1e} (std {found.logit_std:.2f})."
    )
    return asdict(found)


def _compare(model: str, dtype: str | None, samples: int, device: str | None, attention: str | None) -> dict[str, Any]:
    from hero_ray import models
    from hero_ray.models.sources import find_folder
    from hero_ray.models.stock_check import against_stock, verdict

    if model.endswith(":random"):
        raise ConfigError(f"{model} has no weights of its own to compare; give a name, hub id or folder")
    adapter = models.load(model, device=device, dtype=dtype, attention=attention)
    found = against_stock(adapter, find_folder(model), samples)
    typer.echo(verdict(found))
    return asdict(found) | {"is_equal": found.is_equal}
