"""Runs: live progress of running sweeps, history, what a run is called, its configuration, provenance, failures."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import streamlit as st

from dashboard import evidence, figures, filters, history, loaders
from dashboard.loaders import plain
from hero_ray.results import named
from hero_ray.results.names import FULL, budget_of
from hero_ray.store import RunRow, answers
from hero_ray.store import runs as stored
from hero_ray.store.records import TERMINAL
from hero_ray.store.runs import RunProgress


def main() -> None:
    """Running sweeps on top, then the history, then one run in full."""
    st.title("Runs")
    found = loaders.runs()
    if not found:
        loaders.empty("The database holds no runs yet.")
        st.stop()
    if any(run.status == "running" for run in found):
        _running()
    history.table(found)
    by_id = {run.id: run for run in found}
    run_id = filters.choose_run("Run in full", by_id, "one")
    _one(by_id[run_id])


@st.fragment(run_every="2s")
def _running() -> None:
    """Refreshes by itself and nothing else on the page."""
    with loaders.guard():
        running = [run for run in loaders.store().runs(50) if run.status == "running"]
        if not running:
            st.info("The last running sweep has ended. Reload the page to see it in the history.")
        for run in running:
            _live(run, loaders.read(stored.progress, run.id, True))


def _live(run: RunRow, progress: RunProgress) -> None:
    with st.container(border=True):
        alive = stored.is_alive(progress)
        state = "running" if alive else "not moving: whoever worked on it is gone; the same command resumes it"
        if run.cancel_requested:
            state = "stopping after its current unit"
        st.markdown(f"**{plain(run.name or run.sweep_name)}** · {plain(run.id)} · {state}")
        finished = progress.done + progress.failed
        left = f", {_eta(run, progress)}" if alive else ""
        text = f"{finished:,} of {progress.expected:,} answers, {progress.failed:,} failed{left}"
        st.progress(progress.share, text=text)
        if history.may_write() and alive and not run.cancel_requested:
            st.button("Stop after the current unit", key=f"cancel-{run.id}", on_click=history.cancel, args=(run.id,))


def _eta(run: RunRow, progress: RunProgress) -> str:
    finished = progress.done + progress.failed
    seconds = (datetime.now(UTC) - run.started_at).total_seconds() if run.started_at else 0.0
    if finished == 0 or seconds <= 0 or finished >= progress.expected:
        return "closing" if finished and finished >= progress.expected else "starting"
    left = timedelta(seconds=round(seconds * (progress.expected - finished) / finished))
    return f"{finished / seconds:.1f} answers/s, about {left} left"


def _one(run: RunRow) -> None:
    history.described(run)
    progress = loaders.read(stored.progress, run.id, run.status not in TERMINAL)
    status, cells, done, failed = st.columns(4)
    status.metric("Status", run.status)
    cells.metric("Cells complete", f"{progress.cells_complete:,} / {progress.cells:,}")
    done.metric("Answered", f"{progress.done:,}")
    failed.metric("Failed", f"{progress.failed:,}")
    _alerts(run)
    _failures(run, progress)
    if run.config.get("until") == "decided":
        _decided(run)
    with st.expander("Cells"):
        st.dataframe([_cell(cell) for cell in loaders.load("cells", run.id)], hide_index=True)
    with st.expander("Configuration"):
        st.json(dict(run.config))
    with st.expander("Provenance"):
        facts = {"commit": run.git_commit, "configuration hash": run.config_hash, "trigger": run.trigger}
        st.json(facts | dict(run.environment))


def _decided(run: RunRow) -> None:
    """What was decided early, what that saved, and how the evidence grew."""
    st.header("Decided early")
    cells = loaders.load("cells", run.id)
    stopped = [cell for cell in cells if cell.stop_reason]
    count, saved, hours = st.columns(3)
    count.metric("Cells decided", f"{len(stopped):,} / {len(cells):,}")
    saved.metric("Answers saved", f"{run.saved_answers:,}")
    hours.metric("Replica time saved, about", str(timedelta(seconds=round(run.saved_replica_s))))
    model = filters.choose("Model", list(dict.fromkeys(cell.model for cell in cells)), "evidence-model")
    names = list(dict.fromkeys(cell.benchmark for cell in cells if cell.model == model))
    benchmark = filters.choose("Benchmark", names, "evidence")
    margin = float(run.config.get("margin", 1.0))
    found = loaders.load("growth", (run.id,), model, benchmark, margin, run.config.get("baseline", FULL))
    if not found:
        st.info("No cell has answers beside the baseline's yet.")
        return
    st.plotly_chart(evidence.growing(found, margin), config=figures.CONFIG)
    st.caption(
        "A cell is decided where its line crosses a dashed one, or where another of the same or a smaller budget is "
        "surely better. Each limit is that of a 5 % error over all cells of the benchmark, however often one looks."
    )
    rows = [
        {"cell": item.key, "decided": item.reason or "-", "after pictures": item.stop, "of": len(item.within)}
        for item in found
    ]
    st.dataframe(rows, hide_index=True)


def _cell(cell: Any) -> dict[str, Any]:
    return {
        "model": cell.model,
        "method": cell.method,
        "variant": cell.variant,
        "budget": budget_of(cell),
        "benchmark": cell.benchmark,
        "seed": cell.seed,
        "status": cell.status,
        "done": cell.n_done,
        "failed": cell.n_failed,
        "expected": cell.n_expected,
        "cell": cell.id,
    }


def _alerts(run: RunRow) -> None:
    for alert in loaders.load("alerts", run.id)[:10]:
        show = {"info": st.info, "error": st.error}.get(alert["severity"], st.warning)
        show(plain(f"{alert['kind']}: {alert['message']}"))


def _failures(run: RunRow, progress: RunProgress) -> None:
    if not progress.failed:
        return
    counts, rows = (
        loaders.load("failures", run.id)
        if run.status in TERMINAL
        else (loaders.read(answers.failure_counts, run.id), named.failures(loaders.store(), run.id, 100))
    )
    st.header("Failures")
    st.markdown(" · ".join(f"**{plain(name)}** {count:,}" for name, count in counts.items()))
    st.dataframe(rows, hide_index=True)


with loaders.guard():
    main()
