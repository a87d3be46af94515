"""Make the lock anew from pyproject's ranges, and print what moved: `make lock`.

One resolution for every Python and platform, made by uv from metadata alone. `constraints.txt` lists its versions;
`lock/` holds the same lines with hashes, in the parts that are installed one by one:

    build.txt    pip, and what builds our wheel
    runtime.txt  what hero_ray and its extras import, but torch
    dev.txt      what tests and lint add
    cpu.txt      torch's CPU build, from PyTorch's own index: PyPI holds none for Linux
    cuda.txt     torch as PyPI holds it, the CUDA libraries that this build asks for, and NVML
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = ROOT / "lock"
VERSIONS = ROOT / "constraints.txt"
PACKAGE = ("pyproject.toml", "--extra", "all")
CUDA = re.compile(r"nvidia-.*|cuda-.*|triton")
CPU_INDEX = os.environ.get("TORCH_INDEX", "https://download.pytorch.org/whl/cpu")
UV = str(Path(sys.executable).with_name("uv"))
HEADER = "# Made by `make lock`, not by hand.\n"


def main(moves: list[str]) -> int:
    """Write the lock; `moves` are uv's options that say what may move (`--upgrade`, `--upgrade-package NAME`)."""
    before = versions(VERSIONS.read_text(encoding="utf-8"))
    everything = (*PACKAGE, "--extra", "energy", "--group", "dev", "--group", "build")
    found = compiled(*everything, "--generate-hashes", *moves, known=VERSIONS.read_text(encoding="utf-8"))
    lines = "".join(entry.partition("\n")[0].rstrip(" \\") + "\n" for entry in found.values())
    runtime, build = compiled(*PACKAGE, known=lines), compiled("--group", "build", known=lines)
    cuda = {name for name in found if CUDA.fullmatch(name)}
    needed = runtime.keys() - cuda - {"torch"}
    write("build.txt", found, build)
    write("runtime.txt", found, needed)
    write("dev.txt", found, found.keys() - needed - cuda - build.keys() - {"torch"})
    write("cuda.txt", found, cuda | {"torch"})
    after = versions(lines)
    cpu = f"torch=={after['torch']}+cpu"
    if cpu not in (PARTS / "cpu.txt").read_text(encoding="utf-8"):
        built = compiled("-", "--no-deps", "--generate-hashes", "--index-url", CPU_INDEX, given=cpu)
        write("cpu.txt", built, built)
    VERSIONS.write_text(HEADER + lines, encoding="utf-8")
    print("\n".join(moved(before, after)) or "nothing moved")
    return 0


def compiled(*what: str, known: str = "", given: str | None = None) -> dict[str, str]:
    """uv's resolution: name to its lines, hashes behind the first where they were asked for.

    Args:
        what: requirements, extras, groups and options of `uv pip compile`; `-` reads `given`.
        known: lines `name==version`, which uv keeps as long as the ranges and the options let it.
    """
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "lock.txt"
        target.write_text(known, encoding="utf-8")
        # One version for all Pythons (`fewest`), so that figures of two machines come from the same libraries.
        fixed = ("--universal", "--python-version", "3.11", "--fork-strategy", "fewest", "--no-header", "--no-annotate")
        command = [UV, "pip", "compile", "-q", *fixed, "--python", sys.executable, "-o", str(target), *what]
        subprocess.run(command, cwd=ROOT, input=given, text=True, check=True)
        return entries(target.read_text(encoding="utf-8"))


def entries(text: str) -> dict[str, str]:
    """Name to its lines in a requirements file without comments."""
    return {entry.partition("==")[0]: entry for entry in re.split(r"\n(?=\S)", text.strip())}


def write(part: str, found: dict[str, str], names: Iterable[str]) -> None:
    """Write one part of the lock: the entries of these names, by name."""
    text = "".join(f"{found[name]}\n" for name in sorted(names))
    (PARTS / part).write_text(HEADER + text, encoding="utf-8")


def versions(text: str) -> dict[str, str]:
    """Name to version of the lines `name==version ; marker`."""
    return dict(re.findall(r"^([^\s#]+)==(\S+)", text, re.MULTILINE))


def moved(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """One line `name old -> new` for each difference."""
    names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    return [f"{name} {before.get(name, 'absent')} -> {after.get(name, 'absent')}" for name in names]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
