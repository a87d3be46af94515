"""The studies page in a real Chromium: lab against serving, from a study that ran on a stand-in for vLLM."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hero_ray.store import open_store, studies
from hero_ray.studies import engine_times, engines, files
from hero_ray.studies.records import StudyRequest
from tests.stand_in_vllm import stand_in_model

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]
Visit = Callable[..., Any]


@pytest.mark.parametrize("width", [1440, 390])
def test_lab_against_serving_is_drawn_with_its_tables(
    width: int, visit: Visit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "vllm_version", lambda: "0.32.0")
    for name, value in (("CLIENTS", (1, 2)), ("PICTURES", 1), ("REPEATS", 2), ("ROUNDS", 2), ("NEW_TOKENS", 3)):
        monkeypatch.setattr(engine_times, name, value)
    found = engines.run(StudyRequest(stand_in_model(), ("synth-digits",), 2, methods=("hero",)))
    url = f"sqlite:///{tmp_path / 'results.db'}"
    with open_store(url) as store:
        store.transaction(studies.add, "one", "engines", "hero-tiny", {}, files.document(found, {}), "abc")
    tab = visit(url, width)
    page = tab.open("studies", chart=True)
    page.wait_for_selector("text=Lab against serving")
    assert page.locator("[data-testid=stException]").count() == 0
    titles = " ".join(page.locator(".xtitle").all_text_contents())
    assert "difference (95 % interval)" in titles
    assert "requests at once" in titles
    for table in ("The same cells on both engines", "Times on both engines", "Where answers part (0 in all)"):
        assert page.get_by_text(f"Table: {table}").count() == 1
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    tab.keep(f"study-engines-{width}")
