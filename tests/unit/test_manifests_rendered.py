"""The manifests as the controllers read them: names they derive, commands they add, what those need in the image."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import container, kuberay_pods
from tests.golden import make_rendered

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
OVERLAYS = ("overlays/cpu", "overlays/gpu", "overlays/raycronjob")


@pytest.fixture(scope="module")
def built() -> dict[str, list[dict[str, Any]]]:
    return {folder: make_rendered.built(folder) for folder in make_rendered.FOLDERS}


def ray(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for one in documents if one["apiVersion"] == "ray.io/v1"]


def containers(found: dict[str, dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{role}: {one['name']}", one)
        for role, pod in found.items()
        for one in [*pod.get("initContainers", []), *pod["containers"]]
    ]


@pytest.mark.parametrize("name", sorted(make_rendered.TEXTS))
def test_what_a_cluster_would_make_is_what_was_last_looked_at(name: str) -> None:
    render, argument = make_rendered.TEXTS[name]
    kept = (make_rendered.RENDERED / f"{name}.yaml").read_text(encoding="utf-8")
    assert render(argument) == kept, "run `python -m tests.golden.make_rendered` and read the diff"


@pytest.mark.parametrize("folder", OVERLAYS)
def test_no_two_objects_come_to_one_name(built: dict[str, list[dict[str, Any]]], folder: str) -> None:
    """B1: services that KubeRay derives, ours, and those of a sweep beside the standing system."""
    documents = [*built[folder], *built["jobs/cpu"]]
    names = [("Service", one["metadata"]["name"]) for one in documents if one["kind"] == "Service"]
    for one in ray(documents):
        names += [("Service", name) for name in kuberay_pods.services(one)]
        names += [("ServiceAccount", name) for name in kuberay_pods.accounts(one)]
        names += [("RayCluster", kuberay_pods.cluster_name(one))]
    names += [("ServiceAccount", one["metadata"]["name"]) for one in documents if one["kind"] == "ServiceAccount"]
    # A RayJob's submitter is a Job of the RayJob's name.
    names += [("Job", one["metadata"]["name"]) for one in documents if one["kind"] in ("Job", "RayJob")]
    assert [name for name, count in Counter(names).items() if count > 1] == []


def test_two_objects_of_one_name_would_be_noticed(built: dict[str, list[dict[str, Any]]]) -> None:
    service = next(one for one in built["overlays/cpu"] if one["kind"] == "RayService")
    alike = json.loads(json.dumps(service)) | {"metadata": {"name": "hero-ray"}}
    cluster = next(one for one in built["overlays/cpu"] if one["kind"] == "RayCluster")
    assert set(kuberay_pods.services(alike)) & set(kuberay_pods.services(cluster)) == {"hero-ray-head-svc"}


def test_names_leave_room_for_what_kuberay_appends(built: dict[str, list[dict[str, Any]]]) -> None:
    for documents in built.values():
        for one in ray(documents):
            name = one["metadata"]["name"]
            longest = name.replace("template", "2026-01-31") if one["kind"] == "RayJob" else name
            assert len(longest) <= kuberay_pods.LONGEST[one["kind"]]
            assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)


@pytest.mark.parametrize("folder", OVERLAYS)
def test_an_address_names_a_service_that_the_standing_cluster_has(
    built: dict[str, list[dict[str, Any]]], folder: str
) -> None:
    cluster = next(one for one in built[folder] if one["kind"] == "RayCluster")
    ours = [one["metadata"]["name"] for one in built[folder] if one["kind"] == "Service"]
    text = json.dumps(ray(built[folder]))
    asked = set(re.findall(r"http://([a-z-]+):(\d+)", text))
    assert asked == {(kuberay_pods.services(cluster)[0], "8265")}
    database = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    assert set(re.findall(r"@(\w+):5432/hero\"", database)) <= set(ours)


@pytest.mark.parametrize("version", kuberay_pods.VERSIONS)
@pytest.mark.parametrize("folder", make_rendered.FOLDERS)
def test_every_program_that_kuberay_calls_is_in_the_image(
    built: dict[str, list[dict[str, Any]]], folder: str, version: str
) -> None:
    """B7: wget of a RayService's probe, and every other command of a container, its init containers and probes."""
    asked = 0
    for one in ray(built[folder]):
        for name, found in containers(kuberay_pods.pods(one, version)):
            commands = [found["command"] + found.get("args", [])]
            commands += [
                found[p]["exec"]["command"] for p in ("livenessProbe", "readinessProbe") if "exec" in found.get(p, {})
            ]
            for command in commands:
                assert container.missing(command) == set(), (one["metadata"]["name"], name)
                asked += 1
    assert asked >= 4


