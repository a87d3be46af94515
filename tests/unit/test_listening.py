"""`hero-ray doctor` says what of ours and of Ray listens on this machine, and for whom."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hero_ray.cli import app, load_verbs
from hero_ray.pipeline import listening

pytestmark = pytest.mark.skipif(not listening.PROC.is_dir(), reason="needs /proc")
LISTEN = """
import socket, sys
held = [socket.create_server((host, 0), family=family) for host, family in (
    ("127.0.0.1", socket.AF_INET), ("0.0.0.0", socket.AF_INET), ("::1", socket.AF_INET6))]
print(*(each.getsockname()[1] for each in held), flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("/x/ray/core/src/ray/gcs/gcs_server --log_dir=/y", "Ray: control store"),
        ("/x/ray/core/src/ray/raylet/raylet --raylet_socket_name=z", "Ray: node"),
        ("python -u /x/ray/dashboard/agent.py --node-ip-address=1", "Ray: agent of a node"),
        ("python -u /x/ray/_private/runtime_env/agent/main.py", "Ray: agent of a node"),
        ("python /x/ray/dashboard/dashboard.py --host=127.0.0.1", "Ray: dashboard and Jobs API"),
        ("ray::ServeReplica:hero-ray:ModelReplica", "Ray: worker"),
        ("ray::ProxyActor", "Ray Serve: HTTP"),
        ("python -m streamlit run /x/dashboard/entry/app.py", "hero-ray dashboard"),
        ("python -m hero_ray serve", "hero-ray"),
        ("/x/bin/python /x/bin/hero-ray sweep", "hero-ray"),
        ("python -m hero_ray.nightly.schedule", "nightly scheduler"),
        ("nginx: master process", None),
    ],
)
def test_programs_are_known_by_their_commands(command: str, name: str | None) -> None:
    assert listening.program(command) == name


def test_the_doctor_shows_what_listens_and_for_whom(tmp_path: Path) -> None:
    script = tmp_path / "hero-ray"
    script.write_text(LISTEN)
    with subprocess.Popen(
        [sys.executable, str(script), "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as held:
        assert held.stdout is not None
        ports = [int(word) for word in held.stdout.readline().split()]
        found = {one.port: (one.address, one.reach) for one in listening.listeners() if one.pid == held.pid}
        told = [("127.0.0.1", "this machine"), ("0.0.0.0", "the network"), ("::1", "this machine")]
        assert found == dict(zip(ports, told, strict=True))
        load_verbs()
        done = CliRunner().invoke(app, ["doctor"])
        held.communicate("")
    assert done.exit_code == 0, done.output
    assert f"0.0.0.0:{ports[1]}" in done.output
    rows = json.loads(done.output.splitlines()[-1])["listening"]
    assert {one["port"] for one in rows if one["pid"] == held.pid} == set(ports)


def test_mapped_addresses_are_read_as_what_they_are() -> None:
    assert listening._address("0100007F") == "127.0.0.1"
    assert listening._address("0000000000000000FFFF00000100007F") == "127.0.0.1"
    assert listening._address("00000000000000000000000001000000") == "::1"
    assert listening._address("0" * 32) == "::"
