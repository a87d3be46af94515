"""Dockerfile and docker-compose.yml, checked without Docker: the rules that a running system would find out late."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import container
from tests.commands import check_command

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
SECRETS = ("POSTGRES_PASSWORD", "POSTGRES_READER_PASSWORD", "RAY_AUTH_TOKEN", "HERO_RAY_TOKENS")
RAY_NODES = ("ray-head", "ray-worker", "ray-worker-gpu", "serve")


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_command_exists_and_takes_its_options(name: str) -> None:
    if "command" in SERVICES[name]:
        check_command(SERVICES[name]["command"])


def test_an_unknown_option_would_be_noticed() -> None:
    for words in (["hero-ray", "sweep", "--no-such-option"], ["ray", "start", "--no-such-option"]):
        with pytest.raises(Exception, match="No such option"):
            check_command(words)


def test_start_order_waits_for_health() -> None:
    for name, service in SERVICES.items():
        for target, wait in service.get("depends_on", {}).items():
            other = SERVICES[target]
            if wait["condition"] == "service_healthy":
                assert "test" in other["healthcheck"], f"{name} waits for the health of {target}, which has no check"
            else:
                assert (wait["condition"], other["restart"]) == ("service_completed_successfully", "no")


def test_long_running_services_have_health_checks() -> None:
    assert [name for name in SERVICES if "healthcheck" not in SERVICES[name]] == ["migrate"]


def test_volumes_and_networks_are_declared() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            assert volume == "/tmp" or volume.split(":")[0] in COMPOSE["volumes"]
        assert set(service["networks"]) <= set(COMPOSE["networks"])


def test_ports_are_published_on_loopback() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(published) == 4
    assert all(port.startswith("${BIND_ADDRESS:-127.0.0.1}:") for port in published), published


def test_secrets_come_from_the_environment_and_have_no_default() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    for secret in SECRETS:
        uses = re.findall(r"\$\{" + secret + r"([^}]*)\}", text)
        assert uses, f"{secret} is not used"
        assert all(use.startswith(":?") for use in uses), f"{secret} must be required, not defaulted"
    assert not re.search(r"(?i)(password|token|secret)\w*: *[\"']?[A-Za-z0-9]{6,}", text)


def test_token_auth_is_on_wherever_ray_runs() -> None:
    for name in (*RAY_NODES, "scheduler"):
        environment = SERVICES[name]["environment"]
        assert environment["RAY_AUTH_MODE"] == "token"
        assert "RAY_AUTH_TOKEN" in environment["RAY_AUTH_TOKEN"]


def test_ray_nodes_have_shared_memory_for_their_object_store() -> None:
    for name in RAY_NODES:
        size = SERVICES[name]["shm_size"]
        assert int(size.removesuffix("gb")) * 10**9 >= 1_000_000_000, name


def test_application_containers_run_without_privileges() -> None:
    for name, service in SERVICES.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service.get("cap_add", []) == (POSTGRES_NEEDS if name == "postgres" else []), name


POSTGRES_NEEDS = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"]


def test_roots_are_read_only_and_every_container_is_bounded() -> None:
    for name, service in SERVICES.items():
        assert service["read_only"] is True, name
        places = [place.partition(":")[0] for place in (*service.get("tmpfs", []), *service.get("volumes", []))]
        assert "/tmp" in places, name
        assert service["pids_limit"] > 0, name
        assert re.fullmatch(r"\d+[gm]|\$\{\w+:-\d+[gm]\}", service["mem_limit"]), name
        assert re.fullmatch(r"\d+|\$\{\w+:-\d+\}", str(service["cpus"])), name


def test_the_dashboard_reads_as_a_reader_and_holds_no_token_of_ray() -> None:
    environment = SERVICES["dashboard"]["environment"]
    assert environment.keys() == {"HERO_RAY_DB", "PGPASSWORD", "HOME"}
    assert "//hero_reader@" in environment["HERO_RAY_DB"]
    assert environment["PGPASSWORD"].startswith("${POSTGRES_READER_PASSWORD:?")
    assert SERVICES["migrate"]["command"][-2:] == ["--reader", "hero_reader"], "who makes that role"
    assert "RAY_AUTH_TOKEN" not in SERVICES["migrate"]["environment"]


def test_every_variable_is_documented() -> None:
    page = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    names = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text(encoding="utf-8")))
    names |= {name for service in SERVICES.values() for name in service.get("environment", {})}
    assert sorted(name for name in names if f"`{name}`" not in page) == []


def test_images_are_pinned_and_carry_the_package_version() -> None:
    from hero_ray import __version__

    images = {service["image"].partition("@sha256:")[0] for service in SERVICES.values()}
    assert images == {
        "postgres:17.9-bookworm",
        f"${{HERO_RAY_IMAGE:-hero-ray:{__version__}-cpu}}",
        f"${{HERO_RAY_CUDA_IMAGE:-hero-ray:{__version__}-cuda}}",
    }
    assert re.search(r"PYTHON_IMAGE=python:3\.11\.\d+-slim-bookworm(@sha256:[0-9a-f]{64})?\n", DOCKERFILE)


def test_dockerfile_copies_what_exists_and_is_not_ignored() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sent = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert [name for name in sent if not (ROOT / name).exists()] == []
    copies = re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE)
    sources = [word for line in copies for word in line.split()[:-1] if not word.startswith("--")]
    assert "." in sources
    assert [source for source in sources if source != "." and source not in sent] == []


def test_the_image_holds_all_that_the_package_is_built_from() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    sent = set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE))
    forced = project["tool"]["hatch"]["build"]["targets"]["wheel"].get("force-include", {})
    needed = {path.split("/")[0] for path in forced} | {"README.md", "LICENSE", "configs", "hero_ray"}
    assert needed <= sent


def test_each_image_is_built_by_one_service() -> None:
    """Compose builds in parallel: of two services that build one tag, one fails with `image already exists`."""
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.MULTILINE))
    builders = {name: service for name, service in SERVICES.items() if "build" in service}
    assert {name: service["build"]["target"] for name, service in builders.items()} == {
        "migrate": "cpu",
        "ray-worker-gpu": "cuda",
    }
    assert {service["build"]["target"] for service in builders.values()} <= stages
    images = [service["image"] for service in builders.values()]
    assert len(set(images)) == len(images)
    ours = {service["image"] for service in SERVICES.values() if "HERO_RAY" in service["image"]}
    assert ours == set(images), "an image that nobody builds would be pulled"


@pytest.mark.parametrize("password", ["p@ss/w#rd", "a%41b", "plain", "x:y?z&w [1]", "π'\""])
def test_any_password_arrives_as_it_is(password: str) -> None:
    """The URL names no password: in one, an @ ends it and a % spells another character. libpq takes it as it stands."""
    from sqlalchemy import make_url

    for service in SERVICES.values():
        environment = service.get("environment", {})
        if "HERO_RAY_DB" not in environment:
            continue
        values = {name: re.sub(r"\$\{POSTGRES_(READER_)?PASSWORD[^}]*\}", lambda _: password, str(environment[name]))
                  for name in ("HERO_RAY_DB", "PGPASSWORD")}  # fmt: skip
        user = "hero_reader" if service is SERVICES["dashboard"] else "hero"
        url = make_url(values["HERO_RAY_DB"])
        assert (url.host, url.port, url.username, url.password, url.database) == (
            "postgres",
            5432,
            user,
            None,
            "hero",
        )
        assert values["PGPASSWORD"] == password
    assert SERVICES["postgres"]["environment"]["POSTGRES_PASSWORD"].startswith("${POSTGRES_PASSWORD:?")


def test_the_head_is_healthy_when_its_job_server_answers() -> None:
    """What waits for the head submits jobs to it; the control store answers seconds earlier."""
    words = SERVICES["ray-head"]["healthcheck"]["test"]
    assert words[:3] == ["CMD", "python", "-c"]
    compile(words[3], "healthcheck", "exec")
    assert "http://127.0.0.1:8265/api/jobs/" in words[3]
    assert "RAY_AUTH_TOKEN" in words[3], "without its token the job server answers 401"


def test_every_program_is_in_the_image() -> None:
    for name, service in SERVICES.items():
        if name != "postgres":
            commands = [service["command"]]
            commands += [service["healthcheck"]["test"][1:]] if "healthcheck" in service else []
            for command in commands:
                assert container.missing(command) == set(), name


def test_a_commit_makes_small_layers_alone() -> None:
    """Gigabytes first: the packages are copied before the source, the commit's name is the last but nothing."""
    for target in ("cpu", "cuda", "vllm"):
        lines = container.stages()[target]
        places = {
            part: next(index for index, line in enumerate(lines) if part in line)
            for part in ("apt-get", "COPY --from", "COPY . .", "install --no-cache-dir", "ARG GIT_COMMIT")
        }
        assert list(places.values()) == sorted(places.values()), target
        assert [line.split()[0] for line in lines[places["ARG GIT_COMMIT"] :]] == ["ARG", "ENV"]
        assert [line for line in lines if "-r lock/" in line] == [], "a second copy of the packages"
    for stage in ("packages-cpu", "packages-cuda", "packages-vllm"):
        assert not [line for line in container.stages()[stage] if "COPY . ." in line or "GIT_COMMIT" in line]