def test_a_probe_by_a_program_that_is_not_there_would_be_noticed() -> None:
    assert container.missing(["bash", "-c", "curl -s localhost:8265 | grep success && wget x"]) == {"curl"}
    assert container.missing(["/bin/bash", "-c", "--", "until nc -z a 1; do sleep 1; done > /dev/null"]) == {"nc"}
    assert container.missing(["ray", "start"]) == set()


@pytest.mark.parametrize("version", kuberay_pods.VERSIONS)
def test_every_container_has_the_token_and_no_privileges(built: dict[str, list[dict[str, Any]]], version: str) -> None:
    """Init containers, autoscaler and submitter among them."""
    for documents in built.values():
        for one in ray(documents):
            for name, found in containers(kuberay_pods.pods(one, version)):
                assert (found["env"]["RAY_AUTH_MODE"], found["env"]["RAY_AUTH_TOKEN"]) == (
                    "token",
                    "hero-ray-token/auth_token",
                )
                assert found["securityContext"]["allowPrivilegeEscalation"] is False, name
                assert found["securityContext"]["capabilities"] == {"drop": ["ALL"]}, name
                # The autoscaler's container is KubeRay's own and writes where its image lets it.
                assert found["securityContext"].get("readOnlyRootFilesystem") or found["name"] == "autoscaler", name
            for role, pod in kuberay_pods.pods(one, version).items():
                assert restricted(pod) == [], (one["metadata"]["name"], role)


def restricted(pod: dict[str, Any]) -> list[str]:
    """What the `restricted` level of Pod Security would refuse a pod for."""
    context = pod.get("securityContext", {})
    found = [name for name in ("hostNetwork", "hostPID", "hostIPC") if pod.get(name)]
    kinds = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
    found += [f"volume {one['name']}" for one in pod.get("volumes", []) if not (one.keys() - {"name"}) <= kinds]
    for one in [*pod.get("initContainers", []), *pod["containers"]]:
        own = one.get("securityContext") or {}
        both = {**context, **own}
        found += [f"{one['name']}: {field}" for field, wanted in (
            ("allowPrivilegeEscalation", False), ("capabilities", {"drop": ["ALL"]})
        ) if own.get(field) != wanted]  # fmt: skip
        if both.get("runAsNonRoot") is not True or both.get("runAsUser") == 0:
            found.append(f"{one['name']}: runAsNonRoot")
        if both.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
            found.append(f"{one['name']}: seccompProfile")
    return found


def test_what_a_restricted_namespace_refuses_is_seen() -> None:
    pod = kuberay_pods._own_submitter("hero-ray")
    assert len(restricted(pod)) == 4
    assert restricted({"volumes": [{"name": "a", "hostPath": {}}], "containers": []}) == ["volume a"]


def test_heads_run_no_work_and_gpu_workers_tell_ray_of_their_gpu(built: dict[str, list[dict[str, Any]]]) -> None:
    for one in ray(built["overlays/gpu"]) + ray(built["jobs/gpu"]):
        found = kuberay_pods.pods(one, "1.7")
        assert "--num-cpus=0" in found["head"]["containers"][0]["args"][0]
        worker = found["worker workers"]["containers"][0]["args"][0]
        assert "--num-gpus=1" in worker
        assert "--num-cpus=8" in worker


