"""What the tests marked `vllm` run in an interpreter that has vLLM: real engines beside our own blocks.

`python -m tests.vllm_lane agree hero-tiny 16` prints one JSON line: prompts, equal answers, and where they part.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from operator import eq
from pathlib import Path
from typing import Any

import psutil
import torch
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from hero_ray import benchmarks, methods, models
from hero_ray.core.config import build
from hero_ray.core.errors import HeroRayError, SelectionError
from hero_ray.engine.cut import Picture, Pruning, cut
from hero_ray.engine.evaluate import Evaluator
from hero_ray.methods.base import Method
from hero_ray.models.base import Request
from hero_ray.models.generation import GenerationOptions
from hero_ray.pipeline.facts import make_plan, reads_clip
from hero_ray.serve.engine import Engine
from hero_ray.serve.engine_types import ChatJob
from hero_ray.serve.joined import wait_for_room
from hero_ray.serve.schemas import PruningRequest
from hero_ray.serve.work import Caller
from hero_ray.store import open_store
from hero_ray.store.records import sample_id
from tests.local_serve import picture as encoded

RATIOS = (0.4, 0.2, 0.1)
TASKS, NEW_TOKENS = ("synth-words", "synth-digits", "synth-scene", "synth-attribute"), 8


def early() -> Iterator[Method]:
    """Every variant of every method that decides before the language model, `full` apart."""
    for name in methods.names():
        for variant in methods.get(name).variants:
            method = methods.create(name, variant=variant)
            if method.stage != "in-llm" and name != "full":
                yield method


def requests_of(adapter: Any, questions: int, with_clip: bool = True) -> list[tuple[str, Request]]:
    """(method and budget, request) of every early method on the first questions of embedded benchmarks."""
    each = -(-questions // len(TASKS))
    asked = [(task, sample) for task in map(benchmarks.get, TASKS) for sample in task.samples(limit=each)][:questions]
    prunings = [Pruning(methods.create("full"), 1.0)]
    chosen = [method for method in early() if with_clip or not reads_clip(method.needs(adapter.vision))]
    prunings += [Pruning(method, ratio) for method in chosen for ratio in RATIOS]
    made = []
    pictures: dict[str, Picture] = {}
    for task, sample in asked:
        if sample.image_key not in pictures:
            needs = [pruning.method.needs(adapter.vision) for pruning in prunings]
            whole = needs[0]
            for one in needs[1:]:
                whole |= one
            pictures[sample.image_key] = Picture(adapter, task.load_image(sample.image_ref), sample.image_key, whole)
        prompt = adapter.prompt(task.prompt(sample, adapter.info.family), sample.question)
        for pruning in prunings:
            try:
                visual = cut(pictures[sample.image_key], pruning, sample.question, prompt).visual
            except SelectionError:  # a tenth of a miniature's few tokens may be none
                continue
            label = f"{pruning.method.name}:{pruning.method.variant}@{pruning.ratio}"
            made.append((label, Request(prompt, visual, NEW_TOKENS)))
    return made


def compare(adapter: Any, requests: list[Request], labels: list[str], options: GenerationOptions) -> dict[str, Any]:
    """Answers of both engines side by side; where they part, the margin between our two best tokens there."""
    ours, vllm = adapter.decoder, adapter.engine.vllm
    expected, found = ours.answer(requests, options=options), vllm.answer(requests, options=options)
    some, forced = requests[::7], replace(options, ignore_eos=True)
    forced_equal = sum(map(eq, ours.answer(some, options=forced), vllm.answer(some, options=forced)))
    parted = []
    for label, request, one, other in zip(labels, requests, expected, found, strict=True):
        if one != other:
            parted.append({"label": label, "margin": margin(ours, request, one.token_ids, other.token_ids)})
    logits = torch.cat([ours.prefill([request]).logits for request in some])
    best = logits.float().log_softmax(-1).max(-1)
    first = vllm.first_tokens(some)
    return {
        "prompts": len(requests),
        "equal": len(requests) - len(parted),
        "parted": parted,
        "forced": len(some),
        "forced_equal": forced_equal,
        "tokens": sum(len(one.token_ids) for one in expected),
        "logprob_difference": max(abs(a[1] - b) for a, b in zip(first, best.values.tolist(), strict=True)),
    }


def margin(ours: Any, request: Request, one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """Distance of the two best logits where two answers part; infinite where only the figures around them differ."""
    step = next((n for n, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), None)
    step = min(len(one), len(other)) if step is None else step
    if one == other:
        return float("inf")
    state = ours.prefill([Request(request.prompt, request.visual, step + 1)])
    for token in one[:step]:
        ours.decode(state, torch.tensor([token]))
    first, second = state.logits[0].float().topk(2).values.tolist()
    return first - second


def agree(name: str, questions: str, dtype: str = "float32") -> dict[str, Any]:
    """Both engines on every early method; prompts share their prefixes, as in a sweep."""
    adapter = models.load(name, engine="auto", dtype=dtype)
    made = requests_of(adapter, int(questions))
    labels, requests = [label for label, _ in made], [request for _, request in made]
    whole = {"model": name, "dtype": dtype, "methods": len({label.split("@")[0] for label in labels})}
    return whole | compare(adapter, requests, labels, GenerationOptions())


def kinds(*names: str) -> dict[str, Any]:
    """Both engines on a miniature of every language model type, or of some, in the layouts their checkpoints have."""
    from tests.vllm_miniatures import MINIATURES

    found = {}
    for name, (write, chosen) in MINIATURES.items():
        if names and name not in names:
            continue
        with tempfile.TemporaryDirectory() as home:
            folder = Path(home) / name
            write(chosen, folder)
            adapter = models.load(str(folder), engine="auto")
            made = requests_of(adapter, 1, with_clip=False)
            labels, requests = [label for label, _ in made], [request for _, request in made]
            found[name] = compare(adapter, requests, labels, GenerationOptions())
    return found


TOO_BUSY, STARTS = "node timed out during startup", 6
"""What Ray says where it does not stand within its 30 s, on a machine that is busy with other things."""


def cards(tensor: str, pipeline: str) -> dict[str, Any]:
    """A language model shared out over processes as it would be over cards, beside our own blocks."""
    settings = {"tensor_parallel_size": int(tensor), "pipeline_parallel_size": int(pipeline)}
    adapter = models.load("hero-tiny", engine="auto", engine_args=settings)
    made = requests_of(adapter, 1)
    found = compare(adapter, [request for _, request in made], [label for label, _ in made], GenerationOptions())
    return found | {"processes": len(_workers(psutil.Process()))}


def hold(tensor: str) -> None:
    """Say which processes an engine consists of, and wait to be killed."""
    adapter = models.load("hero-tiny", engine="vllm", engine_args={"tensor_parallel_size": int(tensor)})
    print(json.dumps([one.pid for one in _workers(psutil.Process())]), flush=True)
    time.sleep(1700)
    del adapter  # an engine that nobody holds is freed


def orphans(tensor: str) -> dict[str, Any]:
    """Kill a process that holds an engine of several: what stays behind?"""
    command = [sys.executable, "-m", "tests.vllm_lane", "hold", tensor]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        line = next((line for line in holder.stdout if line.startswith("[")), None)
        assert line is not None, f"the engine did not start ({holder.wait()})"
        members = [psutil.Process(pid) for pid in json.loads(line)]
        holder.kill()
        _, alive = psutil.wait_procs(members, timeout=120)
    return {"members": len(members), "left_behind": [one.pid for one in alive]}


def _workers(process: psutil.Process) -> list[psutil.Process]:
    """Processes that vLLM's engine consists of beside this one; Python's resource tracker holds none of it."""
    return [one for one in process.children(recursive=True) if "resource_tracker" not in " ".join(one.cmdline())]


def room() -> dict[str, Any]:
    """Two models of one service on vLLM, the first of which makes room for a third: what is left of it, and do the
    others answer as before?"""
    service = Engine({"engine": "vllm", "engine_args": {"kv_cache_gib": 0.5}}, kept_bytes=2**22)
    held = {"first": service.load("hero-tiny"), "second": service.load("hero-tiny-internvl")}

    def text(name: str) -> str:
        job = ChatJob("How many circles are there?", "How many circles?", encoded(), PruningRequest(method="hero"), 8)
        return service.one(held[name], service.turn(held[name], job, Caller())).text

    before = {name: text(name) for name in held}
    core = held["first"].engine.steps.decoder.engine.engine_core.engine_core
    runner = core.model_executor.driver_worker.worker.model_runner
    left = {"weights": weakref.ref(next(runner.model.parameters())), "cache": weakref.ref(runner.kv_caches[0])}
    del core, runner, held["first"]
    held["third"] = service.load("hero-tiny")
    after = {name: text(name) for name in held}
    held.clear()
    held["fourth"] = service.load("hero-tiny")
    after["fourth"] = text("fourth")
    held.clear()
    wait_for_room(service._vllms)
    return {
        "left": [name for name, one in left.items() if one() is not None],
        "equal": after == {"second": before["second"], "third": before["first"], "fourth": before["first"]},
        "answers": before,
    }


SWEEP: dict[str, Any] = {
    "tasks": ["synth-words", "synth-exist"],
    "limit": 120,
    "methods": ["hero", "fastervlm", "fastv"],
    "budgets": [0.4, 0.2],
    "straw_men": False,
    "models": ["hero-tiny"],
    "replicas": 1,
    "profile": {"enabled": False},
    "model_args": {"engine": "auto"},
}


def sweep() -> dict[str, Any]:
    """A sweep on both engines whose worker is killed, whose driver is then stopped, and which is run again to its end;
    beside it every answer of our own blocks, made here."""
    plan = make_plan(build(SWEEP))
    with tempfile.TemporaryDirectory() as home:
        file, url = Path(home) / "sweep.yaml", f"sqlite:///{home}/results.db"
        file.write_text(json.dumps(SWEEP))
        command = [sys.executable, "-m", "hero_ray", "sweep", str(file), "--db", url]
        seen: set[psutil.Process] = set()
        kept = _until_rows(command, url, 100, seen, worker=True)
        _until_rows(command, url, kept + 200, seen, worker=False)
        for _ in range(STARTS):
            ended = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
            if TOO_BUSY not in ended.stderr:
                break
        assert ended.returncode == 0, ended.stderr[-3000:]
        psutil.wait_procs(list(seen), timeout=60)
        with open_store(url) as store, store.engine.connect() as connection:
            found = connection.execute(text("select cell_id, sample_id, text from predictions")).all()
    evaluator = Evaluator(models.load("hero-tiny"), plan.cells, plan.benchmarks)
    expected = {
        (made.cell_id, sample_id(made.sample), made.text) for unit in plan.units for made in evaluator.evaluate(unit)
    }
    return {
        "engines": sorted({cell.engine for cell in plan.cells}),
        "answers": len(found),
        "rows_when_killed": kept,
        "equal_to_ours": {tuple(row) for row in found} == expected,
        "left_behind": [process.pid for process in seen if process.is_running()],
    }


def _until_rows(command: list[str], url: str, rows: int, seen: set[psutil.Process], worker: bool) -> int:
    """Start a sweep, kill its worker once so many answers are stored, and stop the driver a little later."""
    for _ in range(STARTS):
        with (
            tempfile.TemporaryFile("w+") as said,
            subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said) as driver,
        ):
            try:
                count = _count_at(url, rows, driver, seen)
            except AssertionError as early:
                said.seek(0)
                if TOO_BUSY in (last := said.read()):
                    continue
                raise AssertionError(f"{early}: {last[-3000:]}") from early
            if worker:
                _kill_worker(driver, seen)
                count = _count_at(url, count + 50, driver, seen)
            driver.send_signal(signal.SIGTERM)
            driver.wait(600)
            return count
    raise AssertionError(f"no Ray came up in {STARTS} starts: this machine is too busy for the test")


def _kill_worker(driver: subprocess.Popen[bytes], seen: set[psutil.Process]) -> None:
    """Kill the replica. Ray names its process after the actor once it runs; answers are stored, so it does."""
    while driver.poll() is None:
        for one in list(seen):
            with suppress(psutil.Error):  # gone since it was seen
                if "MapWorker" in " ".join(one.cmdline()):
                    one.kill()
                    return
        time.sleep(0.1)
        _see(driver, seen)
    raise AssertionError(f"the sweep ended ({driver.returncode}) before its replica was found")


def _see(driver: subprocess.Popen[bytes], seen: set[psutil.Process]) -> None:
    with suppress(psutil.Error):
        seen.update(psutil.Process(driver.pid).children(recursive=True))


def _count_at(url: str, rows: int, driver: subprocess.Popen[bytes], seen: set[psutil.Process]) -> int:
    while driver.poll() is None:
        _see(driver, seen)
        with suppress(HeroRayError, OperationalError), open_store(url, read_only=True) as store:
            with store.engine.connect() as connection:
                count = int(connection.execute(text("select count(*) from predictions")).scalar() or 0)
            if count >= rows:
                return count
        time.sleep(0.1)
    raise AssertionError(f"the sweep ended ({driver.returncode}) before {rows} answers were there")


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
