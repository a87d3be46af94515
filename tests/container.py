"""What the image holds, read from its Dockerfile and the lock: programs, layers, the login shell's PATH.

Nothing here builds an image. A command of a manifest, a probe, the launcher or the page is held against it.
"""

from __future__ import annotations

import re
import shlex
from functools import cache
from importlib import metadata
from pathlib import Path

from packaging.utils import canonicalize_name

from tools import lock

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
BASE = frozenset(
    [
        "awk",
        "bash",
        "cat",
        "chmod",
        "chown",
        "cp",
        "cut",
        "date",
        "echo",
        "env",
        "false",
        "find",
        "grep",
        "gzip",
        "hostname",
        "id",
        "install",
        "kill",
        "ln",
        "ls",
        "mkdir",
        "mv",
        "printf",
        "pwd",
        "readlink",
        "rm",
        "sed",
        "sh",
        "sleep",
        "sort",
        "stat",
        "tail",
        "tar",
        "tee",
        "test",
        "touch",
        "tr",
        "true",
        "uname",
        "whoami",
    ]
)
"""What a shell and Debian's slim image bring, as far as anyone here asks for it. No wget, no curl, no ps, no ssh."""
APT = {"openssh-client": {"ssh", "scp", "ssh-keygen"}, "rsync": {"rsync"}, "wget": {"wget"}}
BUILTINS = frozenset(". : break cd continue export exit read set source trap ulimit unset wait".split())  # noqa: SIM905
KEYWORDS = frozenset("! do done elif else fi for if then until while { }".split())  # noqa: SIM905


def stages() -> dict[str, list[str]]:
    """Name of each stage to its instructions, the first word of each in front."""
    joined = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE))
    found: dict[str, list[str]] = {}
    for line in filter(None, joined.splitlines()):
        if start := re.match(r"FROM (\S+) AS (\S+)", line):
            found[start[2]] = [*found.get(start[1], [])]
        elif found:
            found[list(found)[-1]].append(line)
    return found


@cache
def programs() -> frozenset[str]:
    """Names that the running container's PATH answers to."""
    asked = [words for line in stages()["cpu"] for words in re.findall(r"apt-get install ([^&]*)", line)]
    packages = {word for words in asked for word in words.split() if not word.startswith("-")}
    assert packages <= APT.keys(), f"say in tests/container.py which programs these bring: {packages - APT.keys()}"
    locked = {canonicalize_name(n) for n in lock.versions((ROOT / "lock/runtime.txt").read_text(encoding="utf-8"))}
    scripts = {
        entry.name
        for distribution in metadata.distributions()
        if canonicalize_name(distribution.metadata["Name"]) in locked | {"hero-ray"}
        for entry in distribution.entry_points
        if entry.group == "console_scripts"
    }
    return BASE | {"python", "pip"} | scripts | frozenset().union(*(APT[name] for name in packages))


def called(command: str) -> set[str]:
    """Programs that a shell command calls, those in quoted scripts left out; Kubernetes fills in `$(NAME)` itself."""
    lexer = shlex.shlex(re.sub(r"\$\((\w+)\)", r"\1", command), posix=True, punctuation_chars="();<>|&\n")
    lexer.whitespace_split, lexer.commenters = True, ""
    lexer.whitespace = " \t"
    found, first, skip = set(), True, False
    for word in lexer:
        if set(word) <= set("();<>|&\n"):
            skip = "<" in word or ">" in word
            first = first if skip else True
        elif skip:
            skip = False
        elif first and word not in KEYWORDS and not re.match(r"\w+=", word):
            found.add(word)
            first = False
    return found - BUILTINS


def missing(command: str | list[str]) -> set[str]:
    """Programs of a command, or of a script given to a shell, that the image does not hold."""
    if isinstance(command, list):
        if Path(command[0]).name in ("bash", "sh"):
            return missing(next(word for word in command[1:] if not word.startswith("-")))
        return {command[0]} - programs()
    return {Path(word).name for word in called(command)} - programs()
