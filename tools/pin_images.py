"""Put digests behind the tags of the images that are not ours: `make pin-images`, or `python -m tools.pin_images`.

A tag may be moved, a digest not. `docker buildx imagetools inspect` asks the registry; where none is in reach, or
without Docker, the tags stay and this ends with 1. `--unpin` takes the digests away again.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILES = ("docker-compose.yml", "Dockerfile", "cluster/kubernetes/base/postgres.yaml")
IMAGE = re.compile(r"((?:image: |PYTHON_IMAGE=)(?:postgres|python):[\w.-]+)(@sha256:[0-9a-f]{64})?")
DOCKER = os.environ.get("DOCKER", "docker")


def main(arguments: list[str]) -> int:
    """Rewrite the files; nothing is changed unless every digest is known."""
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in FILES}
    tags = sorted({re.split(r"[ =]", match[1])[-1] for text in texts.values() for match in IMAGE.finditer(text)})
    digests = dict.fromkeys(tags, "")
    if "--unpin" not in arguments:
        for tag in tags:
            try:
                digests[tag] = "@" + digest(tag)
            except (OSError, ValueError, subprocess.SubprocessError) as error:
                why = str(getattr(error, "stderr", "") or error).strip().splitlines()
                print(f"{tag}: no digest ({why[-1] if why else type(error).__name__}); the tags stay as they are")
                return 1
    for name, text in texts.items():
        pinned = IMAGE.sub(lambda match: match[1] + digests[re.split(r"[ =]", match[1])[-1]], text)
        (ROOT / name).write_text(pinned, encoding="utf-8")
    print("\n".join(f"{tag}{found}" for tag, found in digests.items()))
    return 0


def digest(tag: str) -> str:
    """What the registry has behind a tag, for all platforms.

    Raises:
        OSError, SubprocessError: no Docker, or no registry. ValueError: an answer that is no digest.
    """
    command = [DOCKER, "buildx", "imagetools", "inspect", tag, "--format", "{{.Manifest.Digest}}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    found = done.stdout.strip()
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", found):
        raise ValueError(f"Docker answered {found[:80]!r}")
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
