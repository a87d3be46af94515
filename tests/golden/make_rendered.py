"""Write `rendered/`: our manifests as KubeRay's pods, our launcher files as Ray prepares them.

`python -m tests.golden.make_rendered`; the diff of what it writes is what a change of a manifest does on a cluster.
"""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests import kuberay_pods

ROOT = Path(__file__).resolve().parents[2]
RENDERED = Path(__file__).parent / "rendered"
FOLDERS = ("overlays/cpu", "overlays/gpu", "overlays/raycronjob", "jobs/cpu", "jobs/gpu")


@cache
def built(folder: str, root: Path = ROOT) -> list[dict[str, Any]]:
    """Documents of an overlay or job, as `kubectl apply -k` would send them."""
    command = ["kubectl", "kustomize", str(root / "cluster" / "kubernetes" / folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return list(yaml.safe_load_all(done.stdout))


def kuberay_text(version: str) -> str:
    """The GPU overlay, its sweep and the RayCronJob as one operator version makes pods of them."""
    objects = [one for folder in ("overlays/gpu", "jobs/gpu") for one in built(folder)]
    objects += [one for one in built("overlays/raycronjob") if one["kind"] == "RayCronJob"]
    found = {
        f"{one['kind']} {one['metadata']['name']}": {
            "services": kuberay_pods.services(one),
            "pods": kuberay_pods.pods(one, version),
        }
        for one in objects
        if one["apiVersion"] == "ray.io/v1"
    }
    return dump(found)


def launcher_text(name: str) -> str:
    """A launcher file with everything that `ray up` fills in."""
    from ray.autoscaler._private.util import prepare_config

    document = yaml.safe_load((ROOT / "cluster" / "launcher" / f"{name}.yaml").read_text(encoding="utf-8"))
    return dump(prepare_config(document))


def dump(found: Any) -> str:
    class Plain(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    return "# Made by `python -m tests.golden.make_rendered`, not by hand.\n" + yaml.dump(
        found, Dumper=Plain, width=120
    )


TEXTS = {
    **{f"kuberay-{version}": (kuberay_text, version) for version in kuberay_pods.VERSIONS},
    **{f"launcher-{name}": (launcher_text, name) for name in ("aws", "onprem")},
}


def main() -> None:
    RENDERED.mkdir(exist_ok=True)
    for name, (render, argument) in TEXTS.items():
        (RENDERED / f"{name}.yaml").write_text(render(argument), encoding="utf-8")


if __name__ == "__main__":
    main()
