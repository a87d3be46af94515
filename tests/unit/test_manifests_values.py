"""Values in the manifests: right ones pass, every kind of wrong one is seen."""

from __future__ import annotations

import copy
import shutil
from typing import Any

import pytest

from tests import values
from tests.golden import make_crds, make_rendered

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")


def pods(document: Any) -> list[dict[str, Any]]:
    if isinstance(document, list):
        return [found for entry in document for found in pods(entry)]
    if not isinstance(document, dict):
        return []
    here = [document] if isinstance(document.get("containers"), list) else []
    return here + [found for value in document.values() for found in pods(value)]


@pytest.mark.parametrize("folder", make_rendered.FOLDERS)
def test_every_value_of_every_object_is_one_that_kubernetes_takes(folder: str) -> None:
    documents = make_rendered.built(folder)
    assert values.faults(documents) == []
    found = pods(documents)
    assert found
    for one in (one for one in documents if one["kind"] == "StatefulSet"):
        claimed = [{"name": claim["metadata"]["name"]} for claim in one["spec"]["volumeClaimTemplates"]]
        found = [pod for pod in found if pod is not one["spec"]["template"]["spec"]]
        found.append(
            one["spec"]["template"]["spec"] | {"volumes": claimed + one["spec"]["template"]["spec"].get("volumes", [])}
        )
    assert [fault for pod in found for fault in values.references(pod)] == []


WRONG = [
    ("resources.limits.memory", "16GB"),
    ("resources.requests.cpu", "2 cores"),
    ("resources.limits.memory", True),
    ("image", "Hero-Ray:0.1"),
    ("image", "hero-ray"),
    ("ports.0.containerPort", 65536),
    ("ports.0.containerPort", 0),
    ("imagePullPolicy", "ifNotPresent"),
]


@pytest.mark.parametrize(("place", "value"), WRONG)
def test_a_wrong_value_of_a_container_is_seen(place: str, value: Any) -> None:
    document = copy.deepcopy(next(one for one in make_rendered.built("jobs/cpu") if one["kind"] == "RayJob"))
    assert values.faults(document) == []
    target = document["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    *way, last = place.split(".")
    for step in way:
        target = target[int(step) if step.isdigit() else step]
    target[last] = value
    assert len(values.faults(document)) == 1


@pytest.mark.parametrize("text", ["16Gi", "500m", "0.5", "1e3", "2", 4, "100Ki", "1.5Gi", "-1"])
def test_quantities(text: Any) -> None:
    assert values.is_quantity(text)


@pytest.mark.parametrize("text", ["16GB", "1 Gi", "Gi", "", "1gi", "1K", True, None, "0x10", "1,5Gi"])
def test_wrong_quantities(text: Any) -> None:
    assert not values.is_quantity(text)


@pytest.mark.parametrize("line", ["0 2 * * *", "*/15 0-6 1,15 * mon-fri", "@daily", "0 0 * jan sun", "5 4 ? * 7"])
def test_cron_lines(line: str) -> None:
    assert values.is_cron(line)


@pytest.mark.parametrize(
    "line",
    ["0 24 * * *", "60 2 * * *", "0 2 * *", "0 2 * * * *", "0 2 0 * *", "0 2 * 13 *", "*/0 * * * *", "5-2 * * * *",
     "TZ=UTC 0 2 * * *", "0 2 * * funday", "", "@nightly"],
)  # fmt: skip
def test_wrong_cron_lines(line: str) -> None:
    assert not values.is_cron(line)


def test_names_ports_and_zones() -> None:
    assert [values.is_name(name) for name in ("hero-ray", "a" * 63, "n1")] == [True] * 3
    assert [values.is_name(name) for name in ("Hero", "a_b", "-a", "a" * 64, "", True, "a.b")] == [False] * 7
    assert [values.is_port(port) for port in (1, 65535, "http", "gcs-server")] == [True] * 4
    assert [values.is_port(port) for port in (0, 65536, "8080", "a-name-that-is-long", True, None)] == [False] * 6
    assert values.is_zone("Etc/UTC")
    assert not values.is_zone("UTC+1")
    assert not values.is_zone("")


def test_what_a_pod_refers_to_must_be_there() -> None:
    container = {
        "name": "one",
        "volumeMounts": [{"name": "gone", "mountPath": "/a"}, {"name": "here", "mountPath": "/a"}],
        "env": [{"name": "A"}, {"name": "A"}, {"name": "1B"}],
        "ports": [{"name": "http"}],
        "readinessProbe": {"httpGet": {"port": "https"}},
    }
    found = list(values.references({"volumes": [{"name": "here"}], "containers": [container]}))
    assert found == [
        "no volume gone",
        "two mounts at /a",
        "A is given twice",
        "1B is no name of a variable",
        "readinessProbe asks port https, which one has not",
    ]


SCHEMA = {
    "type": "object",
    "required": ["mode"],
    "properties": {
        "mode": {"type": "string", "enum": ["token", "disabled"]},
        "most": {"type": "integer", "minimum": 1, "maximum": 9},
        "size": {"x-kubernetes-int-or-string": True, "pattern": r"^\d+(Gi)?$"},
        "names": {"type": "array", "items": {"type": "string", "pattern": "^[a-z]+$"}},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}


@pytest.mark.parametrize(
    ("value", "count"),
    [
        ({"mode": "token", "most": 9, "size": "4Gi", "names": ["a"], "labels": {"x": "y"}}, 0),
        ({"mode": "token", "size": 4}, 0),
        ({}, 1),
        ({"mode": "Token"}, 1),
        ({"mode": "token", "most": 0}, 1),
        ({"mode": "token", "most": "3"}, 1),
        ({"mode": "token", "most": True}, 1),
        ({"mode": "token", "size": "4GB"}, 1),
        ({"mode": "token", "names": ["a", "B"]}, 1),
        ({"mode": "token", "labels": {"x": 1}}, 1),
        ({"mode": "token", "mod": "token"}, 1),
    ],
)
def test_a_schema_is_held_to_the_letter(value: dict[str, Any], count: int) -> None:
    assert len(values.schema_faults(value, SCHEMA, "spec")) == count


@pytest.mark.parametrize("version", ["1.6.2", "1.7.0"])
@pytest.mark.parametrize("folder", make_rendered.FOLDERS)
def test_the_operators_own_schemas_take_our_objects(folder: str, version: str) -> None:
    schemas = make_crds.read(version)
    checked = [one for one in make_rendered.built(folder) if one["apiVersion"] == "ray.io/v1"]
    assert checked
    for one in checked:
        found = values.schema_faults(one["spec"], schemas[one["kind"]], "spec")
        assert set(found) <= ({"spec.timeZone is unknown"} if version == "1.6.2" else set()), one["kind"]


@pytest.mark.parametrize("version", ["1.6.2", "1.7.0"])
def test_the_operators_own_schemas_would_refuse(version: str) -> None:
    schema = make_crds.read(version)["RayCluster"]
    good = next(one for one in make_rendered.built("overlays/cpu") if one["kind"] == "RayCluster")
    spec = copy.deepcopy(good["spec"])
    spec["workerGroupSpecs"][0]["replicas"] = "two"
    spec["headGroupSpec"]["rayStartParam"] = {}
    faults = values.schema_faults(spec, schema, "spec")
    assert any("replicas" in fault for fault in faults)
    assert any("rayStartParam" in fault for fault in faults)
