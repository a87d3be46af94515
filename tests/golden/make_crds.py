"""KubeRay's schemas as data: what its custom resource definitions say of `spec`, without the words.

python -m tests.golden.make_crds FOLDER VERSION    FOLDER: ray-operator/config/crd/bases of KubeRay at that version
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import yaml

KEPT = Path(__file__).parent / "kuberay"


def bare(schema: Any) -> Any:
    """A schema without its descriptions; a property that is called so stays."""
    if isinstance(schema, dict):
        return {k: bare(v) for k, v in schema.items() if not (k == "description" and isinstance(v, str))}
    return [bare(one) for one in schema] if isinstance(schema, list) else schema


def make(folder: Path) -> dict[str, Any]:
    """Kind -> the schema of `spec` at ray.io/v1."""
    found = {}
    for path in sorted(folder.glob("ray.io_*.yaml")):
        crd = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        version = next(one for one in crd["spec"]["versions"] if one["name"] == "v1")
        found[crd["spec"]["names"]["kind"]] = bare(version["schema"]["openAPIV3Schema"]["properties"]["spec"])
    return found


def read(version: str) -> dict[str, Any]:
    """What is kept of a version."""
    return dict(json.loads(gzip.decompress((KEPT / f"crds-{version}.json.gz").read_bytes())))


if __name__ == "__main__":
    text = json.dumps(make(Path(sys.argv[1])), sort_keys=True, separators=(",", ":"))
    (KEPT / f"crds-{sys.argv[2]}.json.gz").write_bytes(gzip.compress(text.encode(), 9, mtime=0))
