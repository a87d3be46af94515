"""docs/cluster.md: every command is run here, or says that it was not and names only what exists."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests import container, kuberay_pods
from tests.commands import check_command
from tests.golden import make_rendered

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
MARK = re.compile(r"\s+# not run\b.*$")
BLOCKS = ["\n".join(line.strip() for line in block.splitlines())
          for block in re.findall(r"^ *```sh\n(.*?)^ *```", PAGE, re.MULTILINE | re.DOTALL)]  # fmt: skip


def commands() -> list[tuple[str, bool]]:
    """Each command of the page, here-documents and continued lines whole, and whether it is to be run."""
    found = []
    for block in BLOCKS:
        for part in re.findall(r"cat > \S+ <<EOF\n.*?\nEOF|[^\n]+", re.sub(r"\\\n\s*", "", block), re.DOTALL):
            found.append((MARK.sub("", part).strip(), not MARK.search(part)))
    return found


COMMANDS = commands()
RUN = [command for command, runs in COMMANDS if runs]
NAMED = [command for command, runs in COMMANDS if not runs]


def test_the_page_has_its_three_paths() -> None:
    heads = re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
    assert heads[:3] == [
        "One box: compose",
        "Your Kubernetes: KubeRay by Helm",
        "AWS, or machines you own: Ray's launcher",
    ]
    for path in PAGE.split("\n## ")[1:4]:
        steps = [int(number) for number in re.findall(r"^(\d)\. ", path, re.MULTILINE)]
        assert steps == list(range(1, len(steps) + 1))
        assert len(steps) >= 4
        assert re.search(r"[Bb]ackup", path)
    assert len(RUN) >= 12
    assert len(NAMED) >= 20


def rehearsed(command: str) -> str:
    """The command with what needs a cluster left out: objects are made and not sent."""
    command = re.sub(r"^kubectl apply -k", "kubectl kustomize", command)
    command = re.sub(r"\| kubectl create -f -$", "| tee made.yaml", command)
    return re.sub(r"^(kubectl .*create (?:namespace|secret) .*)$", r"\1 --dry-run=client -o yaml", command)


@pytest.mark.skipif(not all(map(shutil.which, ("kubectl", "openssl", "git"))), reason="needs kubectl, openssl, git")
def test_the_commands_that_bear_no_mark_run(tmp_path: Path) -> None:
    """All of them, one after another in one shell, in a folder of their own beside the manifests."""
    shutil.copytree(ROOT / "cluster", tmp_path / "cluster")
    for words in (["init", "-q"], ["-c", "user.name=x", "-c", "user.email=x", "commit", "-qm", "x", "--allow-empty"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    known = "hero-ray db backup backup.db"
    assert known in RUN
    script = "\n".join(["set -euo pipefail", *(rehearsed(command) for command in RUN if command != known)])
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(tmp_path), "HF_TOKEN": "h", "WEBHOOK": "w"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    settings = dict(line.split("=", 1) for line in (tmp_path / ".env").read_text(encoding="utf-8").splitlines())
    passwords = {"POSTGRES_PASSWORD", "POSTGRES_READER_PASSWORD"}
    assert settings.keys() == passwords | {"RAY_AUTH_TOKEN", "HERO_RAY_TOKENS", "GIT_COMMIT"}
    assert re.fullmatch(r"[0-9a-f]{40}", settings["GIT_COMMIT"])
    tokens = dict(token.split(":") for token in settings["HERO_RAY_TOKENS"].split(","))
    assert tokens.keys() == {"read", "infer", "admin"}
    assert all(re.fullmatch(r"[0-9a-f]{64}", token) for token in tokens.values())
    assert len(set(tokens.values())) == 3
    sweep = yaml.safe_load((tmp_path / "made.yaml").read_text(encoding="utf-8"))
    assert sweep["metadata"] == {"generateName": "sweep-", "namespace": "hero-ray"}
    secrets = re.findall(r"kind: Secret\n.*?\n  name: (\S+)", done.stdout, re.DOTALL)
    text = (ROOT / "tests" / "golden" / "rendered" / "kuberay-1.7.yaml").read_text(encoding="utf-8")
    asked = set(re.findall(r": (hero-ray-\w+)/[\w-]+\??$", text, re.MULTILINE))
    assert asked <= set(secrets), "a secret that pods ask for is made on the page"


def test_the_backup_of_the_page_works(tmp_path: Path) -> None:
    """B10, inside the container: an absolute path below a folder that is mounted, by whoever owns it."""
    from hero_ray.store import open_store

    with open_store(f"sqlite:///{tmp_path / 'results.db'}"):
        pass
    command = next(command for command in NAMED if " db backup " in command)
    words = shlex.split(command)
    volume = words[words.index("-v") + 1]
    inside, path = volume.rpartition(":")[2], words[-1]
    assert Path(path).parent == Path(inside) == Path("/results")
    assert any("mkdir -p /models /results" in line for line in container.stages()["cpu"])
    assert words[words.index("--user") + 1] == "$(id -u)"
    here = str(tmp_path / Path(path).name)
    done = subprocess.run(
        [sys.executable, "-m", "hero_ray", "db", "backup", here, "--db", f"sqlite:///{tmp_path / 'results.db'}"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert Path(here).stat().st_size > 0


COMPOSE_VERBS = {"build", "up", "ps", "exec", "run", "down", "logs"}


@pytest.mark.parametrize("command", [one for one in NAMED if one.startswith("docker compose")])
def test_a_compose_command_names_what_the_file_has(command: str) -> None:
    words = shlex.split(command)[2:]
    if words[0] == "--profile":
        assert words[1] in {profile for service in SERVICES.values() for profile in service.get("profiles", [])}
        words = words[2:]
    assert words[0] in COMPOSE_VERBS
    if "--scale" in words:
        assert words[words.index("--scale") + 1].partition("=")[0] in SERVICES
    if words[0] in ("exec", "run"):
        place = next(index for index, word in enumerate(words) if word in SERVICES)
        inner = words[place + 1 :]
        assert container.missing(inner) == set()
        split = inner.index("--") if "--" in inner else len(inner)
        check_command(inner[:split] if "--" not in inner else [*inner[:split], "--", *inner[split + 1 :]])
        if "--" in inner:
            check_command(inner[split + 1 :])


@pytest.mark.parametrize("command", [one for one in NAMED if one.startswith("docker build")])
def test_every_build_says_its_commit(command: str) -> None:
    """B15: nights in an image without one know no commit."""
    words = shlex.split(command)
    assert words[words.index("--build-arg") + 1] == "GIT_COMMIT=$(git rev-parse HEAD)"
    assert words[words.index("--target") + 1] in container.stages()
    assert [
        line
        for line in container.DOCKERFILE.splitlines()
        if line.startswith("#   docker build") and "GIT_COMMIT" in line
    ]


def test_kubernetes_commands_name_what_the_overlay_makes() -> None:
    documents = make_rendered.built("overlays/cpu")
    known = {f"{one['kind'].lower()}/{one['metadata']['name']}" for one in documents}
    for one in documents:
        if one["apiVersion"] == "ray.io/v1":
            known |= {f"service/{name}" for name in kuberay_pods.services(one)}
    kubectl = [one for one in NAMED if one.startswith("kubectl")]
    assert len(kubectl) >= 8
    for command in kubectl:
        for place in re.findall(r"\b((?:service|statefulset|cronjob|job)/[\w-]+)", command):
            assert place in known, command
        if gone := re.search(r"delete (job|raycluster) (\S+)", command):
            assert f"{gone[1]}/{gone[2]}" in known
        for folder in re.findall(r"-k (\S+)", command):
            assert (ROOT / folder / "kustomization.yaml").exists()


@pytest.mark.parametrize("command", [one for one in NAMED if one.startswith("ray ")])
def test_launcher_commands_parse_and_name_a_file(command: str) -> None:
    words = shlex.split(command)
    check_command(words)
    assert (ROOT / words[-1]).exists()


def test_every_command_that_is_not_run_is_looked_at() -> None:
    """By the tests above; what is left is other people's programs."""
    looked_at = ("docker compose", "docker build", "kubectl", "ray ")
    others = {shlex.split(command)[0] for command in NAMED if not command.startswith(looked_at)}
    assert others <= {"docker", "helm", "aws", "scp", "pip"}
