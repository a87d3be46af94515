"""How large the images get, layer by layer, from the lock: `make image-report`.

Sizes are those of the locked packages as they lie installed here; one that is not installed, or in another version, is
named and not counted. Not counted either: the base image and Debian's packages, and what the registry's compression
spares. The last line is one JSON object, in bytes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"cpu": ("build", "runtime", "cpu"), "cuda": ("build", "runtime", "cuda")}
"""Parts of the lock that a variant's layer of packages is installed from, in the Dockerfile's order."""
LARGEST = 5


@dataclass
class Layer:
    """One layer of an image.

    Attributes:
        parts: name to bytes.
        missing: what the lock asks for and this machine does not hold.
    """

    name: str
    parts: dict[str, int] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        return sum(self.parts.values())


def locked(part: str) -> Iterator[Requirement]:
    """The requirements of one part of the lock that hold on this machine."""
    for line in (ROOT / "lock" / f"{part}.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith(("#", " ")):
            one = Requirement(line.rstrip(" \\"))
            if one.marker is None or one.marker.evaluate():
                yield one


def installed_bytes(one: Requirement) -> int | None:
    """Size of a locked package's files; None if it is not installed here in that version."""
    try:
        found = metadata.distribution(one.name)
    except metadata.PackageNotFoundError:
        return None
    if str(one.specifier) != f"=={found.version}":  # 2.13.0+cpu is another build of torch than 2.13.0
        return None
    return sum(file.size or 0 for file in found.files or ())  # as the wheel's own record has them


def packages(variant: str) -> Layer:
    """The layer that changes with the lock alone."""
    layer = Layer("packages")
    for part in PACKAGES[variant]:
        for one in locked(part):
            size = installed_bytes(one)
            if size is None:
                layer.missing.append(f"{one.name}{one.specifier}")
            else:
                layer.parts[one.name] = size
    return layer


def source() -> Layer:
    """The layer that changes with every commit: what .dockerignore sends."""
    layer = Layer("source")
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    left_out = [line for line in lines if line.startswith("**/")]
    for name in sorted(line[1:] for line in lines if line.startswith("!")):
        path = ROOT / name
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        kept = [file for file in files if not _ignored(file, left_out)]
        layer.parts[name] = sum(file.stat().st_size for file in kept)
    return layer


def _ignored(file: Path, patterns: list[str]) -> bool:
    relative = file.relative_to(ROOT)
    names = [relative.name, *relative.parts[:-1]]
    return any(Path(name).match(pattern.removeprefix("**/")) for pattern in patterns for name in names)


def main() -> int:
    """Print both variants; 0."""
    found = {variant: [packages(variant), source()] for variant in PACKAGES}
    for variant, layers in found.items():
        print(f"hero-ray {variant}")
        for layer in layers:
            largest = sorted(layer.parts.items(), key=lambda part: -part[1])[:LARGEST]
            named = ", ".join(f"{name} {size / 1e6:.0f}" for name, size in largest)
            print(f"  {layer.name:10} {layer.bytes / 1e6:7.0f} MB   ({named}, ...)")
            if layer.missing:
                print(f"  {'':10}           not counted, not installed here: {', '.join(layer.missing)}")
    totals = {variant: {layer.name: layer.bytes for layer in layers} for variant, layers in found.items()}
    missing = {variant: sum(len(layer.missing) for layer in layers) for variant, layers in found.items()}
    print(json.dumps({"name": "image-report", "bytes": totals, "not_counted": missing}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