def test_the_image_installs_nothing_but_the_lock() -> None:
    installs = re.findall(r"pip install (.*?)(?: &&| \\|$)", DOCKERFILE, re.MULTILINE)
    parts = {"build": 1, "runtime": 1, "cpu": 1, "cuda": 1}
    for command in installs:
        if part := re.search(r"-r lock/(\w+)\.txt$", command):
            assert "--require-hashes" in command
            assert (ROOT / "lock" / f"{part[1]}.txt").exists()
            parts[part[1]] -= 1
        elif "VLLM" in command:
            assert command == '"${VLLM}" -r wanted.txt'
        else:
            assert command == "--no-cache-dir --no-deps --no-build-isolation -e ."
    assert set(parts.values()) == {0}
    assert "PIP_NO_DEPS=1" in DOCKERFILE


def test_one_version_of_vllm_is_meant_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (extra,) = project["optional-dependencies"]["vllm"]
    version = extra.removeprefix("vllm")
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("Dockerfile", "Makefile", "docs/engines.md")}
    for name, text in texts.items():
        assert set(re.findall(r"vllm(?:-cpu)?(==[\d.]+)", text)) == {version}, name
    assert f"ARG VLLM={extra}\n" in texts["Dockerfile"]


def test_what_goes_beside_vllm_is_read_from_the_project() -> None:
    """The line that the image runs, run here: every dependency a sweep and the service need, and none of the lock's."""
    (line,) = re.findall(r'python -c "(import tomllib; .*)" > wanted\.txt', DOCKERFILE)
    done = subprocess.run([sys.executable, "-c", line], cwd=ROOT, capture_output=True, text=True, check=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = done.stdout.splitlines()
    assert set(project["dependencies"]) < set(wanted)
    assert set(project["optional-dependencies"]["serve"]) < set(wanted)
    assert [text for text in wanted if not re.match(r"[a-z][\w-]+", text)] == []


def test_dockerfile_ends_as_an_ordinary_user_with_a_health_check() -> None:
    for target in ("cpu", "cuda", "vllm"):
        lines = container.stages()[target]
        assert [line for line in lines if line.startswith("USER")] == ["USER hero"]
        assert [line for line in lines if line.startswith("HEALTHCHECK")]
        assert "/bin/bash" in next(line for line in lines if "useradd" in line)


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="needs docker-compose")
def test_docker_compose_itself_accepts_the_file() -> None:
    done = subprocess.run(
        ["docker-compose", "-f", str(ROOT / "docker-compose.yml"), "--profile", "gpu", "config", "-q"],
        env={"PATH": "/usr/bin:/bin", **dict.fromkeys(SECRETS, "x")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_submitted_working_directory_stays_small() -> None:
    from ray._private.runtime_env import packaging

    sizes: dict[str, int] = {}

    def note(path: Path) -> None:
        if path.is_file():
            sizes[path.relative_to(ROOT).as_posix()] = path.stat().st_size

    packaging._dir_travel(ROOT, [], note, include_gitignore=True)
    assert sum(sizes.values()) < 20 * 2**20, sorted(sizes, key=lambda name: -sizes[name])[:5]
    assert {"hero_ray/sweep.py", "configs/demo.yaml", "db/env.py"} <= sizes.keys()
    assert not [name for name in sizes if name.startswith((".git/", ".venv/", "tests/"))]