def test_a_sweep_on_gpus_asks_for_them(built: dict[str, list[dict[str, Any]]]) -> None:
    """The head that plans it has no GPU to see; without a word the model would be loaded for a CPU."""
    jobs = [one for folder in ("overlays/gpu", "jobs/gpu") for one in built[folder] if one["kind"] == "RayJob"]
    assert len(jobs) == 2
    for one in jobs:
        assert re.search(r"--gpus-per-replica 1|--set gpus_per_replica=1", one["spec"]["entrypoint"])


@pytest.mark.parametrize("folder", make_rendered.FOLDERS)
def test_the_image_has_one_name_in_one_place(folder: str, tmp_path: Path) -> None:
    """B11: a registry's name, written once, reaches jobs and the RayCronJob too."""
    shutil.copytree(ROOT / "cluster" / "kubernetes", tmp_path / "cluster" / "kubernetes")
    for part in (tmp_path / "cluster" / "kubernetes" / "image").glob("*/kustomization.yaml"):
        text = part.read_text(encoding="utf-8")
        part.write_text(text.replace("newTag:", "newName: registry.example/hero-ray\n    newTag:"), encoding="utf-8")
    changed = make_rendered.built(folder, tmp_path)
    images = set(re.findall(r'"image": "([^"]+)"', json.dumps(changed)))
    assert len({image for image in images if "postgres" not in image}) == 1
    assert all(image.startswith(("registry.example/hero-ray:", "postgres:")) for image in images), images


@pytest.mark.parametrize("folder", make_rendered.FOLDERS)
def test_a_finished_job_gives_its_nodes_back_within_a_minute(
    built: dict[str, list[dict[str, Any]]], folder: str
) -> None:
    """B13: the time to live is that of a whole, often GPU, cluster."""
    specs = [
        one["spec"].get("jobTemplate", one["spec"]) for one in built[folder] if one["kind"] in ("RayJob", "RayCronJob")
    ]
    assert specs
    for spec in specs:
        assert spec["shutdownAfterJobFinishes"] is True
        assert spec["ttlSecondsAfterFinished"] <= 60


def allowed(policies: list[dict[str, Any]], pod: dict[str, str], namespace: dict[str, str], port: int) -> bool:
    """Whether a pod of another namespace may reach a port of Ray's pods."""
    rules = next(one for one in policies if one["metadata"]["name"] == "ray")["spec"]["ingress"]
    for rule in rules:
        if "ports" in rule and port not in [entry["port"] for entry in rule["ports"]]:
            continue
        for peer in rule.get("from", [{"namespaceSelector": {}}]):
            if "namespaceSelector" not in peer:
                continue
            here = peer["namespaceSelector"].get("matchLabels", {}).items() <= namespace.items()
            if here and peer.get("podSelector", {}).get("matchLabels", {}).items() <= pod.items():
                return True
    return False


def test_the_operator_is_let_in_however_it_was_installed_and_strangers_are_not() -> None:
    """B15: Helm and kustomize label it differently; every Ray pod of every cluster is named `kuberay`."""
    path = ROOT / "cluster" / "kubernetes" / "base" / "networkpolicy.yaml"
    policies = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    helm = {"app.kubernetes.io/name": "kuberay-operator", "app.kubernetes.io/component": "kuberay-operator"}
    kustomize = {"app.kubernetes.io/name": "kuberay", "app.kubernetes.io/component": "kuberay-operator"}
    stranger = {"app.kubernetes.io/name": "kuberay", "ray.io/node-type": "worker"}
    assert allowed(policies, helm, {}, 8265)
    assert allowed(policies, kustomize, {}, 8265)
    assert not allowed(policies, stranger, {}, 8265)
    assert not allowed(policies, helm, {}, 6379)
    assert allowed(policies, {}, {"hero-ray/scrapes": "true"}, 8080)
    assert not allowed(policies, {}, {}, 8080)
