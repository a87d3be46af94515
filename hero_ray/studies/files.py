"""A study as files: NAME.json for the dashboard, NAME.html to pass on, PNG for papers."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from hero_ray.results.writer import Column, Grid, grid
from hero_ray.studies.drawing import chart
from hero_ray.studies.records import FigureTable, Study

_STYLE = "body{font:15px sans-serif;max-width:70em;margin:2em auto;padding:0 1em}table{border-collapse:collapse}"
_STYLE += "td,th{padding:.2em .7em;border-bottom:1px solid #ccc;text-align:left}img{max-width:100%}"


_KEPT_PICTURES = 12
"""Pictures of its own that a study keeps in its document; the rest are files only."""


def document(study: Study, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """JSON-able form: what the dashboard reads and the store keeps. Pictures are small WebP data URLs."""
    shown = list(study.pictures.items())[:_KEPT_PICTURES]
    return {
        "study": study.name,
        "title": study.title,
        "note": study.note,
        "charts": [dict(record) for record in study.charts],
        "tables": [
            {"title": t.title, "columns": list(t.columns), "rows": [list(r) for r in t.rows]} for t in study.tables
        ],
        "pictures": {stem: _inline(picture, "WEBP") for stem, picture in shown},
        "findings": dict(study.findings),
        "provenance": dict(provenance),
    }


def pictures(study: Study) -> dict[str, Image.Image]:
    """File stem -> picture: every chart, then the study's own pictures."""
    return {f"{study.name}-chart-{n}": chart(record) for n, record in enumerate(study.charts, start=1)} | dict(
        study.pictures
    )


def write(study: Study, folder: Path, provenance: Mapping[str, Any]) -> list[Path]:
    """Write all files of a study; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    made = document(study, provenance)
    drawn = pictures(study)
    paths = [folder / f"{study.name}.json", folder / f"{study.name}.html"]
    paths[0].write_text(json.dumps(made, indent=1, default=str), encoding="utf-8")
    paths[1].write_text(page(study, made["provenance"], drawn), encoding="utf-8")
    for stem, picture in drawn.items():
        paths.append(folder / f"{stem}.png")
        picture.save(paths[-1])
    return paths


def page(study: Study, provenance: Mapping[str, Any], drawn: Mapping[str, Image.Image]) -> str:
    """One self-contained HTML file, pictures inside."""
    parts = [f"<h1>{html.escape(study.title)}</h1><p>{html.escape(study.note)}</p>"]
    parts += [f'<p><img alt="{html.escape(stem)}" src="{_inline(picture)}"></p>' for stem, picture in drawn.items()]
    parts += [f"<h2>{html.escape(one.title)}</h2>{table(one).html()}" for one in study.tables]
    parts.append(f"<p>{html.escape(', '.join(f'{key}: {value}' for key, value in provenance.items()))}</p>")
    head = f'<meta charset="utf-8"><title>{html.escape(study.title)}</title><style>{_STYLE}</style>'
    return f"<!doctype html><html><head>{head}</head><body>{''.join(parts)}</body></html>"


def markdown(found: FigureTable, limit: int | None = None) -> str:
    """A table with its title for documents; `limit` cuts it off."""
    more = [f"... {len(found.rows) - limit} more rows"] if limit is not None and limit < len(found.rows) else []
    return "\n".join([f"**{found.title}**", "", str(table(found, limit)), *more])


def table(found: FigureTable, limit: int | None = None) -> Grid:
    """A table for terminals and documents; `limit` cuts it off."""
    return grid([Column(name, place == 0, ".3f", "") for place, name in enumerate(found.columns)], found.rows[:limit])


def _inline(picture: Image.Image, form: str = "PNG") -> str:
    buffer = BytesIO()
    picture.save(buffer, form)
    return f"data:image/{form.lower()};base64," + base64.b64encode(buffer.getvalue()).decode()
