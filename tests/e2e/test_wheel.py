"""The wheel and the sdist as products: what is in them, and what works from them outside the repository."""

from __future__ import annotations

import csv
import json
import socket
import subprocess
import tomllib
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest

from hero_ray import __version__
from tests import installed
from tests.installed import ROOT, TRIPPED, Installed

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FORCED: dict[str, str] = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]


def test_every_file_of_ours_is_in_the_wheel_and_no_other(wheel: Path) -> None:
    places = FORCED | {"hero_ray": "hero_ray"}
    assert {"configs", "dashboard", "db"} <= places.keys()
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *places]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    files = [Path(name) for name in listed if (ROOT / name).is_file()]
    expected = {Path(places[file.parts[0]], *file.parts[1:]).as_posix() for file in files}
    assert len(expected) > 300
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert found == expected


def test_the_metadata_is_pyprojects(wheel: Path) -> None:
    project = PYPROJECT["project"]
    with zipfile.ZipFile(wheel) as archive:
        info = f"hero_ray-{__version__}.dist-info"
        metadata = HeaderParser().parsestr(archive.read(f"{info}/METADATA").decode())
        assert b"hero-ray = hero_ray.cli:main" in archive.read(f"{info}/entry_points.txt")
    assert (metadata["Name"], metadata["Version"]) == ("hero-ray", __version__)
    assert metadata["Requires-Python"] == project["requires-python"]
    assert set(metadata.get_all("Provides-Extra", [])) == set(project["optional-dependencies"])
    plain = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert len(plain) == len(project["dependencies"])


@pytest.mark.slow
def test_the_sdist_installs_the_very_same_files(user: Installed, tmp_path: Path) -> None:
    archive = installed.build("sdist", tmp_path / "sdist")
    other = installed.install(archive, tmp_path / "work")

    def record(of: Installed) -> set[tuple[str, str]]:
        text = (of.site / f"hero_ray-{__version__}.dist-info" / "RECORD").read_text(encoding="utf-8")
        return {(row[0], row[1]) for row in csv.reader(text.splitlines()) if row[0].startswith("hero_ray/")}

    assert record(other) == record(user)
    done = other.hero_ray("--version")
    assert (done.returncode, done.stdout.strip()) == (0, __version__), done.stderr


def test_the_package_is_the_installed_one_and_the_wire_is_live(user: Installed) -> None:
    done = user.python("import sys, hero_ray; print(hero_ray.__file__, *sys.path, sep='\\n')")
    assert done.returncode == 0, done.stderr
    place, *path = done.stdout.splitlines()
    assert place == str(user.site / "hero_ray" / "__init__.py")
    assert not user.folder.is_relative_to(ROOT)
    assert not [entry for entry in path if entry and (Path(entry) / "pyproject.toml").exists()]
    assert str(ROOT) not in path
    reached = user.python(f"open({str(ROOT / 'configs' / 'demo.yaml')!r})")
    assert reached.returncode == TRIPPED


@pytest.mark.slow
def test_plan_without_a_file_is_the_demo_and_shipped_files_have_names(user: Installed) -> None:
    bare = user.hero_ray("plan")
    assert bare.returncode == 0, bare.stderr
    assert "synth-attribute" in bare.stdout
    paper = user.hero_ray("plan", "configs/paper/offline/hero-table-7.yaml", "--set", "limit=2")
    assert paper.returncode == 0, paper.stderr
    assert "hero-table-7-offline" in paper.stdout


def test_an_unknown_sweep_file_lists_the_shipped_ones(user: Installed) -> None:
    done = user.hero_ray("plan", "configs/demo-interval.yaml")
    assert done.returncode == 2
    assert "no sweep file at 'configs/demo-interval.yaml'" in done.stderr
    assert "Did you mean 'demo-internvl'?" in done.stderr
    shipped = "beside-defaults, demo, demo-internvl, demo-qwen, every-method, nightly, paper/hero-figure-5"
    assert f"Shipped: {shipped}" in done.stderr


@pytest.mark.slow
def test_doctor_reports_the_installation(user: Installed) -> None:
    done = user.hero_ray("doctor")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout.splitlines()[-1])
    assert record["environment"]["hero-ray"] == __version__
    assert [one for one in record["plugins"] if one["state"] != "ok"] == []


@pytest.mark.slow
def test_db_makes_and_checks_a_database(user: Installed) -> None:
    for verb in ("upgrade", "check"):
        done = user.hero_ray("db", verb, "--db", "sqlite:///made.db")
        assert done.returncode == 0, done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["sound"] is True
    assert last["rows"]["published"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("taken", [False, True])
def test_serve_check_says_whether_the_service_would_start(user: Installed, taken: bool) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        port = str(holder.getsockname()[1])
        if taken:
            holder.listen()
        else:
            holder.close()
        done = user.hero_ray("serve", "--check", "--model", "hero-tiny,hero-tiny-internvl", "--port", port)
    if taken:
        assert done.returncode == 2
        assert done.stderr.startswith(f"error: cannot listen on 127.0.0.1:{port}: ")
    else:
        assert done.returncode == 0, done.stderr
        line, last = done.stdout.splitlines()
        assert line == f"settings are valid: hero-tiny, hero-tiny-internvl on 127.0.0.1:{port}"
        assert json.loads(last)["port"] == int(port)
    assert not (user.folder / "hero_ray.db").exists()
