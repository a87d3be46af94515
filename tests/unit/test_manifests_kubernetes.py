"""Kubernetes and cluster-launcher files: core kinds against the bundled schemas, Ray's kinds against our own models."""

from __future__ import annotations

import importlib
import shlex
import shutil
import subprocess
import tomllib
import warnings
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from hero_ray import __version__
from hero_ray.core import config
from tests import kuberay
from tests.commands import check_command

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "cluster" / "kubernetes"
OVERLAYS = ("cpu", "gpu", "raycronjob")
FILES = sorted(path for path in KUBERNETES.rglob("*.yaml") if path.name != "kustomization.yaml")


def _suffix(document: dict[str, Any]) -> str:
    return f":{document['metadata']['name']}" if document["kind"] == "NetworkPolicy" else ""


def documents() -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{path.relative_to(KUBERNETES)}:{document['kind']}{_suffix(document)}", document)
        for path in FILES
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
    ]


DOCUMENTS = dict(documents())
RAY = {name: document for name, document in DOCUMENTS.items() if document["apiVersion"] == "ray.io/v1"}
CORE = {name: document for name, document in DOCUMENTS.items() if name not in RAY}


def validate(document: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kubernetes_validate.validate(document, "1.33", strict=True)


def pods(document: Any) -> list[dict[str, Any]]:
    """Every pod template inside a manifest, however deep."""
    if isinstance(document, list):
        return [found for entry in document for found in pods(entry)]
    if not isinstance(document, dict):
        return []
    here = [document] if isinstance(document.get("spec"), dict) and "containers" in document["spec"] else []
    return here + [found for value in document.values() for found in pods(value)]


@pytest.mark.parametrize("name", sorted(CORE))
def test_core_kinds_fit_their_schema(name: str) -> None:
    validate(CORE[name])


def test_a_misspelt_field_would_be_noticed() -> None:
    broken = yaml.safe_load((KUBERNETES / "base" / "migrate.yaml").read_text(encoding="utf-8"))
    broken["spec"]["template"]["spec"]["restartpolicy"] = "Never"
    with pytest.raises(kubernetes_validate.ValidationError):
        validate(broken)
    ray = yaml.safe_load((KUBERNETES / "base" / "raycluster.yaml").read_text(encoding="utf-8"))
    ray["spec"]["workerGroupSpecs"][0]["maxReplica"] = 3
    with pytest.raises(ValueError, match="maxReplica"):
        kuberay.RayCluster(**ray)


@pytest.mark.parametrize("name", sorted(RAY))
def test_ray_kinds_fit_the_fields_of_the_operator(name: str) -> None:
    parsed = kuberay.KINDS[RAY[name]["kind"]](**RAY[name])
    for template in kuberay.cluster_of(parsed).templates():
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod", **template["metadata"]}}
        validate(pod | {"spec": template["spec"]})


@pytest.mark.parametrize("name", sorted(RAY))
def test_ray_version_memory_and_auth(name: str) -> None:
    requirement = next(
        line
        for line in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
        if line.startswith("ray[")
    )
    cluster = kuberay.cluster_of(kuberay.KINDS[RAY[name]["kind"]](**RAY[name]))
    assert cluster.rayVersion == requirement.partition("==")[2]
    assert (cluster.authOptions.mode, cluster.authOptions.secretName) == ("token", "hero-ray-token")
    groups = [(cluster.headGroupSpec.rayStartParams, cluster.headGroupSpec.template)]
    groups += [(group.rayStartParams, group.template) for group in cluster.workerGroupSpecs]
    for start, template in groups:
        container = template["spec"]["containers"][0]
        assert container["resources"]["requests"]["memory"] == container["resources"]["limits"]["memory"]
        assert container["image"].partition(":")[0] == "hero-ray"
        shared = next(volume for volume in template["spec"]["volumes"] if volume["name"] == "shared-memory")
        gib = int(shared["emptyDir"]["sizeLimit"].removesuffix("Gi"))
        assert shared["emptyDir"]["medium"] == "Memory"
        assert gib * 2**30 >= int(start["object-store-memory"])


def test_every_container_is_bounded_and_unprivileged() -> None:
    found = [template for document in DOCUMENTS.values() for template in pods(document)]
    assert len(found) >= 10
    for template in found:
        assert template["spec"]["securityContext"]["runAsNonRoot"] is True
        for container in template["spec"]["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
            assert "memory" in container["resources"]["limits"]


def test_every_container_writes_to_its_volumes_only() -> None:
    for document in DOCUMENTS.values():
        for template in pods(document):
            for container in template["spec"]["containers"]:
                assert container["securityContext"]["readOnlyRootFilesystem"] is True
                home = {variable["name"]: variable.get("value") for variable in container.get("env", [])}.get("HOME")
                mounts = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
                assert home in (None, "/tmp")
                assert (home is None) or "/tmp" in mounts
                assert {"cpu", "memory"} <= container["resources"]["limits"].keys()
    assert DOCUMENTS["base/namespace.yaml:Namespace"]["metadata"]["labels"] == {
        "pod-security.kubernetes.io/enforce": "restricted"
    }


def leaves(policies: list[dict[str, Any]], labels: dict[str, str]) -> set[int | str]:
    """Ports that a pod may connect to beyond the pods of the namespace."""
    return {
        port["port"]
        for policy in policies
        if policy["spec"]["podSelector"].get("matchLabels", {}).items() <= labels.items()
        for rule in policy["spec"].get("egress", [])
        if "to" not in rule or any("ipBlock" in peer for peer in rule["to"])
        for port in rule["ports"]
    }


def test_who_may_connect_outward() -> None:
    path = KUBERNETES / "base" / "networkpolicy.yaml"
    policies = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    templates = [template for document in DOCUMENTS.values() for template in pods(document)]
    far: dict[str, set[int | str]] = {}
    for template in templates:
        name, labels = template["spec"]["containers"][0]["name"], template["metadata"]["labels"]
        far[name] = leaves(policies, labels)
    web = {53, 443, 6443}
    assert far == {
        **{name: {53} for name in ("postgres", "migrate", "dashboard", "ray-job-submitter")},
        **{name: web for name in ("ray-head", "ray-worker", "create-rayjob")},  # noqa: C420
    }
    blocks = [peer["ipBlock"] for p in policies for rule in p["spec"].get("egress", []) for peer in rule.get("to", [])
              if "ipBlock" in peer]  # fmt: skip
    assert all("169.254.0.0/16" in block["except"] for block in blocks), "the cloud's credentials of its machines"


def test_the_dashboard_reads_as_a_reader_and_holds_no_token_of_ray() -> None:
    (container,) = pods(DOCUMENTS["base/dashboard.yaml:Deployment"])[0]["spec"]["containers"]
    given = {one["name"]: one.get("valueFrom", {}).get("secretKeyRef", {}).get("key") for one in container["env"]}
    assert given == {"HERO_RAY_DB": "reader-url", "HOME": None}


def test_secrets_are_only_referred_to() -> None:
    assert not [name for name, document in DOCUMENTS.items() if document["kind"] == "Secret"]
    sensitive = ("PASSWORD", "TOKEN", "HERO_RAY_DB", "WEBHOOK")
    for document in DOCUMENTS.values():
        for template in pods(document):
            for variable in template["spec"]["containers"][0].get("env", []):
                if any(word in variable["name"] for word in sensitive):
                    assert "secretKeyRef" in variable["valueFrom"], variable["name"]


def test_the_page_names_every_secret() -> None:
    page = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    text = "".join(path.read_text(encoding="utf-8") for path in FILES)
    for secret in ("hero-ray-database", "hero-ray-token", "hero-ray-service", "hero-ray-hub", "hero-ray-webhook"):
        assert secret in text
        assert secret in page


@pytest.mark.parametrize("name", sorted(RAY))
def test_entrypoints_parse(name: str) -> None:
    spec = RAY[name]["spec"].get("jobTemplate", RAY[name]["spec"])
    if "entrypoint" not in spec:
        return
    check_entrypoint(spec["entrypoint"])


def check_entrypoint(entrypoint: str) -> None:
    words = shlex.split(entrypoint)
    check_command(words)
    for word in words:
        if word.endswith(".yaml"):
            config.build(config.read(ROOT / word))


def test_the_service_builds_from_its_config(monkeypatch: pytest.MonkeyPatch) -> None:
    serve = yaml.safe_load(RAY["base/rayservice.yaml:RayService"]["spec"]["serveConfigV2"])
    module, _, name = serve["applications"][0]["import_path"].partition(":")
    assert callable(getattr(importlib.import_module(module), name))
    monkeypatch.setenv("HERO_RAY_TOKENS", "admin:" + "x" * 16)
    settings = importlib.import_module("hero_ray.serve.settings").build_settings(serve["applications"][0]["args"])
    assert settings.port == serve["http_options"]["port"]


def test_the_nightly_job_cannot_overlap_and_runs_by_utc() -> None:
    cron = DOCUMENTS["base/nightly.yaml:CronJob"]["spec"]
    assert (cron["concurrencyPolicy"], cron["timeZone"]) == ("Forbid", "Etc/UTC")
    assert cron["jobTemplate"]["spec"]["backoffLimit"] == 0
    assert cron["startingDeadlineSeconds"] > 100
    words = cron["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["command"]
    check_command(words)
    assert words[-1] == DOCUMENTS["base/nightly.yaml:RayJob"]["metadata"]["name"]
    rules = DOCUMENTS["base/nightly.yaml:Role"]["rules"]
    assert [(rule["resources"], sorted(rule["verbs"])) for rule in rules] == [
        (["rayjobs"], ["create", "delete", "get", "list"])
    ]


def test_the_raycronjob_overlay_runs_the_same_job() -> None:
    template = {k: v for k, v in DOCUMENTS["base/nightly.yaml:RayJob"]["spec"].items() if k != "suspend"}
    assert DOCUMENTS["overlays/raycronjob/raycronjob.yaml:RayCronJob"]["spec"]["jobTemplate"] == template


def test_network_policies_select_pods_that_exist() -> None:
    labels = [template["metadata"]["labels"] for document in DOCUMENTS.values() for template in pods(document)]
    path = KUBERNETES / "base" / "networkpolicy.yaml"
    policies = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    everyone = {policy["metadata"]["name"]: policy["spec"] for policy in policies if not policy["spec"]["podSelector"]}
    assert everyone.keys() == {"deny-ingress", "deny-egress"}
    assert "ingress" not in everyone["deny-ingress"]
    ports = [port["port"] for rule in everyone["deny-egress"]["egress"] for port in rule["ports"]]
    assert set(ports) == {53}, "names, and nothing else, are asked for by everyone"
    for policy in policies:
        wanted = policy["spec"]["podSelector"].get("matchLabels", {})
        assert not wanted or any(wanted.items() <= label.items() for label in labels), policy["metadata"]["name"]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlays_build_and_stay_valid(overlay: str) -> None:
    done = subprocess.run(
        ["kubectl", "kustomize", str(KUBERNETES / "overlays" / overlay)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    built = list(yaml.safe_load_all(done.stdout))
    images = set()
    for document in built:
        if document["apiVersion"] == "ray.io/v1":
            kuberay.KINDS[document["kind"]](**document)
        else:
            validate(document)
        images |= {pod["spec"]["containers"][0]["image"].partition("@sha256:")[0] for pod in pods(document)}
    tag = "cuda" if overlay == "gpu" else "cpu"
    assert images == {f"hero-ray:{__version__}-{tag}", "postgres:17.9-bookworm"}
    kinds = {(document["kind"], document["metadata"]["name"]) for document in built}
    assert (("CronJob", "nightly") in kinds) == (overlay != "raycronjob")
    if overlay == "gpu":
        jobs = [document for document in built if document["kind"] == "RayJob"]
        check_entrypoint(jobs[0]["spec"]["entrypoint"])
        worker = jobs[0]["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]
        assert worker["resources"]["limits"]["nvidia.com/gpu"] == "1"


@pytest.mark.parametrize("name", ["onprem", "aws"])
def test_cluster_launcher_files_fit_rays_schema(name: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    document = yaml.safe_load((ROOT / "cluster" / "launcher" / f"{name}.yaml").read_text(encoding="utf-8"))
    assert document["docker"]["image"] == f"hero-ray:{__version__}-cuda"
    validate_config(prepare_config(document))
    broken = document | {"max_worker": 3}
    with pytest.raises(Exception, match="max_worker"):
        validate_config(broken)
