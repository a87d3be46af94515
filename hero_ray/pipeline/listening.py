"""Which of our processes, and of Ray's, listen on this machine, and for whom. Linux only: it reads /proc."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
_LISTENS = "0A"
PROGRAMS = (
    (r"gcs_server( |$)", "Ray: control store"),
    (r"raylet( |$)", "Ray: node"),
    (r"runtime_env/agent/|dashboard/agent\.py|ray::(Dashboard|RuntimeEnv)Agent", "Ray: agent of a node"),
    (r"dashboard/(dashboard|.*subprocesses.*)\.py", "Ray: dashboard and Jobs API"),
    (r"ray::Proxy|ray::.*ProxyActor", "Ray Serve: HTTP"),
    (r"ray::|default_worker\.py", "Ray: worker"),
    (r"ray/util/client/server", "Ray: client server"),
    (r"log_monitor\.py|autoscaler|monitor\.py", "Ray: monitor"),
    (r"streamlit run .*dashboard/entry/app\.py", "hero-ray dashboard"),
    (r"hero_ray\.nightly\.schedule", "nightly scheduler"),
    (r"(hero-ray|hero_ray(\.sweep)?)( |$)", "hero-ray"),
)
"""What a command line tells of a process; the first that fits."""


@dataclass(frozen=True)
class Listener:
    """One TCP socket that accepts connections.

    Attributes:
        reach: `this machine` for loopback, else `the network`.
    """

    address: str
    port: int
    pid: int
    program: str

    @property
    def reach(self) -> str:
        """Who can reach it, a firewall aside."""
        return "this machine" if ipaddress.ip_address(self.address).is_loopback else "the network"


def program(command: str) -> str | None:
    """What a process is to us by its command line; None if it is nothing of ours."""
    return next((name for pattern, name in PROGRAMS if re.search(pattern, command)), None)


def listeners() -> list[Listener]:
    """Sockets of our programs and of Ray's that this account may look at, by port."""
    found, sockets = set(), dict(_sockets())
    for folder in PROC.glob("[0-9]*"):
        with suppress(OSError):  # gone meanwhile, or somebody else's
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            name = program(command)
            for link in (folder / "fd").iterdir() if name else ():
                with suppress(OSError):
                    held = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(link))
                    if name and held and held[1] in sockets:
                        found.add(Listener(*sockets[held[1]], int(folder.name), name))
    return sorted(found, key=lambda one: (one.port, one.address, one.pid))


def _sockets() -> Iterator[tuple[str, tuple[str, int]]]:
    """Inode to (address, port) of every listening TCP socket."""
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in (PROC / "net" / table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENS:
                    host, _, port = fields[1].partition(":")
                    yield fields[9], (_address(host), int(port, 16))


def _address(text: str) -> str:
    """The kernel writes an address as 32-bit words in the machine's byte order."""
    words = [bytes.fromhex(text[at : at + 8])[::-1] for at in range(0, len(text), 8)]
    found = ipaddress.ip_address(b"".join(words))
    mapped = getattr(found, "ipv4_mapped", None)
    return str(mapped or found)
