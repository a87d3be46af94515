"""What of vLLM is installed here and what stands in its way, without importing it."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Mapping

from packaging.requirements import Requirement
from packaging.version import Version

from hero_ray.core.engines import DISTRIBUTIONS

_WITH_TORCH = ("torchvision", "torchaudio", "torchcodec")
"""What vLLM brings along and a text model never asks for; built for another torch, importing it fails."""


def version_of(name: str) -> str | None:
    """The installed version of a distribution, None where there is none."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def hindrances() -> list[str]:
    """Why a vLLM that is installed would not start beside this torch, each with what to do."""
    found = []
    torch = version_of("torch")
    for name in DISTRIBUTIONS:
        for text in (importlib.metadata.requires(name) or ()) if version_of(name) else ():
            wanted = Requirement(text)
            if wanted.name == "torch" and torch and not wanted.specifier.contains(torch, prereleases=True):
                found.append(f"{name} {version_of(name)} wants torch{wanted.specifier}, here is {torch}")
    cpu_build = torch is not None and Version(torch).local == "cpu"
    odd = [name for name in _WITH_TORCH if (held := version_of(name)) and Version(held).local != "cpu"]
    if cpu_build and odd:
        found.append(
            f"{', '.join(odd)} is built for CUDA beside torch's CPU build, and fails when imported (operator "
            f"torchvision::nms does not exist): pip uninstall {' '.join(odd)}; hero_ray does not need it"
        )
    return found


def is_plugin() -> bool:
    """Whether vLLM's own processes, which start without us, would find the classes of `weights`."""
    found = importlib.metadata.entry_points(group="vllm.general_plugins")
    return any(entry.value.startswith("hero_ray.") for entry in found)


def state(environment: Mapping[str, str] = os.environ) -> str:
    """vLLM in one line, for `hero-ray doctor`: version, what is missing, flags that are set."""
    held = next((name for name in DISTRIBUTIONS if version_of(name)), None)
    if held is None:
        return "not installed (engine=vllm needs it: docs/engines.md)"
    flags = [f"{key}={value}" for key, value in sorted(environment.items()) if key.startswith("VLLM_")]
    return "; ".join([f"{version_of(held)} ({held})", *hindrances(), *flags])
