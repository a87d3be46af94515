"""A folder that shows results without a server: charts, tables and flips, opening offline from any disk.

Holds `index.html`, `plotly.min.js`, the tables as CSV and LaTeX, and one small picture per flip and view.
"""

from __future__ import annotations

import hashlib
import html
import io
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import plotly.io
from plotly.offline import get_plotlyjs

from dashboard import figures
from hero_ray.benchmarks.images import decode
from hero_ray.core.errors import ImageError
from hero_ray.results import cards, masks
from hero_ray.results.averages import averages, flagged
from hero_ray.results.axes import AXES
from hero_ray.results.contenders import Results, every_model
from hero_ray.results.frontiers import Frontier, average_frontiers, frontiers
from hero_ray.results.names import EMBEDDED_NOTE, FULL, budget_of, is_embedded
from hero_ray.results.report import tables as grids
from hero_ray.results.shown import palette, tables
from hero_ray.results.ties import Ties
from hero_ray.store import CellRow, RunRow, Store, flips
from hero_ray.store import answers as stored
from hero_ray.store.answers import CellRef
from hero_ray.store.flips import FlipRow

FLIPS_PER_BENCHMARK = 6
_CSS = """
:root{color-scheme:light dark}
body{background:Canvas;color:CanvasText}
body{font:16px/1.5 system-ui,sans-serif;max-width:1080px;margin:0 auto;padding:1.5rem 1rem 4rem}
h1{margin:.2rem 0}h2{margin:2.5rem 0 .5rem}.quiet{opacity:.8;font-size:.9rem}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(280px,1fr));gap:1rem}
figure{margin:0}img{width:100%;border-radius:4px}
article{border-top:1px solid rgba(128,132,140,.4);padding:1rem 0}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.1rem 1rem;font-size:.9rem}dt{opacity:.8}
dd{margin:0;min-width:0;overflow-wrap:anywhere}
.scroll{overflow-x:auto}.scroll table{border-collapse:collapse;font-size:.82rem}caption{text-align:left}
.scroll th,.scroll td{padding:.15rem .5rem;text-align:right;font-weight:400}
.scroll tr>*{border-bottom:1px solid rgba(128,132,140,.4)}
.scroll th:first-child{text-align:left}
.infolayer text,.xtick text,.ytick text{fill:CanvasText!important}
@media print{body{max-width:none}h2{break-after:avoid}figure,article{break-inside:avoid}
.scroll{overflow:visible}.scroll table{font-size:8px}.scroll th,.scroll td{padding:1px 3px}body{padding:0}}
"""
_ON_PAPER = """
let closed = [];
const charts = change => document.querySelectorAll(".js-plotly-plot").forEach(one => Plotly.relayout(one, change));
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open])")];
  closed.forEach(one => one.open = true);
  charts({autosize: false, width: 680});
});
addEventListener("afterprint", () => {
  closed.forEach(one => one.open = false);
  charts({autosize: true, width: null});
});
"""
"""A chart is drawn for the width it has on the screen and knows of no other: before a print it is drawn for A4, and
what is folded away is opened, for paper cannot be clicked."""


@dataclass(frozen=True)
class Written:
    """What a bundle consists of."""

    index: Path
    files: int
    bytes: int
    flips: int


def write(store: Store, runs: Sequence[RunRow], folder: Path) -> Written:
    """Write the bundle of some runs into `folder`, which is made if missing; files of an older bundle are replaced.

    Raises:
        StoreError: the database cannot be read.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = every_model(store, [run.id for run in runs])
    files = {"plotly.min.js": get_plotlyjs().encode()}
    body = [_head(runs), "<h2>Frontier</h2>", *(chart for results in found for chart in _charts(results))]
    for results in found:
        marks, below = results.marks(), Ties(results).below
        table = tables.method_table(marks, averages(results), flagged(results), results.unit, below=below)
        name = _file_name(results.model, {path.removeprefix("table-").removesuffix(".csv") for path in files})
        files |= {
            f"table-{name}.csv": tables.to_csv(table).encode(),
            f"table-{name}.tex": tables.to_latex(table).encode(),
        }
        body.append(_table(results.model, name, table))
        body.append(_cards(store, results, runs, files))
    shown = _flips(store, runs, files)
    body += shown
    files["index.html"] = _page(runs, body).encode()
    for path, content in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    flips = sum(block.startswith("<article") for block in shown)
    return Written(folder / "index.html", len(files), sum(map(len, files.values())), flips)


def _file_name(text: str, taken: Container[str] = ()) -> str:
    """A name for a file from any text; other texts' names are left alone (`a/b` and `a_b` are two models)."""
    plain = "".join(c if c.isalnum() or c in "-._" else "_" for c in text)[:150]
    return plain if plain not in taken else f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _page(runs: Sequence[RunRow], body: Sequence[str], charts: bool = True) -> str:
    scripts = f'<script src="plotly.min.js"></script><script>{_ON_PAPER}</script>' if charts else ""
    title = html.escape(f"hero_ray: {', '.join(dict.fromkeys(run.sweep_name for run in runs))}")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><link rel="icon" href="data:,">'
        f"<style>{_CSS}{tables.CSS}</style>{scripts}</head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


