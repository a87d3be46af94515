"""The package as its users have it: built, installed by pip into an environment of its own, run outside the repository.

That environment sees the packages of the running one, because installing torch and Ray anew takes minutes, but neither
this repository nor the editable installation: a wire ends every process of it that opens a file of either.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TRIPPED = 97
SECONDS = 280

WIRE = """
import os, sys

def _wire(event, arguments):
    if event not in ("open", "os.listdir", "os.scandir") or not arguments or not isinstance(arguments[0], (str, bytes)):
        return
    path = os.path.abspath(os.fsdecode(arguments[0]))
    editable = any(path.startswith(site + "/hero_ray/") for site in {sites!r})
    inside = path.startswith({root!r} + "/") and not path.startswith(tuple({sites!r}))
    if editable or inside:
        os.write(2, f"reached {{path}}\\n".encode())
        os._exit({tripped})

sys.addaudithook(_wire)
"""


def run(command: list[str], folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """One command of a user, with nothing of ours in its environment."""
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )


@dataclass(frozen=True)
class Installed:
    """An environment with the package, in `.venv` of a user's own repository.

    Attributes:
        folder: the user's, outside ours; commands run in it.
    """

    folder: Path

    @property
    def site(self) -> Path:
        [found] = (self.folder / ".venv" / "lib").glob("python*/site-packages")
        return found

    @property
    def environment(self) -> dict[str, str]:
        """What a shell outside the tests has."""
        ours = ("PYTHONPATH", "PYTHONHOME", "RAY_ADDRESS", "RAY_AUTH_MODE", "VIRTUAL_ENV")
        kept = {key: value for key, value in os.environ.items() if key not in ours and not key.startswith("HERO_RAY_")}
        return kept | {"OMP_NUM_THREADS": "1"}

    def program(self, name: str) -> str:
        return str(self.folder / ".venv" / "bin" / name)

    def python(self, script: str) -> subprocess.CompletedProcess[str]:
        return run([self.program("python"), "-c", script], self.folder, self.environment)

    def hero_ray(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run([self.program("hero-ray"), *arguments], self.folder, self.environment)


def build(target: str, into: Path) -> Path:
    """The file that `hatchling build -t TARGET` makes of the repository: a wheel or an sdist."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(into)]
    done = run(command, ROOT, dict(os.environ))
    assert done.returncode == 0, done.stdout + done.stderr
    [made] = into.iterdir()
    return made


def install(archive: Path, folder: Path) -> Installed:
    """Make a user's repository with an environment in it, and install a wheel or an sdist there with pip."""
    folder.mkdir()
    made = Installed(folder)
    venv.create(folder / ".venv", symlinks=True)
    sites = sorted({path for path in sys.path if path.endswith(("site-packages", "dist-packages"))})
    (made.site / "others.pth").write_text("\n".join(sites) + "\n")  # a line here reads no .pth of the folder it names
    # --ignore-installed: pip sees the editable installation of the running environment through that file.
    options = ["--no-index", "--no-deps", "--no-build-isolation", "--ignore-installed", "--quiet"]
    command = [sys.executable, "-m", "pip", "--python", made.program("python"), "install", *options, str(archive)]
    done = run(command, folder, made.environment)
    assert done.returncode == 0, done.stdout + done.stderr
    (made.site / "_wire.py").write_text(WIRE.format(sites=sites, root=str(ROOT), tripped=TRIPPED))
    (made.site / "wire.pth").write_text("import _wire\n")
    _decoys(folder)
    return made


def _decoys(folder: Path) -> None:
    """A user's own folders with the names of ours, and a commit that is not ours either."""
    for name in ("dashboard/__init__.py", "db/env.py"):
        (folder / name).parent.mkdir()
        (folder / name).write_text("raise RuntimeError('this folder is the user\\'s own')\n")
    (folder / ".gitignore").write_text(".venv/\n")
    identity = ["-c", "user.name=user", "-c", "user.email=user@example.org"]
    for arguments in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "Begin"]):
        subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)
