"""What a run ran on: commit, package versions, hardware."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from hero_ray.core.shipped import checkout

PACKAGES = ("hero-ray", "torch", "transformers", "tokenizers", "ray", "numpy", "pillow", "sqlalchemy", "datasets")


def git_commit() -> str | None:
    """The commit of the package's checkout, `+dirty` behind it when files differ; None outside a checkout.

    An image holds no checkout: its build leaves the commit in `HERO_RAY_GIT_COMMIT`.
    """
    if built := os.environ.get("HERO_RAY_GIT_COMMIT"):
        return built
    folder = checkout()
    if folder is None or not (folder / ".git").exists():
        return None  # git would go up and find whatever repository the installation lies in

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        return commit + ("+dirty" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def environment() -> dict[str, Any]:
    """Versions and hardware of this machine."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "gpus": _gpus(),
        "driver": _driver(),
        "packages": versions,
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _gpus() -> list[str]:
    import torch

    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def _driver() -> str | None:
    """Version of the NVIDIA kernel driver; None without one."""
    try:
        return Path("/sys/module/nvidia/version").read_text(encoding="utf-8").strip()
    except OSError:
        return None
