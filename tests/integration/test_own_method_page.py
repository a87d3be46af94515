"""The package that `docs/own_method.md` prints, made and used as a reader would."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "own_method.md").read_text(encoding="utf-8")
METADATA = "Metadata-Version: 2.1\nName: longest-norm\nVersion: 0.1\n"


def block(name: str) -> str:
    (found,) = re.findall(rf"<!-- {re.escape(name)} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


def test_the_printed_package_is_listed_and_keeps_every_promise(tmp_path: Path) -> None:
    import tomllib

    (tmp_path / "longest_norm.py").write_text(block("longest_norm.py"), encoding="utf-8")
    points = tomllib.loads(block("pyproject.toml"))["project"]["entry-points"]
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in names.items()) for group, names in points.items()]
    installed = tmp_path / "longest_norm-0.1.dist-info"  # what pip leaves behind
    installed.mkdir()
    (installed / "METADATA").write_text(METADATA, encoding="utf-8")
    (installed / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")])
    script = f"{block('check')}\nfrom hero_ray.methods import names\nassert 'longest-norm' in names()\nprint('kept')"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "kept"
