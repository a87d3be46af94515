"""How quick the dashboard feels on a million predictions: first paint under 2 s, a filter change under 0.5 s."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.sync.client import connect

from hero_ray.core.types import Cell, Sample
from hero_ray.store import MetricRow, bulk, open_store, writes
from hero_ray.store.records import sample_id
from hero_ray.store.tables import MetricTable, PredictionTable, RunCell
from tests import machine

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(machine.chromium() is None, reason="no Chromium on this machine"),
]

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
            ids = [sample_id(sample) for sample in samples]
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
    rest = dict.fromkeys(writes.table(PredictionTable).c.keys()) | fixed
    rows = [{**rest, "sample_id": sample, "score": float(score)} for sample, score in zip(ids, scores, strict=True)]
    bulk.write_rows(connection, rows)
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


FIRST_SEEN = """
window.firstSeen = {};
const seen = (what, found) => { if (found && !(what in window.firstSeen)) window.firstSeen[what] = performance.now(); };
const look = () => {
  seen("title", document.querySelector("h1"));
  seen("results", [...document.querySelectorAll("p")].some(p => p.textContent.startsWith("On the Pareto line")));
  const picture = document.querySelector(".first-look img");
  seen("picture", picture && picture.complete && picture.naturalWidth);
  seen("chart", document.querySelector(".js-plotly-plot .scatterlayer .point"));
};
new MutationObserver(look).observe(document, {childList: true, subtree: true});
document.addEventListener("load", look, true);
"""


def first_seen(address: str, profile: Path) -> dict[str, float]:
    """Seconds after navigation began until a browser that was never here shows title, results, picture and chart.

    Spoken to without Playwright, which listens to every script: V8 then keeps stack traces for it, and Plotly alone
    takes half a second longer to load than for a visitor.
    """
    port = machine.free_port()
    command = [
        str(machine.chromium()),
        "--headless=new",
        f"--remote-debugging-port={port}",
        f"--user-data-dir={profile}",
    ]
    with subprocess.Popen(
        [*command, "--window-size=1440,900", *machine.CHROMIUM_FLAGS, "about:blank"], stderr=subprocess.DEVNULL
    ) as run:
        try:
            with connect(_page_socket(port)) as tab:
                _call(tab, "Page.enable")
                _call(tab, "Page.addScriptToEvaluateOnNewDocument", source=FIRST_SEEN)
                time.sleep(1)  # for the browser's own start to be over
                _call(tab, "Page.navigate", url=address)
                deadline = time.monotonic() + 60
                while time.monotonic() < deadline:
                    time.sleep(0.5)
                    found = _call(tab, "Runtime.evaluate", expression="JSON.stringify(window.firstSeen)")
                    times = json.loads(found["result"].get("value", "{}"))
                    if "chart" in times:
                        return {what: milliseconds / 1e3 for what, milliseconds in times.items()}
        finally:
            run.terminate()
    raise AssertionError(f"no chart within a minute, only {times}")


def _page_socket(port: int) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=5) as answer:
                pages = [target for target in json.load(answer) if target["type"] == "page"]
        except OSError:
            pages = []
        if pages:
            return str(pages[0]["webSocketDebuggerUrl"])
        time.sleep(0.2)
    raise AssertionError("Chromium did not open its debugging port")


def _call(tab: Any, method: str, **parameters: Any) -> dict[str, Any]:
    """A command of the DevTools protocol and its result; events are passed over."""
    tab.send(json.dumps({"id": 1, "method": method, "params": parameters}))
    while True:
        message = json.loads(tab.recv(timeout=60))
        if message.get("id") == 1:
            return dict(message["result"])


def test_a_million_predictions_are_seen_soon(serve: Callable[[str], str], million: str, tmp_path: Path) -> None:
    address = serve(million)
    first_seen(address, tmp_path / "warm")  # the server's first visitor warms it
    visits = [first_seen(address, tmp_path / str(i)) for i in range(3)]
    kinds = ("title", "results", "picture", "chart")
    title, results, picture, chart = (sorted(visit[what] for visit in visits)[1] for what in kinds)
    print(
        f"\nfirst paint: title {title:.2f} s, results {results:.2f} s, picture of the chart {picture:.2f} s, "
        f"chart that answers the mouse {chart:.2f} s after navigation began"
    )
    # The aim is 2 s on a quiet machine; a shared one only guards against seconds turning into minutes.
    assert title <= results <= chart < 30
    assert picture <= chart


def test_a_million_predictions_feel_quick(visit: Callable[..., Any], million: str) -> None:
    tab = visit(million)
    tab.open("", chart=True)
    changes = []
    for name, axis in (("KV cache", "KV cache"), ("FLOPs", "Computation"), ("Tokens", "Visual tokens")):
        started = time.perf_counter()
        tab.page.get_by_text(name, exact=True).click()
        tab.page.wait_for_function(
            f"document.querySelector('.xtitle') && document.querySelector('.xtitle').textContent.startsWith('{axis}')",
            polling=20,
        )
        changes.append(time.perf_counter() - started)
        tab.settle()
    started = time.perf_counter()
    flips = visit(million)
    flips.page.goto(f"{flips.address}/flips")
    flips.page.wait_for_selector("text=/Both answered/")
    looked = time.perf_counter() - started
    started = time.perf_counter()
    advice = visit(million)
    advice.page.goto(f"{advice.address}/advise")
    advice.page.wait_for_selector("text=/Safe: a larger loss is ruled out/")
    advised = time.perf_counter() - started
    print(f"\nfilter change {sorted(changes)[1]:.2f} s, flips {looked:.2f} s, advise {advised:.2f} s")
    size = Path(million.removeprefix("sqlite:///")).stat().st_size
    print(f"10^6 predictions, {size / 2**20:.0f} MiB; filter changes {', '.join(f'{c:.2f}' for c in changes)} s")
    assert sorted(changes)[1] < 10  # the aim is 0.5 s on a quiet machine
