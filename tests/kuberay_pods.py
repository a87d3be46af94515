"""What KubeRay makes of our objects, as its versions 1.6 and 1.7 would: services, pods, probes, commands, environment.

Written after the operator's behaviour (its builders of pods, services and jobs at v1.6.2 and v1.7.0), for the features
that our manifests use: token authentication, the in-tree autoscaler, RayJob in K8sJobMode, RayService. `login` is its
setting ENABLE_LOGIN_SHELL. Texts of loops that only wait are shortened to the command they repeat.
"""

from __future__ import annotations

import copy
from typing import Any

from tests import kuberay

VERSIONS = ("1.6", "1.7")
NAMESPACE = "hero-ray"
RANDOM = "xxxxx"
"""Stands for the five characters that KubeRay draws for the cluster of a RayJob or RayService."""
AGENT_PORT, METRICS_PORT, GCS_PORT, DASHBOARD_PORT = 52365, 8080, 6379, 8265
LONGEST = {"RayCluster": 53, "RayService": 47, "RayJob": 47, "RayCronJob": 36}
"""Characters of a name that KubeRay admits (RayCronJob: from 1.7)."""
GENERATED = ("RAY_CLUSTER_NAME", "RAY_CLUSTER_NAMESPACE", "RAY_CLOUD_INSTANCE_ID", "RAY_NODE_TYPE_NAME",
             "KUBERAY_GEN_RAY_START_CMD", "RAY_PORT", "RAY_ADDRESS", "RAY_USAGE_STATS_KUBERAY_IN_USE",
             "RAY_DASHBOARD_ENABLE_K8S_DISK_USAGE")  # fmt: skip


def cluster_name(document: dict[str, Any]) -> str:
    """Name of the RayCluster that the object is or makes."""
    name = document["metadata"]["name"]
    return name if document["kind"] == "RayCluster" else f"{name}-{RANDOM}"


def services(document: dict[str, Any]) -> list[str]:
    """Names of the Services that KubeRay makes, or takes over, for one of our objects."""
    name = document["metadata"]["name"]
    if document["kind"] == "RayCronJob" or document["spec"].get("suspend"):
        return []
    made = [f"{cluster_name(document)}-head-svc"]
    if document["kind"] == "RayService":
        made += [f"{name}-head-svc", f"{name}-serve-svc"]
    return made


def accounts(document: dict[str, Any]) -> list[str]:
    """Names of the ServiceAccount, Role and RoleBinding for the autoscaler of the object's cluster."""
    spec = kuberay.cluster_of(kuberay.KINDS[document["kind"]](**document))
    return [cluster_name(document)] if spec.enableInTreeAutoscaling else []


def pods(document: dict[str, Any], version: str, login: bool = False) -> dict[str, dict[str, Any]]:
    """Pod specs by role (`head`, `worker NAME`, `submitter`); nothing for a suspended RayJob."""
    if document["spec"].get("suspend"):
        document = document | {"spec": {k: v for k, v in document["spec"].items() if k != "suspend"}}
    parsed = kuberay.KINDS[document["kind"]](**document)
    spec, kind = kuberay.cluster_of(parsed), document["kind"]
    shell = ["/bin/bash", "-cl" if login else "-c", "--"]
    head_address = f"{cluster_name(document)}-head-svc.{NAMESPACE}.svc.cluster.local"
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": f"{spec.authOptions.secretName}/auth_token"}
    made = {"head": _head(spec, shell, token)}
    for group in spec.workerGroupSpecs:
        made[f"worker {group.groupName}"] = _worker(group, shell, token, head_address, kind == "RayService")
    if hasattr(parsed.spec, "entrypoint") or kind == "RayCronJob":
        job = parsed.spec.jobTemplate if kind == "RayCronJob" else parsed.spec
        image = made["head"]["containers"][0]["image"]
        pod = copy.deepcopy((job.submitterPodTemplate or {}).get("spec")) or _own_submitter(image)
        container, address = pod["containers"][0], f"{head_address}:{DASHBOARD_PORT}"
        container |= _submission(job.entrypoint, shell, address, version)
        container["env"] = _environment(container) | token | {
            "RAY_DASHBOARD_ADDRESS": address, "RAY_JOB_SUBMISSION_ID": "set by KubeRay"
        }  # fmt: skip
        made["submitter"] = pod
    return made


def start_command(parameters: dict[str, str], resources: dict[str, Any], head: bool, address: str) -> str:
    """The `ray start` line: what we gave, and what KubeRay adds for the rest."""
    given = dict(parameters) | {"block": "true"}
    if not head:
        given.setdefault("address", f"{address}:{GCS_PORT}")
    given.setdefault("metrics-export-port", str(METRICS_PORT))
    given.setdefault("dashboard-agent-listen-port", str(AGENT_PORT))
    limits = resources["limits"]
    given.setdefault("num-cpus", limits.get("cpu", resources["requests"]["cpu"]))
    given.setdefault("memory", str(_bytes(limits["memory"])))
    if gpus := limits.get("nvidia.com/gpu"):
        given.setdefault("num-gpus", gpus)
    flags = [f"--{key}" if value == "true" else f"--{key}={value}" for key, value in sorted(given.items())]
    return " ".join(["ray", "start", *(["--head"] if head else []), *flags])


