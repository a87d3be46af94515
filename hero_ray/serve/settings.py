"""Everything the service can be told, in one typed object. Secrets come from the environment only."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hero_ray.core.errors import ConfigError
from hero_ray.core.secret import secret_of

Role = Literal["read", "infer", "admin"]
RANK: dict[str, int] = {"read": 0, "infer": 1, "admin": 2}
TOKENS_VARIABLE = "HERO_RAY_TOKENS"


class Limits(BaseModel):
    """What one request may ask for, and what the service holds at once."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    body_bytes: int = Field(default=24 * 2**20, ge=1024)
    body_seconds: float = Field(default=30.0, gt=0)
    body_values: int = Field(default=200_000, ge=1000)
    pixels: int = Field(default=40_000_000, ge=1)
    prompt_chars: int = Field(default=32_768, ge=1)
    new_tokens: int = Field(default=1024, ge=1)
    request_seconds: float = Field(default=60.0, gt=0)
    queued: int = Field(default=64, ge=1)
    work: float = Field(default=400.0, gt=0)
    sweeps: int = Field(default=4, ge=1)
    queued_work: float = Field(default=2000.0, gt=0)
    explain_pairs: int = Field(default=16, ge=1)


class ServeSettings(BaseModel):
    """The service: which models, how many replicas, who may ask for what."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    models: tuple[str, ...] = ("hero-tiny",)
    model_args: dict[str, Any] = Field(default_factory=dict)
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    replicas: int = Field(default=1, ge=1)
    max_replicas: int | None = Field(default=None, ge=1)
    cpus_per_replica: float = Field(default=0.5, gt=0)
    gpus_per_replica: float = Field(default=0.0, ge=0)
    models_per_replica: int = Field(default=2, ge=1)
    batch_size: int = Field(default=16, ge=1)
    batch_wait_s: float = Field(default=0.005, ge=0)
    kept_mib: int = Field(default=256, ge=0)
    db: str | None = None
    ray_dashboard: str | None = None
    ray_address: str | None = None
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _public_needs_tokens(self) -> ServeSettings:
        if not self.models:
            raise ConfigError("the service needs at least one model in `models`")
        if not is_loopback(self.host) and not Tokens.from_environment():
            raise ConfigError(
                f"refusing to listen on {self.host} without a token: anyone could use the models. "
                f"Set {TOKENS_VARIABLE}=infer:SECRET (roles: read, infer, admin), or use --host 127.0.0.1"
            )
        return self


def build_settings(document: Mapping[str, Any]) -> ServeSettings:
    """Validate settings.

    Raises:
        ConfigError: an unknown key, a value of the wrong kind, or a public address without a token.
    """
    try:
        return ServeSettings(**document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"service setting `{where}`: {first['msg']}") from None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


class Tokens:
    """Bearer tokens and their roles, from `HERO_RAY_TOKENS=role:secret,role:secret`.

    Not part of the settings object, so that no log or dump of settings can show a secret. What is kept and travels to
    other processes are their SHA-256 digests.
    """

    def __init__(self, entries: tuple[tuple[str, str], ...]) -> None:
        self._entries = tuple((role, _digest(secret)) for role, secret in entries)

    def __bool__(self) -> bool:
        return bool(self._entries)

    @classmethod
    def from_environment(cls) -> Tokens:
        """Read the variable.

        Raises:
            ConfigError: an entry that is not ROLE:SECRET; the message does not repeat it.
        """
        entries = []
        for place, entry in enumerate(filter(None, secret_of(TOKENS_VARIABLE).split(",")), 1):
            role, colon, secret = entry.strip().partition(":")
            if not colon or role not in RANK or len(secret) < 8:
                raise ConfigError(
                    f"entry {place} of {TOKENS_VARIABLE} is not ROLE:SECRET with a role of {', '.join(RANK)} "
                    "and a secret of at least 8 characters"
                )
            entries.append((role, secret))
        return cls(tuple(entries))

    def role(self, presented: str) -> str | None:
        """The role of a token, or None. Every entry is compared in constant time, whichever matches."""
        found: str | None = None
        for role, secret in self._entries:
            if hmac.compare_digest(_digest(presented), secret) and (found is None or RANK[role] > RANK[found]):
                found = role
        return found
