"""What a run ran on: commit, installed versions beside the lock's, hardware."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Iterable
from importlib import metadata
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, canonicalize_version

from hero_ray import benchmarks, methods
from hero_ray.core.shipped import checkout, folder
from hero_ray.pipeline.hardware import driver, gpus, processor

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
        "processor": processor(),
        "cpus": os.cpu_count(),
        "gpus": gpus(),
        "driver": driver(),
        "packages": versions,
        **installation(),
    }


def plugins_of(method_names: Iterable[str], benchmark_names: Iterable[str]) -> dict[str, dict[str, str]]:
    """What of other packages a sweep uses: {"method NAME" or "benchmark NAME": {"package", "code"}}, where `package` is
    its distribution's name and version, and `code` the hash of its source that is in the ids of its cells."""
    asked = [(f"method {one.name}", one, one.name in set(method_names)) for one in methods.foreign() if not one.error]
    for one in benchmarks.foreign():
        if not one.error:
            asked.append((f"benchmark {one.loaded.name}", one, one.loaded.name in set(benchmark_names)))
    return {what: {"package": one.distribution, "code": one.code} for what, one, used in asked if used}


def installation() -> dict[str, Any]:
    """What is installed, beside the lock.

    Returns:
        `installed`: a hash of the names and versions of all installed packages but hero-ray, whose commit stands beside
        it, and pip. `locked`: whether none of them has another version than the lock's; None where no lock is found.
        `moved`: one text for each that has. What the lock does not name is in the hash only.
    """
    found = {name: version for name, version in installed().items() if name not in ("hero-ray", "pip")}
    known = locked()
    moved = [] if known is None else differences(found, known)
    lines = "\n".join(f"{name}=={found[name]}" for name in sorted(found))
    return {
        "installed": hashlib.sha256(lines.encode()).hexdigest()[:16],
        "locked": None if known is None else not moved,
        "moved": moved,
    }


def installed() -> dict[str, str]:
    """Version of every installed package by its normal name; of two copies the one that is imported."""
    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        about = distribution.metadata  # parsed anew whenever it is asked for
        if about["Name"]:  # a folder left half removed has none
            found.setdefault(canonicalize_name(about["Name"]), about["Version"])
    return found


def locked() -> dict[str, str] | None:
    """The lock's versions for this Python and platform, by normal name; None where the lock is not found."""
    place = folder("constraints.txt")
    if not place.is_file():
        return None
    wanted = [Requirement(line) for line in place.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    here = [one for one in wanted if one.marker is None or one.marker.evaluate()]
    return {canonicalize_name(one.name): str(one.specifier).removeprefix("==") for one in here}


def differences(found: dict[str, str], known: dict[str, str]) -> list[str]:
    """One text `name 2.0 (lock: 1.0)` for each package that is installed at another version than the lock's.

    A build's own suffix is no difference: torch `2.13.0+cpu` is the lock's `2.13.0`.
    """
    moved = []
    for name in sorted(found.keys() & known.keys()):
        if canonicalize_version(found[name].partition("+")[0]) != canonicalize_version(known[name]):
            moved.append(f"{name} {found[name]} (lock: {known[name]})")
    return moved
