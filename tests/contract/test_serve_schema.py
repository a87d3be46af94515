"""Generated requests against the service's own OpenAPI document: no 5xx, nothing undocumented."""

from __future__ import annotations

import warnings
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

pytest.importorskip("fastapi")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # theirs, at import
    import schemathesis
    from schemathesis import GenerationMode, checks
    from schemathesis.specs.openapi import checks as openapi_checks

from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable

from hero_ray.results.database import open_results
from hero_ray.serve.api import build_api
from hero_ray.serve.desk import Desk
from hero_ray.serve.engine import Engine
from hero_ray.serve.settings import Limits, ServeSettings, Tokens
from tests.local_serve import Local, Noted


@pytest.fixture(scope="session")
def document() -> Any:
    url = f"sqlite:///{Path(mkdtemp(prefix='hero_ray_serve_')) / 'results.db'}"
    open_results(url).close()
    made = ServeSettings(db=url, limits=Limits(new_tokens=4))
    tokens = Tokens((("admin", "a-long-secret"),))
    api = build_api(made, Local(Engine({})), Desk(made, Noted()), tokens=tokens)
    return schemathesis.openapi.from_asgi("/openapi.json", api, headers=HEADERS)


HEADERS = {"authorization": "Bearer a-long-secret"}


CHECKS = [
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
    openapi_checks.response_headers_conformance,
]


OPERATIONS = [
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/explain"),
    ("POST", "/v1/sweeps"),
    ("GET", "/v1/sweeps"),
    ("GET", "/v1/sweeps/{sweep_id}"),
    ("DELETE", "/v1/sweeps/{sweep_id}"),
    ("GET", "/v1/frontier"),
    ("GET", "/v1/cells"),
    ("GET", "/v1/published"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{model}"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
]


def test_every_operation_is_tried(document: Any) -> None:
    found = {(result.ok().method.upper(), result.ok().path) for result in document.get_all_operations()}
    assert found == set(OPERATIONS)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_every_operation_keeps_to_the_document(document: Any, method: str, path: str, mode: GenerationMode) -> None:
    operation = document[path][method]
    cases = operation.as_strategy(generation_mode=mode)
    tried = 0

    @settings(max_examples=10, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(case=cases)
    def ask(case: schemathesis.Case) -> None:
        nonlocal tried
        case.validate_response(case.call(headers=HEADERS), checks=CHECKS)
        tried += 1

    try:
        ask()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE  # nothing can be wrong in a request without parameters
        return
    assert tried
