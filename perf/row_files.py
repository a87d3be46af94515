"""What the database does for a unit whose rows go to a file, beside one whose rows it stores.

    python -m perf.row_files [--units 120] [--writers 4] [--only sqlite|postgresql]

A unit has 4 questions and 100 cells, a mask for each cell, a thumbnail of 2 KB. `writers` processes begin and commit
units at the same time; printed are units a second that the database took from them all (files are written before the
clock starts: in a cluster that is other machines' work), processor milliseconds of one writer for a whole unit with its
file and of the PostgreSQL server for it, and rows a second by which one process loads the files afterwards. On a busy
machine only the processor times mean anything.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from hero_ray.core.types import Cell, Prediction, Sample, TokenCount
from hero_ray.pipeline import row_files as files
from hero_ray.pipeline import row_loading
from hero_ray.store import ImageRecord, Store, answers, bulk, counters, open_store
from perf.report import report
from perf.store import postgresql

CELLS, QUESTIONS, RUN = 100, 4, "perf"
TOKENS = TokenCount(100, 100, 104, 40, (104,) * 32)


def unit_of(number: int) -> tuple[str, list[Prediction], list[ImageRecord]]:
    """Id, answers and picture of a unit."""
    picture = f"picture-{number}"
    samples = [
        Sample("synth-color", f"q{number}-{i}", "What colour is it?", ["red"], picture, None, "a")
        for i in range(QUESTIONS)
    ]
    masks = [(number * CELLS + cut).to_bytes(8, "big") * 45 for cut in range(CELLS)]
    rows = [
        Prediction(f"hero-{c:03d}", sample, "red", {"accuracy": float(i % 2)}, TOKENS, 1e12, 10**8, masks[c])
        for i, sample in enumerate(samples)
        for c in range(CELLS)
    ]
    return f"unit-{number}", rows, [ImageRecord(picture, 640, 480, bytes(2000))]


def begin(store: Store, units: int) -> None:
    chosen = [
        Cell(f"hero-{c:03d}", "hero-tiny", "hero", "exact", {}, (c + 1) / CELLS, "synth-color", "head")
        for c in range(CELLS)
    ]
    store.create_run(RUN, RUN, {}, RUN)
    store.add_cells(RUN, chosen, {cell.id: units * QUESTIONS for cell in chosen})
    store.add_samples(
        [sample for n in range(units) for sample in {id(p.sample): p.sample for p in unit_of(n)[1]}.values()]
    )


def write(url: str, folder: str, numbers: range, gate: Any, found: Any) -> None:
    """One writer: (start, end, processor seconds of a whole unit) goes to `found`."""
    with open_store(url) as store:
        own = files.RowWriter(store, RUN, Path(folder), {}) if folder else None
        units, kept, used = [unit_of(number) for number in numbers], [], 0.0
        for unit, rows, images in units if own else ():
            began = time.process_time()
            samples = list({id(p.sample): p.sample for p in rows}.values())
            batch = bulk.Batch.of(RUN, rows, samples, {})
            assert own is not None
            kept.append((own.keep(unit, 1, batch), batch, samples, images, QUESTIONS))
            used += time.process_time() - began
        store.counts(RUN)  # connected
        gate.wait()
        started, began = time.time(), time.process_time()
        for i, (unit, rows, images) in enumerate(units):
            store.read(answers.is_begun, RUN, [unit])
            store.begin_unit(RUN, unit)
            if own is not None:
                own.tell(*kept[i])
            else:
                store.write_unit(RUN, rows, images, {}, (unit, QUESTIONS))
        found.put((started, time.time(), (used + time.process_time() - began) / len(units)))


def units_per_s(url: str, folder: str, units: int, writers: int) -> tuple[float, float]:
    """(units a second of all writers together, processor milliseconds of a unit)."""
    context = multiprocessing.get_context("spawn")
    gate, found = context.Barrier(writers), context.Queue()
    share = units // writers
    processes = [
        context.Process(target=write, args=(url, folder, range(i * share, (i + 1) * share), gate, found))
        for i in range(writers)
    ]
    for process in processes:
        process.start()
    times = [found.get(timeout=600) for _ in processes]
    for process in processes:
        process.join()
    wall = max(end for _, end, _ in times) - min(start for start, _, _ in times)
    return share * writers / wall, 1000 * sum(used for *_, used in times) / writers


def server_s(store: Store) -> float:
    """Processor seconds of a PostgreSQL server and its processes so far; 0 for SQLite."""
    if store.engine.dialect.name != "postgresql":
        return 0.0
    with store.engine.connect() as connection:
        server = psutil.Process(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()).parent()
    assert server is not None
    own = server.cpu_times()
    living = [one.cpu_times() for one in server.children()]
    ended = own.user + own.system + own.children_user + own.children_system
    return float(ended + sum(one.user + one.system for one in living))


def measure(url: str, units: int, writers: int) -> dict[str, float]:
    """Both ways on one kind of database; `url` names the first, `{}` in it the second."""
    figures: dict[str, float] = {}
    for way in ("rows", "files"):
        with tempfile.TemporaryDirectory() as folder, open_store(url.format(way)) as store:
            begin(store, units)
            chosen = Path(folder) if way == "files" else None
            files.begin(store, RUN, chosen, print)
            before = server_s(store)
            rate, used = units_per_s(store.url, str(chosen or ""), units, writers)
            served = 1000 * (server_s(store) - before) / units
            figures |= {f"{way}_units_per_s": rate, f"{way}_processor_ms_per_unit": used, f"{way}_server_ms": served}
            if chosen is not None:
                started, began = time.perf_counter(), time.process_time()
                loaded = row_loading.load(store, RUN).rows
                figures["load_rows_per_s"] = loaded / (time.perf_counter() - started)
                figures["load_rows_per_own_processor_s"] = loaded / (time.process_time() - began)
                figures["load_server_ms_per_unit"] = 1000 * (server_s(store) - before) / units - served
            assert store.read(counters.recount) == []
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=120)
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--only", choices=("sqlite", "postgresql"))
    arguments = parser.parse_args()
    figures: dict[str, Any] = {"units": arguments.units, "writers": arguments.writers}
    if arguments.only != "postgresql":
        with tempfile.TemporaryDirectory() as scratch:
            found = measure(f"sqlite:///{scratch}/{{}}.db", arguments.units, arguments.writers)
            figures |= {f"sqlite_{name}": value for name, value in found.items()}
    if arguments.only != "sqlite":
        with postgresql() as url:
            if url is not None:
                found = measure(databases(url), arguments.units, arguments.writers)
                figures |= {f"postgresql_{name}": value for name, value in found.items()}
    report("row_files", figures)


def databases(url: str) -> str:
    """An empty database for each way on a server."""
    import psycopg
    from sqlalchemy import make_url

    with psycopg.connect(url, autocommit=True) as connection:
        for way in ("rows", "files"):
            connection.execute(f"CREATE DATABASE {way}_way".encode())
    made = make_url(url).set(database="{}_way").render_as_string(hide_password=False)
    return made.replace("%7B%7D", "{}")


if __name__ == "__main__":
    main()
