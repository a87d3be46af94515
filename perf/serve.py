"""Throughput and latency of the HTTP service on `hero-tiny`, and what it costs over `evaluate`.

    python -m perf.serve [--requests 64] [--clients 1,8,32] [--replicas 1] [--out perf/results/serve.json]

Starts a service of its own, once with micro-batches and once without. Each client asks the next question when its last
one is answered (closed loop); pictures differ, answers have 8 tokens at most. "evaluate" is the sweep's evaluator on
the same pictures and questions, one after another on one thread in this process, while no service runs.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hero_ray import models
from hero_ray.core.config import build
from hero_ray.engine.evaluate import Evaluator, Settings
from hero_ray.pipeline.facts import Plan, make_plan
from hero_ray.serve.settings import Limits, ServeSettings
from perf.report import keep, report

PRUNINGS: dict[str, dict[str, Any]] = {
    "full": {"method": "full"},
    "hero 20%": {"method": "hero", "retention_ratio": 0.2},
}
NEW_TOKENS = 8
COLUMNS = ("how", "pruning", "clients", "per_s", "p50_ms", "p95_ms")


def plan_for(count: int) -> Plan:
    """Both prunings over `count` pictures of the synthetic existence questions, one question each."""
    task = {"name": "synth-exist", "source": {"num_images": count, "questions_per_image": 1}}
    document = {"tasks": [task], "methods": ["full", "hero"], "budgets": [0.2], "straw_men": False}
    return make_plan(build(document))


def questions(plan: Plan) -> list[tuple[str, bytes]]:
    """(prompt as the benchmark puts it, PNG file) of every unit."""
    made = []
    for unit in plan.units:
        sample = unit.samples[0]
        benchmark = plan.benchmarks[sample.benchmark]
        buffer = io.BytesIO()
        benchmark.load_image(sample.image_ref).save(buffer, "PNG")
        made.append((benchmark.prompt(sample, "llava-next"), buffer.getvalue()))
    return made


def summary(seconds: list[float], wall: float) -> dict[str, float]:
    """Throughput and latency quantiles."""
    p50, p95 = np.percentile(seconds, [50, 95])
    return {"per_s": len(seconds) / wall, "p50_ms": 1e3 * float(p50), "p95_ms": 1e3 * float(p95)}


def directly(plan: Plan, method: str) -> dict[str, float]:
    """`Evaluator.evaluate`, one question after another."""
    cells = [cell for cell in plan.cells if cell.method == method]
    evaluator = Evaluator(models.load("hero-tiny"), cells, plan.benchmarks, Settings(max_new_tokens=NEW_TOKENS))
    evaluator.evaluate(plan.units[0])
    seconds, began = [], time.perf_counter()
    for unit in plan.units:
        start = time.perf_counter()
        predictions = evaluator.evaluate(unit)
        seconds.append(time.perf_counter() - start)
        assert [prediction.error_type for prediction in predictions] == [None]
    return summary(seconds, time.perf_counter() - began)


async def over_http(
    url: str, asked: list[tuple[str, bytes]], pruning: dict[str, Any], clients: int
) -> dict[str, float]:
    """A closed loop of `clients`."""
    import httpx

    waiting, seconds = iter(asked), []

    async def client(http: httpx.AsyncClient) -> None:
        for text, image in waiting:
            picture = {"url": f"data:image/png;base64,{base64.b64encode(image).decode()}"}
            content = [{"type": "text", "text": text}, {"type": "image_url", "image_url": picture}]
            body = {"model": "hero-tiny", "messages": [{"role": "user", "content": content}]}
            start = time.perf_counter()
            answer = await http.post(url, json=body | {"max_tokens": NEW_TOKENS, "pruning": pruning})
            seconds.append(time.perf_counter() - start)
            answer.raise_for_status()

    async with httpx.AsyncClient(timeout=120) as http:
        began = time.perf_counter()
        await asyncio.gather(*(client(http) for _ in range(clients)))
        return summary(seconds, time.perf_counter() - began)


def show(row: dict[str, Any] | None = None) -> None:
    """One line of the table as soon as it is known; its head without a row."""
    shown = dict(zip(COLUMNS, COLUMNS, strict=True)) if row is None else row
    cells = [shown.get(name, "") for name in COLUMNS]
    print("  ".join(f"{cell:>14.1f}" if isinstance(cell, float) else f"{cell:>14}" for cell in cells), flush=True)


def overheads(rows: list[dict[str, Any]]) -> dict[str, float]:
    """What HTTP, the proxy, the queue and the wait for a batch add to one answer, ms by pruning and batching."""
    found = {}
    for row in rows:
        if row.get("clients") == 1:
            direct = [each["p50_ms"] for each in rows if each["pruning"] == row["pruning"] and "clients" not in each]
            found[f"{row['pruning']}, {row['how']}"] = row["p50_ms"] - min(direct)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--clients", default="1,8,32")
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--port", type=int, default=8123)
    parser.add_argument("--out", type=Path, default=Path("perf/results/serve.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # as a replica does
    plan = plan_for(arguments.requests)
    asked = questions(plan)
    rows: list[dict[str, Any]] = []

    def note(row: dict[str, Any]) -> None:
        rows.append(row)
        show(row)

    show()
    for name, pruning in PRUNINGS.items():
        note({"how": "evaluate", "pruning": name} | directly(plan, pruning["method"]))
    from ray import serve

    from hero_ray.pipeline.cluster import connected
    from hero_ray.serve.run import start

    with tempfile.TemporaryDirectory() as scratch, connected(None):
        for batch_size in (16, 1):
            settings = ServeSettings(
                db=f"sqlite:///{scratch}/results.db",
                port=arguments.port,
                replicas=arguments.replicas,
                batch_size=batch_size,
                limits=Limits(queued=256),
            )
            start(settings)
            url = f"http://127.0.0.1:{arguments.port}/v1/chat/completions"
            asyncio.run(over_http(url, asked[:4], PRUNINGS["full"], 2))  # warm-up
            for name, pruning in PRUNINGS.items():
                for clients in map(int, arguments.clients.split(",")):
                    row = {"how": f"batch {batch_size}", "pruning": name, "clients": clients}
                    note(row | asyncio.run(over_http(url, asked, pruning, clients)))
        serve.shutdown()
    for name, pruning in PRUNINGS.items():
        note({"how": "evaluate again", "pruning": name} | directly(plan, pruning["method"]))
    figures = {"requests": arguments.requests, "new_tokens": NEW_TOKENS, "overhead_ms": overheads(rows), "rows": rows}
    for name, milliseconds in figures["overhead_ms"].items():
        print(f"overhead over evaluate, one client, {name}: {milliseconds:.1f} ms")
    keep(arguments.out, "serve", figures)
    report("serve", figures)


if __name__ == "__main__":
    main()
