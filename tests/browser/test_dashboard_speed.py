"""How quick the dashboard feels on a million predictions: first paint under 2 s, a filter change under 0.5 s."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hero_ray.store import MetricRow, open_store, writes
from hero_ray.store.tables import MetricTable, PredictionTable, RunCell
from hero_ray.types import Cell, Sample

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(900)]

BENCHMARKS = ("vqav2_val", "gqa", "textvqa_val", "pope")
METHODS = ("hero", "hired", "fastervlm", "ptp", "random", "spatial")
BUDGETS = (0.4, 0.3, 0.2, 0.1)
EACH = 10_000


def cells() -> list[Cell]:
    """100 cells: full tokens and six methods at four budgets on each of four benchmarks."""
    pairs = [("full", 1.0), *((method, ratio) for method in METHODS for ratio in BUDGETS)]
    return [
        Cell(f"{method}-{ratio}-{name}", "llava-next-7b", method, "exact", {}, ratio, name, "head")
        for name in BENCHMARKS
        for method, ratio in pairs
    ]


@pytest.fixture(scope="module")
def million(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A finished run of 100 cells with 10,000 answers each."""
    url = f"sqlite:///{tmp_path_factory.mktemp('million') / 'million.db'}"
    rng = np.random.default_rng(0)
    with open_store(url) as store:
        store.create_run("million", "million", {}, "million")
        store.add_cells("million", cells(), {cell.id: EACH for cell in cells()})
        for name in BENCHMARKS:
            samples = [Sample(name, f"{i:05d}", f"What is {i}?", ["a"], f"{name}-{i // 4}", None) for i in range(EACH)]
            store.add_samples(samples)
            ids = [writes.sample_id(sample) for sample in samples]
            for cell in (cell for cell in cells() if cell.benchmark == name):
                scores = (rng.random(EACH) < 0.5 + 0.3 * cell.retention_ratio).astype(float)
                store.transaction(_fill, cell, ids, scores)
        store.set_status("million", "complete")
    return url


def _fill(connection: Any, cell: Cell, ids: list[str], scores: np.ndarray) -> None:
    tokens = round(2880 * cell.retention_ratio)
    fixed = {"run_id": "million", "cell_id": cell.id, "text": "a", "n_text": 40, "n_selected": tokens, "attempts": 1}
    fixed |= {
        "n_visual_llm": tokens,
        "equivalent_tokens": float(tokens),
        "flops": 1e9 * tokens,
        "kv_bytes": 2**19 * tokens,
    }
    rows = [{**fixed, "sample_id": sample, "score": float(score)} for sample, score in zip(ids, scores, strict=True)]
    connection.execute(writes.table(PredictionTable).insert(), rows)
    value, half = float(scores.mean()), 1.96 * float(scores.std()) / 100
    metric = MetricRow("exact_match", value, EACH, "", value - half, value + half, EACH // 4, True)
    writes.replace_rows(connection, MetricTable, [vars(metric) | {"run_id": "million", "cell_id": cell.id}])
    means = {
        f"mean_{name}": fixed[name] for name in ("n_selected", "n_visual_llm", "equivalent_tokens", "flops", "kv_bytes")
    }
    own = writes.table(RunCell)
    where = (own.c.run_id == "million") & (own.c.cell_id == cell.id)
    closed = {"n_done": EACH, "status": "complete", "summarised_at": writes.now(), **means}
    connection.execute(own.update().where(where).values(**closed))


def test_a_million_predictions_feel_quick(visit: Callable[..., Any], million: str) -> None:
    visit(million).open("", chart=True)  # warms the server
    tab = visit(million)
    started = time.perf_counter()
    tab.page.goto(tab.address)
    tab.page.wait_for_selector("h1")
    tab.page.wait_for_selector(".js-plotly-plot .scatterlayer .point", state="attached")
    paint = time.perf_counter() - started
    tab.settle()
    changes = []
    for name, title in (("KV cache", "KV cache"), ("FLOPs", "Computation"), ("Tokens", "Visual tokens")):
        started = time.perf_counter()
        tab.page.get_by_text(name, exact=True).click()
        tab.page.wait_for_function(
            f"document.querySelector('.xtitle') && document.querySelector('.xtitle').textContent.startsWith('{title}')",
            polling=20,
        )
        changes.append(time.perf_counter() - started)
        tab.settle()
    started = time.perf_counter()
    flips = visit(million)
    flips.page.goto(f"{flips.address}/flips")
    flips.page.wait_for_selector("text=/Both answered/")
    looked = time.perf_counter() - started
    print(f"\nfirst chart {paint:.2f} s, filter change {sorted(changes)[1]:.2f} s, flips {looked:.2f} s")
    size = Path(million.removeprefix("sqlite:///")).stat().st_size
    print(f"10^6 predictions, {size / 2**20:.0f} MiB; filter changes {', '.join(f'{c:.2f}' for c in changes)} s")
    # The aims are 2 s and 0.5 s on a quiet machine; the figures are printed, a shared one only guards against seconds
    # turning into minutes.
    assert paint < 30
    assert sorted(changes)[1] < 10