def _head(runs: Sequence[RunRow]) -> str:
    parts = ["<h1>What pruning visual tokens costs and saves</h1>", f'<p class="quiet">{EMBEDDED_NOTE}</p>']
    for run in runs:
        packages = dict(run.environment.get("packages") or {})
        facts = {
            "run": f"{run.sweep_name}, {run.id}",
            "status": run.status,
            "begun": f"{run.created_at:%Y-%m-%d %H:%M} UTC",
            "commit": run.git_commit or "unknown",
            "processor": run.environment.get("processor") or "unknown",
            "torch": packages.get("torch") or "unknown",
        }
        rows = "".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(str(v))}</dd>" for k, v in facts.items())
        parts.append(f"<dl>{rows}</dl>")
    return "".join(parts)


def _charts(results: Results) -> list[str]:
    blocks = []
    for by in ("tokens", "flops", "kv", "ttft"):
        charts = average_frontiers(results, by, apart=True) if len(results.benchmarks) > 1 else []
        title = "Share of the unpruned score, %" if charts else "Score"
        for chart in charts or frontiers(results, by, apart=True):
            if chart.placed and chart.certificate != "mixed":
                blocks.append(_chart(results, chart, title))
    return blocks


def _chart(results: Results, chart: Frontier, title: str) -> str:
    axis = AXES[chart.axis]
    figure = figures.frontier(list(chart.marks.values()), axis, title, chart.line, unit=results.unit(axis))
    drawn = plotly.io.to_html(figure, full_html=False, include_plotlyjs=False, config=figures.CONFIG)
    name = html.escape(f"{chart.model}: {chart.benchmark + ', ' if chart.benchmark else ''}{axis.title}")
    figures_of = grids.frontier(chart, results.unit(axis)).html(f"{chart.model}: {chart.title}")
    return (
        f"<details{' open' if chart.axis == 'tokens' else ''}><summary>{name}</summary>"
        f'<figure role="group" aria-label="{name}">{drawn}</figure>'
        f"<details><summary>Figures of this chart</summary>{figures_of}</details></details>"
    )


def _table(model: str, name: str, table: tables.MethodTable) -> str:
    notes = html.escape(" ".join(table.notes))
    links = f'<a href="table-{name}.csv">CSV</a> · <a href="table-{name}.tex">LaTeX</a>'
    return f'<h2>{html.escape(model)}</h2>{tables.to_html(table)}<p class="quiet">{notes} {links}</p>'


def _cards(store: Store, results: Results, runs: Sequence[RunRow], files: dict[str, bytes]) -> str:
    """A page for each method, and links to them; straw men, which are there to be beaten, have none."""
    straw_men = {cell.method for cell in results.cells if cell.straw_man}
    links = []
    for method in (name for name in cards.methods(results) if name not in straw_men):
        card = cards.card(results, method)
        path = f"method-{_file_name(f'{results.model}-{method}')}.html"
        files[path] = _page(runs, _card(store, card, files), charts=False).encode()
        links.append(f'<a href="{path}">{html.escape(method)}</a>')
    return f"<p>Each method by itself: {' · '.join(links)}</p>" if links else ""


