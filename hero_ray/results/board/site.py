"""The board's pages: one with all records, one per model with a frontier per benchmark; no script, no request outside.

Records of one model share a chart only where weights, dtype, data and scoring rules are the same. No cell has a rank:
what no test tells apart is one group of ties.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from hero_ray.core.errors import InputError, NotComparableError
from hero_ray.core.plan import digest
from hero_ray.results.averages import straw_men
from hero_ray.results.board.records import BoardRecord, folders, take
from hero_ray.results.board.records import faults as records_faults
from hero_ray.results.contenders import Results
from hero_ray.results.frontiers import Frontier, frontiers
from hero_ray.results.names import EMBEDDED_NOTE, is_embedded
from hero_ray.results.report import tables
from hero_ray.results.report.figures import cost, number, span
from hero_ray.results.report.page import Block, to_html
from hero_ray.results.report.svg import frontier_chart
from hero_ray.results.writer import Grid, grid
from hero_ray.store import CellRow, Store, open_store

AXES = ("tokens", "flops", "ttft")
"""Costs that scores are charted against: counted ones, and one that is timed."""
INDEX = "index.html"
READING = (
    "Points of 100 with 95% intervals clustered by picture. Cells in one group are ties: no test tells them apart, and "
    "no cell has a rank. Costs on one axis were taken under equal conditions."
)


@dataclass(frozen=True)
class Built:
    """What a site consists of."""

    index: Path
    pages: int
    records: tuple[BoardRecord, ...]


@dataclass(frozen=True)
class Alike:
    """Runs whose cells of one model and benchmark may be compared.

    Attributes:
        about: what they have in common, in words.
        runs: verified ones first, since of a cell in two of them the first counts.
    """

    model: str
    benchmark: str
    about: str
    runs: tuple[str, ...]


def build(board: Path, out: Path) -> Built:
    """Render a folder of records.

    Raises:
        InputError: no folder, no record in it, or `out` cannot be written.
    """
    found = folders(board)
    if not found:
        raise InputError(f"{board} holds no record; make one with: hero-ray board submit {board} --by NAME")
    with TemporaryDirectory() as scratch, open_store(str(Path(scratch) / "board.db")) as store:
        records = sorted((take(store, folder) for folder in found), key=lambda one: (-one.share, one.name))
        pages = {INDEX: _index(store, records)}
        models = dict.fromkeys(each.model for each in _alike(store, records))
        pages |= {page_of(model): _page(store, records, model) for model in models}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, blocks in pages.items():
            (out / name).write_text(to_html(blocks), encoding="utf-8")
    except OSError as problem:
        raise InputError(f"cannot write the site {out}: {problem.strerror or problem}") from None
    return Built(out / INDEX, len(pages), tuple(records))


def faults(folder: Path) -> list[str]:
    """What keeps a record from counting, read as the board reads it."""
    with TemporaryDirectory() as scratch, open_store(str(Path(scratch) / "board.db")) as store:
        return list(records_faults(store, folder))


def page_of(model: str) -> str:
    """Name of a model's page; names that differ only in characters files do not take stay apart."""
    plain = "".join(c if c.isalnum() or c in "-." else "-" for c in model).strip("-.")[:80]
    return f"model-{plain}-{digest(model, 6)}.html"


