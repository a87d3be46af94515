"""Where secrets come from, who is told them, and what shows them."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from hero_ray.benchmarks.judge import Judge
from hero_ray.core import secret
from hero_ray.core.errors import ConfigError
from hero_ray.pipeline.local_ray import _kept_back
from hero_ray.serve.run import _secrets_of_jobs
from hero_ray.serve.settings import ServeSettings, Tokens
from hero_ray.store.engine import default_url, make_engine, parse_url


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*secret.NAMES, secret.FOLDER, "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(secret, "_handed", {})


def test_the_environment_goes_before_the_folder_and_a_driver_before_both(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "PGPASSWORD").write_text("of the file \n")
    monkeypatch.setenv(secret.FOLDER, str(tmp_path))
    assert secret.secret_of("PGPASSWORD") == "of the file "
    assert secret.secret_of("HERO_RAY_JUDGE_KEY") == ""
    monkeypatch.setenv("PGPASSWORD", "of the environment")
    assert secret.for_workers() == {"PGPASSWORD": "of the environment"}
    secret.hand_over({"PGPASSWORD": "of the driver"})
    assert secret.secret_of("PGPASSWORD") == "of the driver"


def test_a_folder_that_is_wrong_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(secret.FOLDER, str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="no folder"):
        secret.secret_of("PGPASSWORD")
    monkeypatch.setenv(secret.FOLDER, str(tmp_path))
    (tmp_path / "PGPASSWORD").write_bytes(b"\xff\xfe")
    (tmp_path / "HERO_RAY_DB").mkdir()
    for name in ("PGPASSWORD", "HERO_RAY_DB"):
        with pytest.raises(ConfigError, match=f"{name} of {secret.FOLDER} cannot be read"):
            secret.secret_of(name)


def test_every_reader_takes_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    values = {
        "HERO_RAY_DB": "postgresql://hero@host/hero",
        "PGPASSWORD": "p@ss w%rd",
        "HERO_RAY_JUDGE_KEY": "key",
        "HERO_RAY_TOKENS": "infer:a-long-secret",
    }
    for name, value in values.items():
        (tmp_path / name).write_text(value + "\n")
    monkeypatch.setenv(secret.FOLDER, str(tmp_path))
    monkeypatch.setenv("HERO_RAY_JUDGE_URL", "http://127.0.0.1:1/v1")
    monkeypatch.setenv("HERO_RAY_JUDGE_MODEL", "judge")
    assert default_url() == values["HERO_RAY_DB"]
    judge = Judge.from_environment("mmvet")
    assert (judge.key, "key=" in repr(judge)) == ("key", False)
    assert Tokens.from_environment().role("a-long-secret") == "infer"
    pytest.importorskip("psycopg")

    def connect(*_: Any, **given: Any) -> Any:
        assert given["password"] == values["PGPASSWORD"]
        raise LookupError("was asked")

    engine = make_engine(parse_url(default_url()))
    monkeypatch.setattr(engine.dialect, "connect", connect)
    with pytest.raises(LookupError, match="was asked"):
        engine.raw_connection()


def test_files_are_for_this_account_alone_and_go() -> None:
    with secret.written({"PGPASSWORD": "x"}) as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "PGPASSWORD").stat().st_mode) == 0o600
    assert not folder.exists()


@pytest.mark.parametrize("url", ["postgresql://u:top-secret@h/hero", "postgresql://u@h/hero?password=top-secret"])
def test_a_service_keeps_what_its_jobs_need_in_a_folder(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("HERO_RAY_DB", url)
    monkeypatch.setenv("HERO_RAY_JUDGE_KEY", "key")
    monkeypatch.setenv("HERO_RAY_TOKENS", "infer:a-long-secret")
    with _secrets_of_jobs(ServeSettings(), None), _kept_back(secret.NAMES):
        assert not set(secret.NAMES) & set(os.environ), "what a Ray that starts now inherits"
        folder = Path(os.environ[secret.FOLDER])
        assert {file.name for file in folder.iterdir()} == {"HERO_RAY_DB", "HERO_RAY_JUDGE_KEY"}
        assert default_url() == url
    assert secret.FOLDER not in os.environ
    assert os.environ["HERO_RAY_DB"] == url


def test_without_secrets_or_on_a_cluster_there_is_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    with _secrets_of_jobs(ServeSettings(db="sqlite:////x.db"), None):
        assert secret.FOLDER not in os.environ
    monkeypatch.setenv("PGPASSWORD", "x")
    with _secrets_of_jobs(ServeSettings(), "ray://head:10001"):
        assert secret.FOLDER not in os.environ
