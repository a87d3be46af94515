"""The part of KubeRay's ray.io/v1 schema that our manifests use; an unknown field is an error.

Written from the operator's Go types (raycluster_types.go, rayjob_types.go, rayservice_types.go, raycronjob_types.go).
Pod templates stay plain mappings here: kubernetes-validate checks them, wrapped in a Pod.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Metadata(Strict):
    name: str | None = None
    generateName: str | None = None
    namespace: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}

    @model_validator(mode="after")
    def _named(self) -> Metadata:
        assert (self.name is None) != (self.generateName is None), "give exactly one of name and generateName"
        return self


class AuthOptions(Strict):
    mode: Literal["token", "disabled"]
    secretName: str | None = None


class AutoscalerOptions(Strict):
    idleTimeoutSeconds: int | None = Field(default=None, gt=0)
    upscalingMode: Literal["Default", "Aggressive", "Conservative"] | None = None
    resources: dict[str, dict[str, str]] = {}
    securityContext: dict[str, Any] = {}


class HeadGroup(Strict):
    rayStartParams: dict[str, str]
    template: dict[str, Any]
    serviceType: Literal["ClusterIP", "NodePort", "LoadBalancer"] | None = None


class WorkerGroup(Strict):
    groupName: str
    replicas: int = Field(ge=0)
    minReplicas: int = Field(ge=0)
    maxReplicas: int = Field(ge=1)
    numOfHosts: int = Field(default=1, ge=1)
    rayStartParams: dict[str, str]
    template: dict[str, Any]

    @model_validator(mode="after")
    def _ordered(self) -> WorkerGroup:
        assert self.minReplicas <= self.replicas <= self.maxReplicas, "minReplicas <= replicas <= maxReplicas"
        return self


class ClusterSpec(Strict):
    rayVersion: str
    authOptions: AuthOptions
    enableInTreeAutoscaling: bool = False
    autoscalerOptions: AutoscalerOptions | None = None
    headGroupSpec: HeadGroup
    workerGroupSpecs: list[WorkerGroup]

    def templates(self) -> list[dict[str, Any]]:
        return [self.headGroupSpec.template, *(group.template for group in self.workerGroupSpecs)]


class SubmitterConfig(Strict):
    backoffLimit: int = Field(ge=0)


class JobSpec(Strict):
    entrypoint: str
    submissionMode: Literal["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"] = "K8sJobMode"
    suspend: bool = False
    shutdownAfterJobFinishes: bool = False
    ttlSecondsAfterFinished: int = Field(default=0, ge=0)
    activeDeadlineSeconds: int | None = Field(default=None, gt=0)
    backoffLimit: int = Field(default=0, ge=0)
    submitterConfig: SubmitterConfig | None = None
    submitterPodTemplate: dict[str, Any] | None = None
    runtimeEnvYAML: str | None = None
    rayClusterSpec: ClusterSpec

    @model_validator(mode="after")
    def _operator_rules(self) -> JobSpec:
        assert self.shutdownAfterJobFinishes or not self.suspend, "a suspended RayJob must shut its cluster down"
        assert self.shutdownAfterJobFinishes or not self.ttlSecondsAfterFinished, "a TTL needs shutdownAfterJobFinishes"
        return self


class CronJobSpec(Strict):
    schedule: str
    timeZone: str | None = None
    suspend: bool = False
    jobTemplate: JobSpec


class ServiceSpec(Strict):
    serveConfigV2: str
    rayClusterConfig: ClusterSpec


class Object(Strict):
    apiVersion: Literal["ray.io/v1"]
    metadata: Metadata


class RayCluster(Object):
    kind: Literal["RayCluster"]
    spec: ClusterSpec


class RayJob(Object):
    kind: Literal["RayJob"]
    spec: JobSpec


class RayCronJob(Object):
    kind: Literal["RayCronJob"]
    spec: CronJobSpec


class RayService(Object):
    kind: Literal["RayService"]
    spec: ServiceSpec


KINDS: dict[str, type[Object]] = {
    "RayCluster": RayCluster,
    "RayJob": RayJob,
    "RayCronJob": RayCronJob,
    "RayService": RayService,
}


def cluster_of(document: Any) -> ClusterSpec:
    """The cluster inside any of the four kinds."""
    spec = document.spec
    for name in ("jobTemplate", "rayClusterSpec", "rayClusterConfig"):
        spec = getattr(spec, name, spec)
    assert isinstance(spec, ClusterSpec)
    return spec
