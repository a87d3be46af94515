"""Values of Kubernetes objects, beyond which fields there are: quantities, names, ports, cron lines, zones, images.

`faults` walks a document and checks what it recognises by its key, whatever the kind; the rules are Kubernetes' own.
`schema_faults` holds a document against a CRD's structural schema, for whoever has KubeRay's files at hand.
"""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Callable, Iterator
from typing import Any

QUANTITY = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([EPTGMk]i?|Ki|[mun]|[eE][+-]?\d+)?")
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?)?")
IMAGE = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*(?::\d+)?(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*:[\w][\w.-]{0,127}")
ENVIRONMENT = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
CRON = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()  # noqa: SIM905
DAYS = "sun mon tue wed thu fri sat".split()  # noqa: SIM905
ENUMS = {
    "restartPolicy": {"Always", "OnFailure", "Never"},
    "concurrencyPolicy": {"Allow", "Forbid", "Replace"},
    "imagePullPolicy": {"Always", "IfNotPresent", "Never"},
    "effect": {"NoSchedule", "PreferNoSchedule", "NoExecute"},
    "medium": {"", "Memory", "HugePages"},
    "protocol": {"TCP", "UDP", "SCTP"},
    "submissionMode": {"K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"},
    "upscalingMode": {"Default", "Aggressive", "Conservative"},
    "serviceType": {"ClusterIP", "NodePort", "LoadBalancer"},
}
"""Keys whose values are few; the last three are KubeRay's."""


def is_quantity(value: Any) -> bool:
    """A resource's amount. A bare YAML number is one too; `4GB` and `1 Gi` are not."""
    return not isinstance(value, bool) and QUANTITY.fullmatch(str(value)) is not None


def is_name(value: Any, longest: int = 63) -> bool:
    """A DNS label, as services and most objects' names have to be."""
    return isinstance(value, str) and len(value) <= longest and LABEL.fullmatch(value) is not None


def is_port(value: Any) -> bool:
    """A number from 1 to 65535, or the name of a container's port (15 characters, a letter among them)."""
    if isinstance(value, str):
        return len(value) <= 15 and LABEL.fullmatch(value) is not None and re.search(r"[a-z]", value) is not None
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65535


def is_cron(line: Any) -> bool:
    """Five fields as Kubernetes and KubeRay parse them: no time zone inside, nothing out of range."""
    fields = str(line).lower().split()
    if len(fields) == 1 and re.fullmatch(r"@(yearly|annually|monthly|weekly|daily|midnight|hourly)", fields[0]):
        return True
    return len(fields) == len(CRON) and all(
        all(_cron_part(part, low, high) for part in text.split(","))
        for text, (low, high) in zip(fields, CRON, strict=True)
    )


def _cron_part(part: str, low: int, high: int) -> bool:
    names = MONTHS if high == 12 else DAYS if high == 7 else []
    for number, name in enumerate(names, 1 if high == 12 else 0):
        part = re.sub(rf"\b{name}\b", str(number), part)
    found = re.fullmatch(r"(?:\*|\?|(\d+)(?:-(\d+))?)(?:/(\d+))?", part)
    if not found:
        return False
    first, last, step = (int(group) if group else None for group in found.groups())
    ends = [number for number in (first, last) if number is not None]
    return all(low <= number <= high for number in ends) and ends == sorted(ends) and step != 0


def is_zone(name: Any) -> bool:
    """A zone of the time zone database; "" would silently be the operator's own."""
    return name in zoneinfo.available_timezones()


def faults(document: Any, path: str = "") -> list[str]:
    """Every value that Kubernetes would refuse or a kubelet would stumble over, with its path."""
    if isinstance(document, list):
        return [fault for index, entry in enumerate(document) for fault in faults(entry, f"{path}[{index}]")]
    if not isinstance(document, dict):
        return []
    found = []
    for key, value in document.items():
        here = f"{path}.{key}"
        found += [f"{here}: {value!r}" for check in [_check(key, path)] if check and not check(value)]
        found += faults(value, here)
    return found


def _check(key: str, path: str) -> Callable[[Any], bool] | None:
    if path.endswith((".requests", ".limits")) or key in ("sizeLimit", "storage"):
        return lambda value: isinstance(value, (dict, list)) or is_quantity(value)
    if path.endswith((".labels", ".matchLabels")):
        return lambda value: isinstance(value, str) and len(value) <= 63 and LABEL_VALUE.fullmatch(value) is not None
    if path.endswith(".rayStartParams"):
        return lambda value: isinstance(value, str)
    if path.endswith(".metadata") and key in ("name", "namespace"):
        return is_name
    checks: dict[str, Callable[[Any], bool]] = {
        "schedule": is_cron,
        "timeZone": is_zone,
        "image": lambda value: IMAGE.fullmatch(str(value)) is not None,
        **dict.fromkeys(("port", "containerPort", "targetPort"), is_port),
        **dict.fromkeys(("claimName", "groupName", "serviceAccountName", "secretName"), is_name),
        **{name: allowed.__contains__ for name, allowed in ENUMS.items()},
    }
    return checks.get(key)


def references(pod: dict[str, Any]) -> Iterator[str]:
    """What a pod's parts call each other by and does not exist: volumes, ports, environment given twice."""
    volumes = {volume["name"] for volume in pod.get("volumes", [])}
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        paths = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
        names = [variable["name"] for variable in container.get("env", [])]
        ports = {port["name"] for port in container.get("ports", [])}
        used = {mount["name"] for mount in container.get("volumeMounts", [])}
        yield from (f"no volume {name}" for name in sorted(used - volumes))
        yield from (f"two mounts at {path}" for path in {path for path in paths if paths.count(path) > 1})
        yield from (f"{name} is given twice" for name in {name for name in names if names.count(name) > 1})
        yield from (f"{name} is no name of a variable" for name in names if not ENVIRONMENT.fullmatch(name))
        for kind in ("readinessProbe", "livenessProbe"):
            port = container.get(kind, {}).get("httpGet", {}).get("port")
            if isinstance(port, str) and port not in ports:
                yield f"{kind} asks port {port}, which {container['name']} has not"


def schema_faults(value: Any, schema: dict[str, Any], path: str = "") -> list[str]:
    """What a CRD's structural schema refuses: unknown and missing fields, types, enums, patterns, ranges."""
    if schema.get("x-kubernetes-int-or-string"):
        fits = isinstance(value, (int, str)) and not isinstance(value, bool)
        fits = fits and ("pattern" not in schema or re.search(schema["pattern"], str(value)) is not None)
        return [] if fits else [f"{path}: {value!r} is neither a number nor a text that fits"]
    types = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float)}
    kind = schema.get("type")
    if kind and (not isinstance(value, types[kind]) or (isinstance(value, bool) and kind != "boolean")):
        return [f"{path}: {value!r} is no {kind}"]
    found = []
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{path}: {value!r} is none of {schema['enum']}")
    if "pattern" in schema and not re.search(schema["pattern"], str(value)):
        found.append(f"{path}: {value!r} does not fit {schema['pattern']}")
    if kind in ("integer", "number") and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        found.append(f"{path}: {value!r} is out of range")
    if kind == "array":
        found += [f for i, entry in enumerate(value) for f in schema_faults(entry, schema["items"], f"{path}[{i}]")]
    if kind == "object":
        found += _object_faults(value, schema, path)
    return found


def _object_faults(value: dict[str, Any], schema: dict[str, Any], path: str) -> list[str]:
    known, more = schema.get("properties", {}), schema.get("additionalProperties")
    found = [f"{path}: {name} is missing" for name in schema.get("required", []) if name not in value]
    for key, entry in value.items():
        here = f"{path}.{key}"
        if key in known:
            found += schema_faults(entry, known[key], here)
        elif isinstance(more, dict):
            found += schema_faults(entry, more, here)
        elif known and not schema.get("x-kubernetes-preserve-unknown-fields") and path:
            found.append(f"{here} is unknown")
    return found
