"""`hero-ray serve --check`: everything that would keep the service from starting, without starting it."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from hero_ray.cli import main
from hero_ray.models import miniature


@pytest.fixture
def port() -> int:
    """A port that nobody uses."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        return int(holder.getsockname()[1])


def checked(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Exit code and the line that was said."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["serve", "--check", *map(str, arguments)])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), (out + err).strip()


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HERO_RAY_TOKENS", raising=False)
    monkeypatch.delenv("HERO_RAY_DB", raising=False)


def test_valid_settings_exit_with_zero_and_leave_nothing(capsys, port, tmp_path) -> None:
    folder = miniature.write_llava(miniature.llava_next(), tmp_path / "model", miniature.clip())
    (tmp_path / "settings.yaml").write_text(f"models: [hero-tiny, 'someone/a-model', '{folder}']\nport: {port}\n")
    code, said = checked(capsys, "settings.yaml")
    line, last = said.splitlines()
    assert (code, line) == (0, f"settings are valid: hero-tiny, someone/a-model, {folder} on 127.0.0.1:{port}")
    assert json.loads(last) == {
        "valid": True,
        "models": ["hero-tiny", "someone/a-model", str(folder)],
        "host": "127.0.0.1",
        "port": port,
    }
    assert {path.name for path in tmp_path.iterdir()} == {"model", "settings.yaml"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("models: [hero-tyni]", "unknown model 'hero-tyni'. Did you mean 'hero-tiny'?"),
        ("models: [empty]", "config.json"),
        ("models: []", "at least one model"),
        ("model_args: {dtype: float8}", "dtype 'float8' is unknown"),
        ("model_args: {attention: fast}", "attention 'fast' is unknown"),
        ("model_args: {max_tales: 6}", "max_tales"),
        ("port: 70000", "service setting `port`"),
        ("prot: 80", "service setting `prot`"),
        ("host: 0.0.0.0", "refusing to listen on 0.0.0.0 without a token"),
        ("host: 0.0.0.0.0", "without a token"),
        ("db: sqlite:///nowhere/results.db", "database folder nowhere does not exist"),
        ("db: mysql://host/results", "is not supported"),
        ("- hero-tiny", "must hold a mapping of settings, not list"),
        ("models: [", "is not valid YAML"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(capsys, port, tmp_path, text: str, why: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "settings.yaml").write_text(text)
    code, said = checked(capsys, "settings.yaml", *(() if "port" in text else ("--port", port)))
    assert code == 2
    assert said.startswith("error: ")
    assert why in said
    assert len(said.splitlines()) == 1


def test_a_malformed_token_is_found_on_loopback_too(capsys, port, monkeypatch) -> None:
    monkeypatch.setenv("HERO_RAY_TOKENS", "infer:short")
    code, said = checked(capsys, "--port", port)
    assert code == 2
    assert "entry 1 of HERO_RAY_TOKENS is not ROLE:SECRET" in said
    assert "short" not in said


def test_an_address_of_another_machine_and_a_taken_port_are_named(capsys, monkeypatch) -> None:
    monkeypatch.setenv("HERO_RAY_TOKENS", "infer:long-enough")
    code, said = checked(capsys, "--host", "192.0.2.1")
    assert (code, said.partition(": ")[2].partition(";")[0]) == (
        2,
        "cannot listen on 192.0.2.1:8000: Cannot assign requested address",
    )
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = holder.getsockname()[1]
        code, said = checked(capsys, "--port", taken)
    assert code == 2
    assert f"cannot listen on 127.0.0.1:{taken}: Address already in use" in said
