"""Ray's cluster launcher: what it fills in, and what it runs on hosts and in containers, run where a process can."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import container

ROOT = Path(__file__).resolve().parents[2]
FILES = ("aws", "onprem")
RAYS_OWN = ("rsync", "ssh")
"""Ray copies files by `rsync -e 'docker exec -i'`, with rsync at both ends; the head calls workers by ssh."""


def prepared(name: str) -> dict[str, Any]:
    from ray.autoscaler._private.util import prepare_config

    text = (ROOT / "cluster" / "launcher" / f"{name}.yaml").read_text(encoding="utf-8")
    made: dict[str, Any] = prepare_config(yaml.safe_load(text))
    return made


@pytest.mark.parametrize("name", FILES)
def test_every_program_that_the_launcher_calls_is_in_the_image(name: str) -> None:
    """B3: what it runs by itself, and the commands of the file."""
    document = prepared(name)
    keys = [key for key in document if key.endswith(("setup_commands", "start_ray_commands"))]
    assert len(keys) == 5
    for command in [word for key in keys for word in document[key]]:
        assert container.missing(["bash", "-c", command]) == set(), command
    assert set(RAYS_OWN) <= container.programs()


def test_the_head_can_ask_aws_for_nodes() -> None:
    """B3: Ray's provider of nodes on AWS runs in the image and imports boto3."""
    lock = (ROOT / "lock" / "runtime.txt").read_text(encoding="utf-8")
    assert "\nboto3==" in lock
    assert "\nbotocore==" in lock


@pytest.mark.parametrize("name", FILES)
def test_ray_installs_nothing_of_its_own(name: str) -> None:
    """B4: a key that is left out is filled in with a nightly wheel for another Python."""
    document = prepared(name)
    for key in ("setup_commands", "head_setup_commands", "worker_setup_commands"):
        assert document[key] == []
    text = yaml.safe_dump(document)
    assert "pip install" not in text
    assert "s3" not in text


def test_a_key_left_out_would_be_filled_in() -> None:
    from ray.autoscaler._private.util import prepare_config

    document = yaml.safe_load((ROOT / "cluster" / "launcher" / "aws.yaml").read_text(encoding="utf-8"))
    del document["setup_commands"]
    assert "cp310" in str(prepare_config(document)["setup_commands"])


def test_every_node_on_aws_may_read_its_secrets() -> None:
    """B5: Ray gives a profile to the head alone, and one that may not read parameters."""
    types = prepared("aws")["available_node_types"]
    assert {name: node["node_config"]["IamInstanceProfile"]["Name"] for name, node in types.items()} == {
        "head": "hero-ray-head",
        "gpu_worker": "hero-ray-worker",
    }
    page = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    for word in ("ssm:GetParameter", "iam:PassRole", "hero-ray-head", "hero-ray-worker"):
        assert word in page


def host(command: str, folder: Path, aws: str) -> subprocess.CompletedProcess[str]:
    """An initialization command as a node's user runs it, below a folder; `aws` answers what the test says."""
    tools = folder / "tools"
    tools.mkdir(exist_ok=True)
    for name, script in {"aws": aws, "sudo": 'exec "$@"'}.items():
        (tools / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (tools / name).chmod(0o755)
    command = command.replace("/etc/hero-ray", f"{folder}/etc").replace("/opt/models", f"{folder}/models")
    if os.getuid():
        command = command.replace("-o 1000 -g 1000 ", "")  # only root may give a folder away
    environment = {"PATH": f"{tools}:/usr/bin:/bin", "HOME": str(folder)}
    return subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("aws", "works"),
    [
        ("echo HERO_RAY_DB=x; echo RAY_AUTH_TOKEN=t", True),
        ("echo denied >&2; exit 254", False),
        ("exit 0", False),
        ("echo HERO_RAY_DB=x; echo RAY_AUTH_TOKEN=", False),
    ],
)
def test_a_node_without_secrets_does_not_start(tmp_path: Path, aws: str, works: bool) -> None:
    """B5: a refused request once left an empty file behind and a cluster without a token."""
    folders, secrets = prepared("aws")["initialization_commands"]
    assert host(folders, tmp_path, aws).returncode == 0
    if not os.getuid():
        assert (tmp_path / "models").stat().st_uid == 1000, "the container's user downloads weights into it"
    done = host(secrets, tmp_path, aws)
    assert (done.returncode == 0) == works, done.stderr
    if works:
        assert (tmp_path / "etc" / "env").read_text(encoding="utf-8").splitlines()[1] == "RAY_AUTH_TOKEN=t"
        assert (tmp_path / "etc" / "env").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", FILES)
def test_the_head_of_the_launcher_runs_no_sweep_on_aws_and_can_reach_its_workers(name: str) -> None:
    """B6 and B9: no CPU of the head is given out; without a key Ray copies none into the head's container."""
    document = prepared(name)
    if name == "aws":
        assert document["available_node_types"]["head"]["resources"] == {"CPU": 0}
        assert "--num-cpus=0" in document["head_start_ray_commands"][1].split()
    else:
        assert document["auth"]["ssh_private_key"] == "~/.ssh/hero_ray"


IMAGE_SHELL = """
set -e
mount -t tmpfs none /opt
mount -t tmpfs none /etc/profile.d
mkdir -p /opt/venv/bin
printf '#!/bin/sh\\necho "ray of the image, uid $(id -u)"\\n' > /opt/venv/bin/ray
chmod 755 /opt/venv/bin/ray
{lines}
exec setpriv --reuid=1000 --regid=1000 --clear-groups \\
  env -i HOME=/nonexistent PATH=/opt/venv/bin:/usr/bin:/bin {shell} 'ray stop'
"""


@pytest.mark.parametrize("shell", ["bash --login -c", "/bin/bash -cl", "bash -c"])
def test_a_login_shell_of_the_image_finds_ray(shell: str) -> None:
    """B2: Debian's /etc/profile begins by setting PATH anew; the launcher and ENABLE_LOGIN_SHELL come that way.

    The image's own lines for /etc/profile.d are run in a mount namespace, then the shell as the image's user.
    """
    lines = [part for line in container.stages()["cpu"] for part in line.split("&&") if "/etc/profile.d" in part]
    assert lines, "the Dockerfile sets no PATH for login shells"
    script = IMAGE_SHELL.format(lines="\n".join(lines), shell=shell)
    done = subprocess.run(["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, check=False)
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip(f"LOGIN SHELL NOT REHEARSED: this machine allows no mount namespace ({done.stderr.strip()})")
    assert (done.stdout, done.returncode) == ("ray of the image, uid 1000\n", 0), done.stderr
