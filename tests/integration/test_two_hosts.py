"""Ray's launcher between two hosts: network namespaces with a cable between them, an SSH server on the second.

What the head does to a worker, by Ray's own code: a command in a login shell with the key of the file, files by rsync.
Docker is not between them here.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import container

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("unshare", "nsenter", "ip", "ssh", "sshd", "rsync", "ssh-keygen")
HOSTS = """
set -e
mount -t tmpfs none /run; mkdir -p /run/sshd
ip link set lo up
unshare --net sleep 120 & worker=$!
for _ in $(seq 50); do
  [ "$(readlink /proc/$worker/ns/net)" != "$(readlink /proc/$$/ns/net)" ] && break; sleep 0.1
done
ip link add cable type veth peer name eth0 netns $worker
ip address add 10.99.0.1/24 dev cable; ip link set cable up
on() { nsenter --target $worker --net "$@"; }
on ip address add 10.99.0.2/24 dev eth0; on ip link set eth0 up; on ip link set lo up
"""
SERVE = """
on "$(command -v sshd)" -D -e -h "$1/host" -o AuthorizedKeysFile="$1/key.pub" -o StrictModes=no -o UsePAM=no \\
  -o PasswordAuthentication=no -o PermitRootLogin=prohibit-password -o PidFile=none -o ListenAddress=10.99.0.2 &
for _ in $(seq 50); do (: > /dev/tcp/10.99.0.2/22) 2> /dev/null && break; sleep 0.1; done
"$2" -c "$3" "$1"
"""
LAUNCHER = """
import getpass, subprocess, sys
from pathlib import Path
from ray.autoscaler._private.command_runner import SSHCommandRunner

folder = Path(sys.argv[1])

class Provider:
    def internal_ip(self, node): return "10.99.0.2"
    def is_terminated(self, node): return False

def runner(key):
    auth = {"ssh_user": getpass.getuser(), "ssh_private_key": key}
    return SSHCommandRunner("", "worker", Provider(), auth, "cluster-" + folder.name, subprocess, True)

with_key = runner(str(folder / "key"))
said = with_key.run("ip -brief address show eth0 | tr -s ' '; echo $RAY_HEAD_IP", with_output=True, timeout=20,
                    environment_variables={"RAY_HEAD_IP": "10.99.0.1"})
print("SAID", said.decode().split())
(folder / "file").write_text("brought")
with_key.run_rsync_up(str(folder / "file"), str(folder / "copied"))
print("COPIED", (folder / "copied").read_text())
options = runner(str(folder / "other")).ssh_options.to_ssh_options_list(timeout=20)
options = ["-o", "BatchMode=yes", "-o", "ControlPath=none", *options, f"{getpass.getuser()}@10.99.0.2", "true"]
done = subprocess.run(["ssh", *options], capture_output=True, text=True)
print("OTHER", done.returncode, "Permission denied" in done.stderr)
"""


def namespaces(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    # With process ids of its own, so that the servers end with the script.
    command = [
        "unshare",
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--mount-proc",
        "bash",
        "-c",
        HOSTS + script,
        "hosts",
        *arguments,
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)


def test_the_launcher_reaches_a_worker_by_key_and_copies_to_it(tmp_path: Path) -> None:
    absent = [name for name in TOOLS if shutil.which(name) is None]
    if absent:
        pytest.skip(f"TWO HOSTS NOT REHEARSED: this machine has no {', '.join(absent)}")
    if (tried := namespaces("true")).returncode:
        pytest.skip(f"TWO HOSTS NOT REHEARSED: this machine allows no network namespaces ({tried.stderr.strip()})")
    assert {"ssh", "rsync"} <= container.programs(), "the head calls its workers from inside the image"
    for name in ("host", "key", "other"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True)
    done = namespaces(SERVE, str(tmp_path), sys.executable, LAUNCHER)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = dict(re.findall(r"^(SAID|COPIED|OTHER) (.*)$", done.stdout, re.MULTILINE))
    assert "'10.99.0.2/24'" in lines["SAID"]
    assert "10.99.0.1" in lines["SAID"].split(",")[-1]
    assert lines["COPIED"] == "brought"
    assert lines["OTHER"] == "255 True", "another key opens nothing"
