"""A head as KubeRay would run it, a process in place of the container: its command, its user, a root it cannot write.

The probes are asked by HTTP with and without the token. Of the command only sizes and ports are this machine's.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests import kuberay_pods
from tests.golden import make_rendered
from tests.machine import free_port

pytestmark = [pytest.mark.ray, pytest.mark.slow]

BIN = Path(sys.executable).parent
TOKEN = secrets.token_hex(32)
CONTAINER = """
set -e
user="setpriv --reuid=1000 --regid=1000 --clear-groups"
if ! $user test -x "$2/bin/python3"; then  # the interpreter lies in a home that only its owner enters
  mkdir "$1/python" && mount --bind "$2" "$1/python"
  mount -t tmpfs -o mode=755 none "/$(echo "$2" | cut -d / -f 2)"
  mkdir -p "$2" && mount --bind "$1/python" "$2"
fi
chmod 1777 "$1"; mount --bind "$1" /tmp
mount -o remount,ro,bind /
mount -t tmpfs -o mode=1777,size=1g none /dev/shm
shift 2; cd /
exec $user --no-new-privs --bounding-set=-all "$@"
"""


@pytest.fixture(scope="module")
def ports() -> dict[int, int]:
    return {port: free_port() for port in (6379, 8265, 52365, 8080, 10001)}


@pytest.fixture(scope="module")
def head(ports: dict[int, int]) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """The head of the RayCluster, from its rendered command."""
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl")
    if os.getuid() or subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode:
        pytest.skip("POD NOT REHEARSED: this machine allows no mount namespace")
    document = next(one for one in make_rendered.built("overlays/cpu") if one["kind"] == "RayCluster")
    container = kuberay_pods.pods(document, "1.7")["head"]["containers"][0]
    script = re.sub(r"--memory=\d+", "--memory=1000000000", container["args"][0])
    script = re.sub(r"--object-store-memory=\d+", "--object-store-memory=100000000", script)
    script += f" --port={ports[6379]} --dashboard-port={ports[8265]} --ray-client-server-port={ports[10001]}"
    script += " --node-ip-address=127.0.0.1"
    for old in (52365, 8080):
        script = script.replace(f"={old}", f"={ports[old]}")
    folder = Path(tempfile.mkdtemp(prefix="hr"))
    environment = {"PATH": f"{BIN}:/usr/bin:/bin", "HOME": "/tmp", "RAY_AUTH_TOKEN": TOKEN, "OMP_NUM_THREADS": "1"}
    environment["RAY_AUTH_MODE"] = container["env"]["RAY_AUTH_MODE"]
    words = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", CONTAINER, "pod"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*words, str(folder), sys.base_prefix, *container["command"], script],
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        yield folder / "log", process
    finally:
        if process.poll() is None:
            for one in [*psutil.Process(process.pid).children(recursive=True), process]:
                one.send_signal(signal.SIGKILL)
            process.wait(20)
        shutil.rmtree(folder, ignore_errors=True)


def ask(port: int, path: str, token: str = "") -> int:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def wait_for(port: int, path: str, token: str, head: tuple[Path, subprocess.Popen[bytes]]) -> None:
    log, process = head
    deadline = time.monotonic() + 180
    while ask(port, path, token) != 200:
        running = process.poll() is None and time.monotonic() < deadline
        assert running, log.read_text(encoding="utf-8", errors="replace")[-3000:]
        time.sleep(1)


def test_the_probes_pass_without_a_token_and_jobs_do_not(
    head: tuple[Path, subprocess.Popen[bytes]], ports: dict[int, int]
) -> None:
    """As uid 1000, without capabilities, on a root that is read-only but for /tmp and shared memory."""
    wait_for(ports[52365], "/api/healthz", "", head)
    wait_for(ports[8265], "/api/gcs_healthz", "", head)
    wait_for(ports[8265], "/api/jobs/", TOKEN, head)
    assert ask(ports[52365], "/api/local_raylet_healthz") == 200
    assert ask(ports[8265], "/api/jobs/") == 401
    assert ask(ports[8265], "/api/jobs/", "0" * 64) in (401, 403)


@pytest.mark.parametrize(("token", "works"), [(TOKEN, True), ("", False)], ids=["its own", "none"])
def test_the_init_container_s_check_needs_the_token(
    head: tuple[Path, subprocess.Popen[bytes]], ports: dict[int, int], token: str, works: bool
) -> None:
    wait_for(ports[52365], "/api/healthz", "", head)
    environment = {
        "PATH": f"{BIN}:/usr/bin:/bin",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
        "HOME": "/nowhere",
    }
    words = [str(BIN / "ray"), "health-check", "--address", f"127.0.0.1:{ports[6379]}"]
    done = subprocess.run(words, env=environment, capture_output=True, check=False, timeout=120)
    assert (done.returncode == 0) == works
