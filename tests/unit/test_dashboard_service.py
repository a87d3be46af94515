"""Try it through the service: what is sent, what is made of the answer, how refusals read."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("plotly")

from dashboard import service
from hero_ray.core.errors import HeroRayError


def result(method: str, kept: int) -> dict[str, Any]:
    keep = np.zeros(20, dtype=bool)
    keep[:kept] = True
    return {
        "method": method,
        "answer": f"{method} says red",
        "grid": [2, 2],
        "side": [2, 2],
        "keep": base64.b64encode(np.packbits(keep).tobytes()).decode(),
        "note": "",
        "tokens": {"budget_nominal": kept, "n_selected": kept, "n_visual_llm": kept + 4},
        "ledger": {"equivalent_tokens": 5.0, "tflops_model": 0.5, "tflops_encoder": None, "tflops_decode": 0.25},
        "kv_bytes": 2048,
        "timings_ms": {"select": 1.0, "generate": 2.0},
    }


class Service(BaseHTTPRequestHandler):
    """Answers one question as the service's document describes it."""

    seen: dict[str, Any]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).seen = {"path": self.path, "token": self.headers.get("Authorization"), **body}
        known = body["model"] == "hero-tiny"
        rows = [result("full", 20), result(body["pruning"][1]["method"], 4)]
        good = {"family": "llava-next", "encode_ms": 7.0, "results": rows}
        bad = {"error": {"message": "no such model", "type": "invalid_request_error"}}
        self.send_response(200 if known else 404)
        self.end_headers()
        self.wfile.write(json.dumps(good if known else bad).encode())

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


PICTURE = Image.new("RGB", (60, 40), (200, 30, 30))


def test_both_answers_come_from_one_call(address: str) -> None:
    full, hero = service.ask(address + "/", "secret", "hero-tiny", PICTURE, "What colour?", "hero", 0.2)
    assert (full.text, hero.text) == ("full says red", "hero says red")
    assert (hero.kept, hero.n_visual_llm, hero.kv_bytes) == (4, 8, 2048)
    assert hero.flops == pytest.approx(0.75e12)
    assert hero.seconds == pytest.approx(0.010)
    assert [panel.kept for panel in hero.panels] == [4, 0]
    assert Service.seen["path"] == "/v1/explain"
    assert Service.seen["token"] == "Bearer secret"
    assert Service.seen["pruning"][1] == {"method": "hero", "retention_ratio": 0.2}
    assert Service.seen["image"].startswith("data:image/png;base64,")


def test_a_refusal_keeps_the_services_own_words(address: str) -> None:
    with pytest.raises(HeroRayError, match="the service answered 404: no such model"):
        service.ask(address, None, "other", PICTURE, "What colour?", "hero", 0.2)


def test_an_absent_service_is_named() -> None:
    with pytest.raises(HeroRayError, match=r"http://127\.0\.0\.1:9/v1/explain cannot be used"):
        service.ask("http://127.0.0.1:9", None, "hero-tiny", PICTURE, "What colour?", "hero", 0.2)
