"""`python -m hero_ray.nightly.kubernetes`: create tonight's RayJob from a suspended template, inside the cluster.

Run by the CronJob of `cluster/kubernetes`. The RayJob's name carries the date and names are unique, so a second start
of one night changes nothing. KubeRay keeps the object of a job for ever: those of old nights are deleted, their results
are in the database. Talks to the Kubernetes API with the pod's own service account.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from hero_ray.nightly import notify

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
ENDED = ("Complete", "Failed", "ValidationFailed")  # the last from KubeRay 1.6: the operator refused the spec
TIMEOUT_S = 30.0
NIGHT = re.compile(r"nightly-(\d{4}-\d\d-\d\d)")


@dataclass(frozen=True)
class Api:
    """The RayJobs of one namespace."""

    server: str
    namespace: str
    token: str
    certificates: str | None = None

    @classmethod
    def in_cluster(cls) -> Api:
        """From what Kubernetes puts into every pod."""
        host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        namespace = (ACCOUNT / "namespace").read_text(encoding="utf-8").strip()
        token = (ACCOUNT / "token").read_text(encoding="utf-8").strip()
        return cls(f"https://{host}:{port}", namespace, token, str(ACCOUNT / "ca.crt"))

    def call(self, method: str, name: str = "", body: Any = None) -> Any:
        """One request; raises urllib's errors."""
        url = f"{self.server}/apis/ray.io/v1/namespaces/{self.namespace}/rayjobs" + (f"/{name}" if name else "")
        request = urllib.request.Request(url, method=method, data=None if body is None else json.dumps(body).encode())
        request.add_header("Authorization", f"Bearer {self.token}")
        request.add_header("Content-Type", "application/json")
        context = ssl.create_default_context(cafile=self.certificates) if self.certificates else None
        with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=context) as answer:
            return json.loads(answer.read())


def rayjob(template: dict[str, Any], night: str) -> dict[str, Any]:
    """Tonight's RayJob: the template's spec, awake, its entry point told the night."""
    spec = {key: value for key, value in template["spec"].items() if key != "suspend"}
    spec["entrypoint"] = f"{spec['entrypoint']} --night {night}"
    labels = {**template["metadata"].get("labels", {}), "hero-ray/night": night}
    return {
        "apiVersion": template["apiVersion"],
        "kind": template["kind"],
        "metadata": {"name": f"nightly-{night}", "labels": labels},
        "spec": spec,
    }


def create(api: Api, template: str, night: str) -> str:
    """Create tonight's RayJob; returns what was done, in words.

    A night whose predecessor still runs is left out: two panels at once would spoil each other's timings.
    """
    jobs = api.call("GET")["items"]
    names = {job["metadata"]["name"]: job.get("status", {}).get("jobDeploymentStatus", "") for job in jobs}
    tonight = f"nightly-{night}"
    if tonight in names:
        return f"{tonight} is there already ({names[tonight] or 'new'})"
    busy = [name for name, state in names.items() if NIGHT.fullmatch(name) and state not in ENDED]
    if busy:
        notify.trouble(f"night {night} was left out: {busy[0]} is still at work")
        return f"{tonight} left out: {busy[0]} is still at work"
    try:
        api.call("POST", body=rayjob(api.call("GET", template), night))
    except urllib.error.HTTPError as error:
        if error.code == 409:
            return f"{tonight} is there already"
        raise
    return f"{tonight} created"


def tidy(api: Api, before: str) -> list[str]:
    """Delete the RayJobs of ended nights before a date; returns their names. One that is gone already is no matter."""
    deleted = []
    for job in api.call("GET")["items"]:
        name, state = job["metadata"]["name"], job.get("status", {}).get("jobDeploymentStatus", "")
        night = NIGHT.fullmatch(name)
        if night and night[1] < before and state in ENDED:
            try:
                api.call("DELETE", name)
            except urllib.error.HTTPError as error:
                if error.code != 404:
                    raise
            deleted.append(name)
    return deleted


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m hero_ray.nightly.kubernetes", description=__doc__.splitlines()[0])
    made.add_argument("--template", default="nightly-template", help="name of the suspended RayJob to copy")
    made.add_argument("--night", type=date.fromisoformat, help="date it counts for; today (UTC) if not given")
    made.add_argument("--keep-days", type=int, default=30, help="delete the RayJobs of ended nights older than this")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Create tonight's RayJob; a failure is told to the webhook and exits with 1."""
    options = parser().parse_args(arguments)
    today = options.night or datetime.now(UTC).date()
    night = today.isoformat()
    try:
        api = Api.in_cluster()
        print(create(api, options.template, night))
        for name in tidy(api, (today - timedelta(days=options.keep_days)).isoformat()):
            print(f"{name} deleted: older than {options.keep_days} days")
    except (OSError, KeyError, ValueError) as error:
        reason = (
            f"HTTP {error.code}" if isinstance(error, urllib.error.HTTPError) else f"{type(error).__name__}: {error}"
        )
        print(f"night {night}: the RayJob could not be created: {reason}", file=sys.stderr)
        notify.trouble(f"night {night}: the RayJob could not be created: {reason}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
