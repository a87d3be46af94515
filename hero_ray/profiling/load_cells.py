"""Which cells a load measures, and under which conditions: servers of one's own, and any OpenAI-compatible address."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping, Sequence
from typing import Any

from hero_ray.core.config import SweepConfig
from hero_ray.core.engines import OURS, VLLM, engine_of, vllm_version
from hero_ray.core.errors import ConfigError
from hero_ray.core.plan import ENDPOINT, FULL, digest
from hero_ray.core.version import __version__
from hero_ray.engine.endpoint import PREFIX, Endpoint
from hero_ray.profiling.certificate import INFORMATION, commit, device_name, version_of
from hero_ray.profiling.job import FORMAT, KIND, prunings_of
from hero_ray.profiling.load import WHOLE, LoadedCell, Loading
from hero_ray.results.load import LOAD


def own_contenders(config: SweepConfig, url: str, streamed: bool) -> tuple[LoadedCell, ...]:
    """Every method of a sweep at its budgets, asked of our own service with `pruning` in the body.

    Raises:
        ConfigError: budgets or newlines that the service does not know.
    """
    if (config.budget_base, config.newline_policy) != ("real", "unpadded_rows"):
        raise ConfigError("the service knows the budget base real and the newline policy unpadded_rows alone")
    endpoint = Endpoint(url, attempts=1)
    found = []
    for key, pruning in prunings_of(config).items():
        params = pruning.method.parameters()
        asked: dict[str, Any] = {"method": pruning.method.name, "variant": pruning.method.variant, **params}
        if pruning.method.name != FULL:
            asked |= {"tokens": pruning.tokens} if pruning.ratio is None else {"retention_ratio": pruning.ratio}
        budget = {"tokens": pruning.tokens, "base": pruning.base, "newline_policy": pruning.policy}
        body = {"pruning": asked} | ({} if streamed else WHOLE)
        found.append(
            LoadedCell(
                key,
                endpoint,
                pruning.method.name,
                pruning.method.variant,
                params,
                1.0 if pruning.ratio is None else pruning.ratio,
                budget,
                body,
            )
        )
    return tuple(found)


def endpoint_contenders(
    model: str, arguments: Mapping[str, Any], against: str | None, streamed: bool
) -> tuple[LoadedCell, ...]:
    """A server as it stands and, in front, the one it is held against.

    A server's own pruning is named by its flag; whatever it prunes, its cell is `full`, as in a sweep.

    Raises:
        ConfigError: an address that may not be asked, or an argument that endpoints do not have.
    """
    once = {"attempts": 1} | dict(arguments)
    body = {} if streamed else WHOLE
    asked = [LoadedCell("", Endpoint.of(model, once), body=body)]
    if against is not None:
        plain = {key: value for key, value in once.items() if key != "flag"}
        asked.insert(0, LoadedCell("", Endpoint.of(against, plain), body=body))
    named = tuple(_named(one) for one in asked)
    if against is not None and named[0].params == named[1].params:
        raise ConfigError(f"{model} is held against itself; say what it prunes by: --model-args 'flag=...'")
    return named


def _named(one: LoadedCell) -> LoadedCell:
    flag, served = one.endpoint.flag, one.endpoint.find_served()
    params = {"server": one.endpoint.url, "served": served, **one.endpoint.naming}
    return LoadedCell(f"{flag or FULL}@100%", one.endpoint, params=params, body=one.body)


def conditions(job: Loading, streamed: bool, **more: Any) -> dict[str, Any]:
    """The certificate of a load: all that must be equal for two of its figures to be compared, and its hash.

    The number of clients is none of it: that is what a load varies.
    """
    facts = {
        "kind": LOAD,
        "device_name": device_name(),
        "cpus": os.cpu_count(),
        "answers": "streamed" if streamed else "whole",
        "requests": job.requests,
        "rounds": job.rounds,
        "max_tokens": job.max_tokens,
        "benchmark": job.benchmark.name,
        "flavour": job.benchmark.flavour,
        "data": job.benchmark.fingerprint(),
        "questions": len(job.questions),
        "python": platform.python_version(),
        **more,
    }
    hashed = {key: value for key, value in facts.items() if key not in INFORMATION}
    told = {"hero_ray": __version__, "commit": commit(), "hash": digest(hashed)}
    return facts | told


def engine_facts(config: SweepConfig) -> dict[str, Any]:
    """What the certificate says of vLLM, where it answers in our service; {} where our own blocks do.

    Raises:
        ConfigError: cells that vLLM cannot answer.
        MissingExtraError: it is not installed.
    """
    engine = engine_of(config.model_args)
    if engine == OURS:
        return {}
    inside = [
        key
        for key, one in prunings_of(config).items()
        if engine == VLLM and one.method.stage == "in-llm" and one.ratio != 1
    ]
    if inside:
        raise ConfigError(
            f"engine=vllm cannot answer {', '.join(inside)}: tokens are dropped inside the language model. Use "
            "engine=auto, which answers those on hero_ray's own blocks, or leave the methods out"
        )
    return {"vllm": vllm_version()}


def of_our_service(device: str, **settings: Any) -> dict[str, Any]:
    """What stands in the certificate of our own service beside `conditions`."""
    packages = {name: version_of(name) for name in ("torch", "transformers")}
    return {"engine": "hero_ray service", "device_name": device_name(device), **packages, **settings}


def of_servers(contenders: Sequence[LoadedCell]) -> dict[str, Any]:
    """What stands in the certificate of somebody's servers: their addresses and the day, since they may change."""
    servers = sorted({one.endpoint.url for one in contenders})
    day = time.strftime("%Y-%m-%d", time.gmtime())
    return {"engine": ENDPOINT, "device_name": ", ".join(servers), "dtype": "n/a", "day": day}


def written(
    records: Sequence[Mapping[str, Any]], certificate: Mapping[str, Any], model: str, family: str, revision: str
) -> list[dict[str, Any]]:
    """Records as a file of profiles holds them."""
    origin = {"kind": KIND, "format": FORMAT, "model": model, "family": family, "revision": revision}
    named = {"certificate": dict(certificate), "certificate_hash": certificate["hash"]}
    return [origin | dict(record) | named for record in records]


def origin_of(contenders: Sequence[LoadedCell]) -> tuple[str, str, str]:
    """(model, family, revision) of a server's cells: its address, and the model it says it serves."""
    last = contenders[-1].endpoint
    return PREFIX + last.url, ENDPOINT, last.find_served()