def _alike(store: Store, records: Sequence[BoardRecord]) -> list[Alike]:
    """Every (model, benchmark) that some records have under equal conditions."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for record in records:
        if record.counts:
            for cell in store.cells(record.run_id):
                runs = groups.setdefault((cell.model, cell.benchmark, _about(cell)), [])
                if record.run_id not in runs:
                    runs.append(record.run_id)
    return [Alike(*key, tuple(runs)) for key, runs in sorted(groups.items())]


def _about(cell: CellRow) -> str:
    """What cells must share to be compared: weights, dtype, data, scoring rules."""
    spec = cell.spec
    if not isinstance(spec.get("model"), dict):
        return f"imported answers, {cell.flavour or 'unknown'} rules"
    model, data = spec["model"], spec.get("benchmark") or {}
    return (
        f"weights {str(model.get('revision'))[:12]}, {model.get('dtype')}; "
        f"rows {str(data.get('data'))[:12]}; {cell.flavour or 'default'} rules"
        + (f" of source {data['code']}" if data.get("code") else "")
    )


def _index(store: Store, records: Sequence[BoardRecord]) -> list[Block]:
    blocks = [Block("heading", "What pruning visual tokens costs and saves: records")]
    models = dict.fromkeys(each.model for each in _alike(store, records))
    blocks += [Block("link", f"Frontiers of {model}", page_of(model)) for model in models]
    if any(map(is_embedded, models)):
        blocks.append(Block("text", EMBEDDED_NOTE))
    left_out = sum(not record.counts for record in records)
    note = (
        "A record counts on the pages of its models unless it cannot be read, its verification says that it differs, "
        f"or it was changed since: {left_out} of {len(records)} do not."
    )
    head = ["Record", "Measured by", "Verified", "Models", "Benchmarks", "Methods", "Answers", "Fault"]
    rows = [(*_about_record(store, record),) for record in records]
    return [*blocks, Block("heading", "Records"), Block("text", note), Block("table", grid=grid(head, rows, left=6))]


def _about_record(store: Store, record: BoardRecord) -> Iterator[object]:
    cells = store.cells(record.run_id) if record.run_id else []
    yield from (record.name, record.measured_by, record.said)
    for name in ("model", "benchmark", "method"):
        yield ", ".join(dict.fromkeys(getattr(cell, name) for cell in cells)) or "-"
    yield sum(cell.n_done for cell in cells)
    yield record.fault


def _page(store: Store, records: Sequence[BoardRecord], model: str) -> list[Block]:
    by_run = {record.run_id: record for record in records if record.run_id}
    blocks = [Block("heading", model), Block("link", "All records", INDEX)]
    blocks.append(Block("text", READING))
    if is_embedded(model):
        blocks.append(Block("text", EMBEDDED_NOTE))
    for alike in _alike(store, records):
        if alike.model == model:
            blocks += _section(store, alike, by_run)
    return blocks


def _section(store: Store, alike: Alike, by_run: dict[str, BoardRecord]) -> list[Block]:
    results = Results(store, alike.runs, alike.model)
    blocks = [Block("heading", alike.benchmark), Block("text", f"{alike.about}; {len(alike.runs)} record(s).")]
    again = _again(store, alike, by_run)
    for by in AXES:
        for chart in frontiers(results, by, [alike.benchmark], apart=True):
            if not chart.placed or chart.certificate == "mixed":
                continue
            about = f", under certificate {chart.certificate}" if chart.certificate else ""
            blocks.append(Block("plot", frontier_chart(chart), f"{alike.benchmark} against {by}"))
            title = f"{alike.benchmark} against {by}{about}"
            blocks.append(Block("table", title=title, grid=standings(chart, by_run, again)))
    try:
        flagged = straw_men(results, [alike.benchmark])
    except NotComparableError:  # records that asked other questions
        flagged = []
    if flagged:
        blocks.append(Block("table", title=f"Against straw men on {alike.benchmark}", grid=tables.straw_men(flagged)))
    return blocks


def _again(store: Store, alike: Alike, by_run: dict[str, BoardRecord]) -> dict[str, list[tuple[str, str]]]:
    """Cell id -> (run, `NAME: score`) of every record that measured it."""
    found: dict[str, list[tuple[str, str]]] = {}
    for run in alike.runs:
        for cell, rows in store.metrics(run).items():
            for row in rows:
                if row.is_main and not row.category:
                    said = f"{by_run[run].measured_by}: {number(100 * row.value / row.scale)}"
                    found.setdefault(cell, []).append((run, said))
    return found


def standings(chart: Frontier, by_run: dict[str, BoardRecord], again: dict[str, list[tuple[str, str]]]) -> Grid:
    """Cells of one chart, cheapest first: where they stand, what ties with them, and who says so."""
    head = ["Cell", "Cost", "Score", "95% interval", "State", "Ties with", "Straw man", "Measured by", "Verified"]
    head.append("Measured again")
    groups: dict[int, list[str]] = {}
    for entry in chart.placed:
        if entry.group >= 0:
            groups.setdefault(entry.group, []).append(entry.point.label)
    rows = []
    for entry in chart.placed:
        mark = chart.marks[entry.point.id]
        sources = list(dict.fromkeys(by_run[run].measured_by for run, _ in mark.cells))
        states = list(dict.fromkeys(by_run[run].said for run, _ in mark.cells))
        others = [said for run, cell in mark.cells for other, said in again.get(cell, ()) if other != run]
        ties = [label for label in groups.get(entry.group, ()) if label != entry.point.label]
        rows.append(
            (
                entry.point.label,
                cost(entry.point.cost),
                number(entry.point.value),
                span(entry.point.low, entry.point.high, 100.0),
                entry.state,
                ", ".join(ties) or "none",
                "yes" if mark.straw_man else "",
                ", ".join(sources),
                "; ".join(states),
                ", ".join(others) or "no",
            )
        )
    return grid(head, rows)