def _bytes(quantity: str) -> int:
    units = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
    return int(quantity[:-2]) * units[quantity[-2:]]


def _environment(container: dict[str, Any]) -> dict[str, str]:
    found = {}
    for variable in container.get("env", []):
        secret = variable.get("valueFrom", {}).get("secretKeyRef", {})
        optional = "?" if secret.get("optional") else ""
        found[variable["name"]] = variable.get("value") or f"{secret['name']}/{secret['key']}{optional}"
    return found


def _head(spec: kuberay.ClusterSpec, shell: list[str], token: dict[str, str]) -> dict[str, Any]:
    pod = copy.deepcopy(spec.headGroupSpec.template["spec"])
    container, parameters = pod["containers"][0], dict(spec.headGroupSpec.rayStartParams)
    if spec.enableInTreeAutoscaling:
        parameters["no-monitor"] = "true"
    start = start_command(parameters, container["resources"], head=True, address="")
    container |= {"command": shell, "args": [f"ulimit -n ${{RAY_START_ULIMIT_OPEN_FILES:-65536}}; {start}"]}
    container["env"] = _environment(container) | token | dict.fromkeys(GENERATED, "set by KubeRay")
    container["env"]["RAY_ADDRESS"] = f"127.0.0.1:{GCS_PORT}"
    container |= _probes(timeout_s=5)
    options = spec.autoscalerOptions
    if spec.enableInTreeAutoscaling:
        scaler = {
            "name": "autoscaler",
            "image": container["image"],
            "command": shell,
            "args": ["ray kuberay-autoscaler --cluster-name $(RAY_CLUSTER_NAME) "
                     "--cluster-namespace $(RAY_CLUSTER_NAMESPACE)"],
            "env": token | {"KUBERAY_CRD_VER": "v1", "RAY_HEAD_POD_NAME": "set by KubeRay"},
            "resources": (options and options.resources) or {"limits": {"cpu": "500m", "memory": "512Mi"}},
        }  # fmt: skip
        if options and options.securityContext:
            scaler["securityContext"] = options.securityContext
        pod["containers"].append(scaler)
    return pod


def _worker(
    group: kuberay.WorkerGroup, shell: list[str], token: dict[str, str], address: str, serves: bool
) -> dict[str, Any]:
    pod = copy.deepcopy(group.template["spec"])
    container = pod["containers"][0]
    start = start_command(group.rayStartParams, container["resources"], head=False, address=address)
    here = {"FQ_RAY_IP": address, "RAY_IP": address.partition(".")[0]}
    environment = _environment(container) | token | here
    waits = f"until ray health-check --address {address}:{GCS_PORT}; do sleep 5; done"
    pod["initContainers"] = [
        {
            "name": "wait-gcs-ready",
            "image": container["image"],
            "command": shell,
            "args": [waits],
            "env": dict(environment),
            "securityContext": container.get("securityContext"),
            "resources": {"limits": {"cpu": "200m", "memory": "256Mi"}},
        }
    ]
    container |= {"command": shell, "args": [f"ulimit -n ${{RAY_START_ULIMIT_OPEN_FILES:-65536}}; {start}"]}
    container["env"] = environment | dict.fromkeys(GENERATED, "set by KubeRay")
    container["env"]["RAY_ADDRESS"] = f"{address}:{GCS_PORT}"
    container |= _probes(timeout_s=2)
    if serves:
        served = next((p["containerPort"] for p in container.get("ports", []) if p["name"] == "serve"), 8000)
        asked = [_wget(2, AGENT_PORT, "api/local_raylet_healthz"), _wget(10, served, "-/healthz")]
        container["readinessProbe"] = {"exec": {"command": ["bash", "-c", " && ".join(asked)]}, "failureThreshold": 1}
    return pod


def _wget(seconds: int, port: int, path: str) -> str:
    return f"wget --tries 1 -T {seconds} -q -O- http://localhost:{port}/{path} | grep success"


def _probes(timeout_s: int) -> dict[str, Any]:
    """From Ray 2.53 one page of the node's agent answers for all; before, and for Serve's workers, wget."""
    page = {"httpGet": {"path": "/api/healthz", "port": AGENT_PORT}, "timeoutSeconds": timeout_s}
    return {
        "livenessProbe": page | {"failureThreshold": 120},
        "readinessProbe": page | {"failureThreshold": 10},
    }


def _own_submitter(image: str) -> dict[str, Any]:
    container = {"name": "ray-job-submitter", "image": image, "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}
    return {"restartPolicy": "Never", "containers": [container]}


def _submission(entrypoint: str, shell: list[str], address: str, version: str) -> dict[str, Any]:
    """Where the template names no command, KubeRay's."""
    job, url = "$RAY_JOB_SUBMISSION_ID", f"http://{address}"
    ready = f"until python -c 'ask {url}/api/gcs_healthz' > /dev/null; do sleep 2; done; " if version == "1.7" else ""
    script = (
        f"{ready}if ! ray job status --address {url} {job} > /dev/null 2>&1; then "
        f"ray job submit --address {url} --no-wait --submission-id {job} -- {entrypoint}; fi; "
        f"ray job logs --address {url} --follow {job}"
    )
    return {"command": [shell[0], shell[1].replace("-c", "-ce"), shell[2]], "args": [script]}
