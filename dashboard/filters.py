"""Filters that live in the URL: one line per filter on a page, a link shares exactly what is on screen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import streamlit as st

from dashboard import loaders, profiles
from dashboard.profiles import Conditions
from hero_ray.store import RunRow

T = TypeVar("T")


def choose(label: str, options: Sequence[T], key: str, default: T | None = None, **more: Any) -> T:
    """One of several, as a drop-down bound to `?key=`."""
    _strangers(label, options, key, more.get("format_func", str))
    index = options.index(default) if default in options else 0
    return st.selectbox(label, options, index=index, key=key, bind="query-params", **more)


def toggle(label: str, options: Sequence[str], key: str, names: Callable[[str], str] = str, **more: Any) -> str:
    """One of a few, all visible, bound to `?key=`; a second click does not clear it."""
    _strangers(label, options, key, names)
    chosen = st.segmented_control(
        label, options, default=options[0], required=True, format_func=names, key=key, bind="query-params", **more
    )
    return str(chosen or options[0])


def several(label: str, options: Sequence[T], key: str, default: Sequence[T] | None = None, **more: Any) -> list[T]:
    """Any of several, bound to `?key=`."""
    _strangers(label, options, key, more.get("format_func", str))
    start = list(options if default is None else default)
    return list(st.multiselect(label, options, default=start, key=key, bind="query-params", **more))


def _strangers(label: str, options: Sequence[T], key: str, names: Callable[[T], str]) -> None:
    """Say which values of the address are no option here: Streamlit leaves them out without a word."""
    known = {names(option) for option in options}
    if unknown := [value for value in st.query_params.get_all(key) if value not in known]:
        st.warning(f"The address asks for {label.lower()} {', '.join(map(loaders.plain, unknown))}, which is not here.")


def short_id(run_id: str) -> str:
    """A run's id where there is little room: its end tells runs of one day apart, its beginning does not."""
    return run_id if len(run_id) <= 12 else f"…{run_id[-6:]}"


def in_run(cell: str, run_id: str) -> str:
    """A cell's name where several runs are looked at."""
    return f"{cell} in {short_id(run_id)}"


def switch(label: str, key: str, default: bool = False, **more: Any) -> bool:
    """Yes or no, bound to `?key=`."""
    return bool(st.toggle(label, value=default, key=key, bind="query-params", **more))


def run_name(run: RunRow) -> str:
    """A run in one line: what people call it, else its sweep; date, and the end of its id."""
    return f"{run.name or run.sweep_name} · {run.created_at:%d %b %Y %H:%M} · {short_id(run.id)}"


def _follow(key: str, names: Mapping[str, str]) -> None:
    """Let an address find its runs by id, or by its end once they are called otherwise. names: id -> in words."""
    if key in st.session_state:  # the address is the filter's own by now
        return
    known = {short_id(run): name for run, name in names.items()} | names
    asked = st.query_params.get_all(key)
    found = [known.get(value.rpartition(" · ")[2], value) for value in asked]
    if found != asked:
        st.query_params[key] = found


def choose_run(label: str, runs: Mapping[str, RunRow], key: str, default: str | None = None) -> str:
    """The id of one of several runs, by what people call it."""
    names = {run.id: run_name(run) for run in runs.values()}
    _follow(key, names)
    return choose(label, list(runs), key, default, format_func=lambda run: names[run])


def pick_runs() -> tuple[RunRow, ...]:
    """Runs to look at, in the sidebar: the newest one with figures unless the URL says otherwise; stops if none."""
    found = loaders.runs()
    if not found:
        loaders.empty("The database holds no runs yet.")
        st.stop()
    sizes = loaders.load("sizes")
    finished = [run for run in found if sizes.get(run.id, (0, 0, 0))[2]]
    by_id = {run.id: run for run in found}
    names = {run.id: run_name(run) for run in found}
    _follow("run", names)
    with st.sidebar:
        chosen = several(
            "Runs",
            list(by_id),
            "run",
            [(finished or found)[0].id],
            format_func=lambda key: names[key],
            help="Several runs are laid over each other; of a cell in two of them the newer one counts.",
        )
    if not chosen:
        st.info("Choose at least one run in the sidebar.")
        st.stop()
    order = {run.id: i for i, run in enumerate(found)}
    return tuple(by_id[key] for key in sorted(chosen, key=lambda key: order[key]))


def ids(runs: Sequence[RunRow]) -> tuple[str, ...]:
    """Run ids, newest first."""
    return tuple(run.id for run in runs)


def conditions(groups: Sequence[Conditions]) -> Conditions:
    """One of several groups of profile rows, and why the others cannot stand beside it."""
    names = list(dict.fromkeys(_unique(group, groups) for group in groups))
    name = names[0]
    if len(groups) > 1:
        name = choose("Measured under", names, "conditions")
        varied = [{key: value for key, value in group.certificate.items() if key != "batch_size"} for group in groups]
        if differing := profiles.differing_conditions(varied):
            reason = "; ".join(differing)
            st.caption(
                loaders.plain(f"Figures of unlike conditions are never drawn together. They differ in {reason}.")
            )
        elif len({group.model for group in groups}) > 1:
            st.caption("Each model has its own figures.")
    return groups[names.index(name)]


def _unique(group: Conditions, groups: Sequence[Conditions]) -> str:
    same = [other for other in groups if other.name == group.name]
    return group.name if len(same) == 1 else f"{group.name} ({same.index(group) + 1})"


def nothing_measured(runs: Sequence[RunRow]) -> None:
    """Say that the chosen runs hold no figures, and stop."""
    names = loaders.plain(", ".join(short_id(run.id) for run in runs))
    st.info(f"No cell of {names} has a figure yet. Figures appear when a cell is complete; see the Runs page.")
    st.stop()