def _card(store: Store, card: cards.MethodCard, files: dict[str, bytes]) -> list[str]:
    name, model = html.escape(card.method), html.escape(card.model)
    parts = [f'<p><a href="index.html">All results</a></p><h1>{name} on {model}</h1>']
    parts += [f'<p class="quiet">{EMBEDDED_NOTE}</p>'] if is_embedded(card.model) else []
    parts += ["<h2>Figures</h2>", card.figures.html(f"{card.method}: scores and costs")]
    if card.lost is not None:
        parts += ["<h2>Against the unpruned model</h2>", card.lost.html("Paired differences, corrected by Holm")]
    parts.append(f"<h2>Where {html.escape(card.at)} fails</h2>" if card.at else "")
    if card.failing is not None:
        parts.append(card.failing.html("Categories furthest below the unpruned model, without a test"))
    elif card.at and not card.flips:
        parts.append("<p>It loses no question that the unpruned model answers.</p>")
    for one in card.flips:
        parts += [f"<h3>{html.escape(cards.told(one))}</h3>", _flip(store, one.flip, one.full, one.own, files)]
    return parts


def _pairs(cells: Sequence[CellRow]) -> list[tuple[CellRow, CellRow]]:
    """Per model and benchmark the unpruned cell and the pruned one people ask about first: hero near 20 %."""
    found = []
    for model, benchmark in dict.fromkeys((cell.model, cell.benchmark) for cell in cells):
        own = [cell for cell in cells if (cell.model, cell.benchmark) == (model, benchmark) and cell.n_done]
        full = next((cell for cell in own if cell.method == FULL), None)
        pruned = [cell for cell in own if cell.method != FULL and not cell.straw_man]
        if full is not None and pruned:
            key = lambda cell: (cell.method != "hero", abs(cell.retention_ratio - 0.2), cell.id)  # noqa: E731
            found.append((full, min(pruned, key=key)))
    return found


def _flips(store: Store, runs: Sequence[RunRow], files: dict[str, bytes]) -> list[str]:
    cells = [cell for run in runs for cell in store.cells(run.id)]
    blocks = []
    for full, pruned in _pairs(cells):
        a, b = CellRef(full.run_id, full.id), CellRef(pruned.run_id, pruned.id)
        counts = store.read(flips.flip_counts, a, b)
        rows = store.read(flips.flips, a, b, "worse", limit=FLIPS_PER_BENCHMARK)
        head = f"{pruned.model}, {pruned.benchmark}: full against {pruned.method} at {budget_of(pruned)}"
        method = html.escape(pruned.method)
        blocks.append(
            f"<h2>{html.escape(head)}</h2><p>Of {counts.both:,} questions both answered, {method} does better "
            f"on {counts.better:,} and worse on {counts.worse:,}. Below: where it does worse.</p>"
        )
        blocks += [_flip(store, row, full, pruned, files) for row in rows]
    return blocks


def _flip(store: Store, row: FlipRow, full: CellRow, pruned: CellRow, files: dict[str, bytes]) -> str:
    refs = [CellRef(cell.run_id, cell.id) for cell in (full, pruned)]
    sample = store.read(stored.sample, row.sample_id)
    answers = store.read(stored.answers, row.sample_id, refs)
    if sample is None:
        return ""
    wanted = html.escape(f"Expected: {cards.expected(sample.reference)}")
    parts = [f"<article><b>{html.escape(sample.question)}</b> <span class='quiet'>{wanted}</span>"]
    parts.append('<div class="pair">')
    for cell, ref in zip((full, pruned), refs, strict=True):
        answer = answers.get(ref)
        if answer is not None:
            said = html.escape(f"{cell.method}: “{answer.text}”")
            parts.append(f"<figure><figcaption>{said}</figcaption>{_drawn(cell, sample, answer, files)}</figure>")
    return "".join(parts) + "</div></article>"


def _drawn(cell: CellRow, sample: Any, answer: Any, files: dict[str, bytes]) -> str:
    if sample.thumbnail is None or answer.keep_mask is None or answer.geometry is None:
        return ""
    family = str((cell.spec.get("model") or {}).get("family") or "")
    size, colour = (sample.width, sample.height), palette.look(cell.method).colour
    try:
        views = masks.panels(decode(sample.thumbnail), size, answer.keep_mask, answer.geometry, family, colour)
    except (ValueError, ImageError):
        return ""
    shown = views[-1]
    buffer = io.BytesIO()
    shown.image.save(buffer, "WEBP", quality=80)
    path = f"flips/{_file_name(sample.id)}-{_file_name(cell.id)}.webp"
    files[path] = buffer.getvalue()
    kept = html.escape(f"{shown.title}: {shown.kept} of {shown.total} tokens kept")
    alt = html.escape(f"“{sample.question}” ({sample.sample_key}), {cell.method}. ") + kept
    return f'<img src="{path}" alt="{alt}" loading="lazy"><div class="quiet">{kept}</div>'
