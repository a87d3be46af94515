"""The conditions under which a speed was measured; figures of unlike certificates are never compared."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from hero_ray.core.errors import NotComparableError
from hero_ray.core.shipped import checkout
from hero_ray.core.version import __version__
from hero_ray.models.base import ModelInfo

UNKNOWN = "unknown"
INFORMATION = frozenset({"n", "model", "revision", "hero_ray", "commit", "clock_mhz"})
"""Fields that may differ between comparable figures: the subject and the sample size, not the conditions."""


@dataclass(frozen=True)
class Certificate:
    """What must be said beside every speed.

    Attributes:
        device, device_name: `cpu` or `cuda`, and the product name.
        driver, cuda: versions, or "" on a CPU.
        max_clock_mhz, power_limit_w: limits of the device, 0 where unknown.
        threads: host threads torch may use.
        dtype, attention: of the model; `attention` is the kernel family asked for.
        engine: `hero_ray`, or `transformers` for stock `generate()`.
        cache: `preallocated`, `fixed` (attention masked to fixed buffers) or `dynamic` (copied at every step).
        cuda_graphs, compiled: whether decode steps were captured or compiled.
        batch_size, new_tokens, warmup: requests at once, fixed answer length, discarded runs per shape.
        random_weights: true architecture with random weights.
        n: timed requests behind the figure.
        clock_mhz: clock when the certificate was written, 0 where unknown.
    """

    device: str
    device_name: str
    driver: str
    cuda: str
    max_clock_mhz: int
    power_limit_w: float
    threads: int
    dtype: str
    attention: str
    engine: str
    cache: str
    cuda_graphs: bool
    compiled: bool
    batch_size: int
    new_tokens: int
    warmup: int
    random_weights: bool
    torch: str
    transformers: str
    python: str
    n: int
    model: str
    revision: str
    hero_ray: str
    commit: str
    clock_mhz: int

    @property
    def hash(self) -> str:
        """Equal for comparable figures, different for all others."""
        conditions = {key: value for key, value in asdict(self).items() if key not in INFORMATION}
        return hashlib.sha256(json.dumps(conditions, sort_keys=True).encode()).hexdigest()[:16]

    def as_dict(self) -> dict[str, Any]:
        """JSON form, the hash included."""
        return {**asdict(self), "hash": self.hash}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Certificate:
        """The inverse of `as_dict`.

        Raises:
            NotComparableError: an entry is missing, so nothing can be said about comparability.
        """
        names = [field.name for field in fields(cls)]
        missing = [name for name in names if name not in values]
        if missing:
            raise NotComparableError(f"the certificate lacks {', '.join(missing)}; measure again with this version")
        return cls(**{name: values[name] for name in names})


def require_comparable(certificates: Iterable[Certificate | Mapping[str, Any]]) -> None:
    """Refuse to put figures of unlike conditions side by side.

    Raises:
        NotComparableError: naming the conditions that differ and their values.
    """
    known = [entry if isinstance(entry, Certificate) else Certificate.from_dict(entry) for entry in certificates]
    if len({certificate.hash for certificate in known}) < 2:
        return
    differing = []
    for field in fields(Certificate):
        values = {getattr(certificate, field.name) for certificate in known}
        if field.name not in INFORMATION and len(values) > 1:
            differing.append(f"{field.name} ({', '.join(sorted(map(str, values)))})")
    raise NotComparableError(
        f"these figures were measured under different conditions: {'; '.join(differing)}. "
        "Compare them in separate tables, or measure them again under one certificate"
    )


def certify(
    info: ModelInfo,
    *,
    batch_size: int,
    new_tokens: int,
    warmup: int,
    n: int,
    engine: str = "hero_ray",
    cache: str = "preallocated",
    cuda_graphs: bool = False,
    compiled: bool = False,
) -> Certificate:
    """The certificate of figures about to be measured on this machine."""
    device = torch.device(info.device)
    machine = _cuda_facts(device) if device.type == "cuda" else _host_facts()
    return Certificate(
        device=device.type,
        device_name=machine["name"],
        driver=machine["driver"],
        cuda=(torch.version.cuda or "") if device.type == "cuda" else "",
        max_clock_mhz=machine["max_clock_mhz"],
        power_limit_w=machine["power_limit_w"],
        threads=torch.get_num_threads(),
        dtype=info.dtype,
        attention=info.attention,
        engine=engine,
        cache=cache,
        cuda_graphs=cuda_graphs,
        compiled=compiled,
        batch_size=batch_size,
        new_tokens=new_tokens,
        warmup=warmup,
        random_weights=info.random_weights,
        torch=torch.__version__,
        transformers=version_of("transformers"),
        python=platform.python_version(),
        n=n,
        model=info.name,
        revision=info.revision,
        hero_ray=__version__,
        commit=commit(),
        clock_mhz=machine["clock_mhz"],
    )


def device_name(device: str = "cpu") -> str:
    """Product name of a device: `cpu`, `cuda` or `cuda:N`."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else _processor()


def _cuda_facts(device: torch.device) -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(device)
    facts = {"name": properties.name, "driver": UNKNOWN, "max_clock_mhz": 0, "power_limit_w": 0.0, "clock_mhz": 0}
    query = "driver_version,clocks.max.sm,power.limit,clocks.sm"
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits", f"--id=GPU-{properties.uuid}"]
    answer = _output(command).split(",")
    if len(answer) == 4:
        driver, max_clock, power, clock = (part.strip() for part in answer)
        facts |= {
            "driver": driver,
            "max_clock_mhz": int(_number(max_clock)),
            "power_limit_w": _number(power),
            "clock_mhz": int(_number(clock)),
        }
    return facts


def _host_facts() -> dict[str, Any]:
    return {"name": _processor(), "driver": "", "max_clock_mhz": 0, "power_limit_w": 0.0, "clock_mhz": 0}


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or UNKNOWN


def commit() -> str:
    """Commit of the working tree hero_ray runs from, `+` behind it if files differ; outside one the image's, or ""."""
    folder = checkout()
    if folder is None or not (folder / ".git").exists():
        return os.environ.get("HERO_RAY_GIT_COMMIT", "")
    head = _output(["git", "-C", str(folder), "rev-parse", "--short=12", "HEAD"])
    changed = _output(["git", "-C", str(folder), "status", "--porcelain", "--untracked-files=no"])
    return head + ("+" if head and changed else "")


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0  # nvidia-smi prints [N/A] for what a device does not tell


def version_of(package: str) -> str:
    """Of an installed package; "" where it is not."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
