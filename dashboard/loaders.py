"""Cached reads for the pages, and what a person sees when the database cannot serve them.

Every cached loader takes all it depends on as arguments: the database's URL, which file stands behind it, and the
stamp that changes when a run or a cell closes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import streamlit as st

from hero_ray.core.errors import HeroRayError, StoreError
from hero_ray.results import advice, cards, early, named, two_runs
from hero_ray.results.averages import averages
from hero_ray.results.axes import AXES
from hero_ray.results.contenders import Results, every_model
from hero_ray.results.frontiers import Frontier, average_frontiers, frontiers
from hero_ray.results.marks import Mark
from hero_ray.results.shown import palette
from hero_ray.store import RunRow, Store, answers, default_url, figures, flips, open_store, searching, studies
from hero_ray.store import runs as stored
from hero_ray.store.engine import parse_url, sqlite_path

T = TypeVar("T")
MAX_RUNS = 200


def _file(url: str) -> int:
    """Identity of the file behind a SQLite URL: a database that was replaced must be opened anew."""
    path = sqlite_path(parse_url(url))
    return path.stat().st_ino if path is not None and path.exists() else 0


@st.cache_resource(max_entries=4, show_spinner=False)
def _store(url: str, file: int) -> Store:
    return open_store(url, read_only=True, patience_s=1.0)


def store() -> Store:
    """The results database, opened read-only.

    Raises:
        StoreError: it cannot be used; `guard` turns that into a page.
    """
    url = default_url()
    return _store(url, _file(url))


def read(query: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """One query on a connection of its own."""
    return store().read(query, *arguments, **options)


@st.cache_data(ttl=2, max_entries=8, show_spinner=False)
def _stamp(url: str, file: int) -> str:
    return repr(read(stored.version))


def stamp() -> tuple[str, int, str]:
    """What every cached loader depends on."""
    url = default_url()
    return url, _file(url), _stamp(url, _file(url))


@st.cache_data(max_entries=64, show_spinner=False)
def _cached(stamp: tuple[str, int, str], name: str, arguments: tuple[Any, ...]) -> Any:
    return _LOADERS[name](*arguments)


@st.cache_resource(max_entries=4, show_spinner=False)
def _results(stamp: tuple[str, int, str], run_ids: tuple[str, ...]) -> list[Results]:
    return every_model(store(), run_ids)


@st.cache_resource(max_entries=64, show_spinner=False)
def _made(stamp: tuple[str, int, str], key: tuple[Any, ...], _make: Callable[[], Any]) -> Any:
    return _make()


def made(key: tuple[Any, ...], make: Callable[[], T]) -> T:
    """What `make` makes of stored rows, once for all visitors until the rows change; not to be written to.

    Args:
        key: all that it depends on besides the rows, as plain values.
    """
    found: T = _made(stamp(), key, make)
    return found


def results(run_ids: tuple[str, ...], model: str | None = None) -> list[Results]:
    """What the rows of some runs (newest first) mean, model by model, or of one of them; scores are read once."""
    return [each for each in _results(stamp(), run_ids) if model in (None, each.model)]


def _load_marks(run_ids: tuple[str, ...], benchmark: str | None, metric: str | None, category: str) -> list[Mark]:
    found = []
    for each in results(run_ids):
        if benchmark in (None, *each.benchmarks):
            found += each.marks([benchmark] if benchmark else None, metric, bool(category))
    return _ordered(mark for mark in found if not category or mark.category == category)


def _ordered(found: Iterable[Mark]) -> list[Mark]:
    return sorted(found, key=lambda m: (m.model, palette.rank(m.method), m.name.series, -m.retention_ratio))


def _load_charts(
    run_ids: tuple[str, ...], axis: str, benchmark: str | None, metric: str | None, category: str
) -> list[Frontier]:
    charts: list[Frontier] = []
    for each in results(run_ids):
        if benchmark is None:
            charts += average_frontiers(each, axis, apart=True)
        elif benchmark in each.benchmarks:
            charts += frontiers(each, axis, [benchmark], bool(category), metric, apart=True)
    return [chart for chart in charts if chart.placed and chart.category == category]


_LOADERS: dict[str, Callable[..., Any]] = {
    "runs": lambda: store().runs(MAX_RUNS),
    "sizes": lambda: read(stored.run_sizes),
    "marks": _load_marks,
    "averages": lambda runs: _ordered(mark for each in results(runs) for mark in averages(each)),
    "charts": _load_charts,
    "growth": lambda runs, model, benchmark, margin, baseline: early.growth(
        results(runs, model)[0], benchmark, margin / 100, baseline
    ),
    "advice": lambda runs, model, allowance, axis, benchmarks: advice.advise(
        results(runs, model)[0], advice.Allowance(*allowance), AXES[axis], benchmarks
    ),
    "two_runs": lambda a, b: two_runs.cells(store(), store().run(a), store().run(b)),
    "card": lambda runs, model, method: cards.card(results(runs, model)[0], method),
    "metric_names": lambda runs: read(figures.metric_names, runs),
    "categories": lambda benchmark: read(answers.categories, benchmark),
    "metric_categories": lambda run, cell: store().metrics(run).get(cell, []),
    "cells": lambda run: store().cells(run),
    "profiles": lambda runs: read(figures.profiles, runs),
    "hits": lambda where, *asked: read(searching.answers if where == "answers" else searching.questions, *asked),
    "flip_counts": lambda a, b, category: read(flips.flip_counts, a, b, category),
    "flips": lambda a, b, direction, category: read(flips.flips, a, b, direction, category),
    "trend": lambda sweep: read(figures.trend, sweep),
    "alerts": lambda run: read(stored.alerts, run),
    "studies": lambda: read(studies.newest),
    "failures": lambda run: (read(answers.failure_counts, run), named.failures(store(), run, 100)),
}


def forget() -> None:
    """Look again at once, where this visitor has just written; others notice within two seconds."""
    _stamp.clear()


def load(name: str, *arguments: Any) -> Any:
    """A cached read by name; see `_LOADERS`."""
    return _cached(stamp(), name, arguments)


def runs() -> list[RunRow]:
    """Runs, newest first."""
    return list(load("runs"))


@contextmanager
def guard() -> Iterator[None]:
    """Turn a database that cannot serve the page into a page that says so and what to do."""
    try:
        yield
    except StoreError as problem:
        explain(str(problem))
        st.stop()
    except HeroRayError as problem:
        st.error(plain(str(problem)))
        st.stop()


def plain(text: str) -> str:
    """Text as it stands, with nothing that Markdown would act on."""
    for mark in "\\`*_{}[]()#+-.!|<>$~:":
        text = text.replace(mark, "\\" + mark)
    return text.replace("\n", "  \n")


def explain(message: str) -> None:
    """The page for a database that is not there, empty, locked or of another version."""
    text = message.lower()
    if "locked" in text or "busy" in text:
        st.warning("The database is locked by another program at the moment.", icon=None)
        st.write("Nothing is wrong with the results. This page works again as soon as the other program lets go.")
        st.button("Try again", type="primary")
    elif "does not exist" in text and "no such table" not in text:
        empty("There is no results database yet.")
    elif "holds no hero_ray tables" in text:
        empty("The database is there, but nothing has been stored in it yet.")
    elif "no such table" in text or "expected" in text or "does not exist" in text:
        st.warning("The database does not have the tables that this version expects.")
        st.write("Bring it up to date, then reload this page:")
        st.code("hero-ray db upgrade", language="bash")
    else:
        st.error("The database cannot be read.")
    st.caption(plain(message))


def empty(title: str) -> None:
    """Say that there is nothing to show yet and how to get something."""
    st.info(title)
    st.write("Run the embedded demo (offline, about two minutes on two CPU cores), then reload this page:")
    st.code("python -m hero_ray.sweep", language="bash")
    st.write("Results elsewhere? Point the dashboard at them:")
    st.code("hero-ray dashboard --db sqlite:///results.db", language="bash")
