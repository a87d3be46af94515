"""Who may listen where, what tokens look like, and what a stream may show."""

from __future__ import annotations

import pytest

pytest.importorskip("fastapi")

from hero_ray.core.errors import ConfigError
from hero_ray.serve.settings import Tokens, build_settings, is_loopback
from hero_ray.serve.spelling import showable

TOKENS = "HERO_RAY_TOKENS"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "example.org"])
def test_a_public_address_needs_a_token(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.delenv(TOKENS, raising=False)
    with pytest.raises(ConfigError, match="without a token"):
        build_settings({"host": host})
    monkeypatch.setenv(TOKENS, "infer:long-enough")
    assert build_settings({"host": host}).host == host


def test_loopback_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKENS, raising=False)
    for host in ("127.0.0.1", "::1", "localhost"):
        assert is_loopback(host)
        assert build_settings({"host": host}).host == host


@pytest.mark.parametrize("text", ["secret-without-role", "root:long-enough", "infer:short"])
def test_a_malformed_token_is_refused_without_repeating_it(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(TOKENS, text)
    with pytest.raises(ConfigError) as caught:
        Tokens.from_environment()
    assert text.partition(":")[2] not in str(caught.value) or ":" not in text
    assert "secret-without-role" not in str(caught.value)


def test_a_secret_with_two_roles_has_the_higher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKENS, "admin:same-secret,read:same-secret")
    assert Tokens.from_environment().role("same-secret") == "admin"
    assert Tokens.from_environment().role("") is None


def test_a_serve_config_file_needs_a_token_unless_it_says_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray.serve")
    from hero_ray.serve.deployments import app_from_file

    monkeypatch.delenv(TOKENS, raising=False)
    with pytest.raises(ConfigError, match="without a token"):
        app_from_file({})
    assert app_from_file({"host": "127.0.0.1"})


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(ConfigError, match="modelz"):
        build_settings({"modelz": ["x"]})


@pytest.mark.parametrize(
    ("text", "stops", "shown"),
    [
        (" red", (), "red"),
        ("red ", (), "red"),
        ("red E", ("END",), "red"),
        ("red EN", ("END",), "red"),
        ("red ENOUGH", ("END",), "red ENOUGH"),
        ("red END blue", ("END",), "red"),
        ("caf\ufffd", (), "caf"),
        ("a b", ("b c", "xx"), "a"),
    ],
)
def test_a_stream_holds_back_what_may_be_a_stop(text: str, stops: tuple[str, ...], shown: str) -> None:
    assert showable(text, stops) == shown
