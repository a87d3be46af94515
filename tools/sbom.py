"""What a release consists of, from the lock: `make release`, or `python -m tools.sbom FOLDER`.

Writes `sbom.cdx.json` (CycloneDX 1.6: every package with its version, the hashes of its files, where it is installed)
and `licences.txt` (one line a package). Licences are those that the installed packages state; of one that is not
installed here, such as the CUDA libraries on a CPU machine, it says so. The same lock gives the same bytes.
"""

from __future__ import annotations

import json
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hero_ray.core.version import __version__
from tools.lock import PARTS, entries

NAME, LIST = "sbom.cdx.json", "licences.txt"
NOT_HERE = "not installed here"
PLACES = {
    "runtime": "both images",
    "cpu": "the CPU image",
    "cuda": "the CUDA image",
    "build": "to build",
    "dev": "tests and lint",
}


def components() -> list[dict[str, Any]]:
    """Every package of the lock, once for each of its versions, by name."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for part in PLACES:
        for name, entry in entries((PARTS / f"{part}.txt").read_text(encoding="utf-8").partition("\n")[2]).items():
            version = re.match(r"[^\s;\\]+", entry.partition("==")[2])
            assert version is not None, entry
            one = found.setdefault((name, version[0]), _component(name, version[0], entry))
            one["properties"].append({"name": "hero-ray:part", "value": part})
            if part in ("runtime", "cpu", "cuda"):
                one["scope"] = "required"
    return [found[key] for key in sorted(found)]


def _component(name: str, version: str, entry: str) -> dict[str, Any]:
    purl = f"pkg:pypi/{quote(name)}@{quote(version, safe='')}"
    hashes = [{"alg": "SHA-256", "content": each} for each in re.findall(r"sha256:([0-9a-f]{64})", entry)]
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
        "scope": "excluded",
        "hashes": hashes,
        "licenses": [{"license": {"name": licence(name)}}],
        "properties": [],
    }


def licence(name: str) -> str:
    """What an installed package states: its expression, else its classifiers, else its licence field's first line."""
    try:
        told = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return NOT_HERE
    if expressions := told.get_all("License-Expression"):
        return str(expressions[0])
    classes = [line.rpartition(" :: ")[2] for line in told.get_all("Classifier") or () if line.startswith("License")]
    if classes:
        return " AND ".join(dict.fromkeys(classes))
    lines = "".join(told.get_all("License") or ()).strip().splitlines()
    return str(lines[0][:80]) if lines else "not stated"


def document(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The bill of materials."""
    own = f"pkg:pypi/hero-ray@{__version__}"
    needed = [one["bom-ref"] for one in found if one["scope"] == "required"]
    root = {"type": "application", "bom-ref": own, "name": "hero-ray", "version": __version__, "purl": own}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": root, "tools": {"components": [{"type": "application", "name": "tools.sbom"}]}},
        "components": found,
        "dependencies": [{"ref": own, "dependsOn": needed}],
    }


def listed(found: list[dict[str, Any]]) -> str:
    """One line a package: name, version, licence, where it is installed."""
    lines = []
    for one in found:
        parts = ", ".join(PLACES[held["value"]] for held in one["properties"])
        lines.append(f"{one['name']}=={one['version']}  {one['licenses'][0]['license']['name']}  ({parts})\n")
    return "".join(lines)


def main(folder: str) -> int:
    """Write both files."""
    found, target = components(), Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    (target / NAME).write_text(json.dumps(document(found), indent=1) + "\n", encoding="utf-8")
    (target / LIST).write_text(listed(found), encoding="utf-8")
    here = sum(one["licenses"][0]["license"]["name"] != NOT_HERE for one in found)
    print(f"{len(found)} packages in {target / NAME}; licences of the {here} that are installed in {target / LIST}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2] or ["dist"]))
