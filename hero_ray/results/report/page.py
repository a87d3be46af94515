"""Pieces of a page, and the page as Markdown or as one HTML file without scripts or outside requests."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from hero_ray.core.errors import InputError
from hero_ray.results.writer import Grid


@dataclass(frozen=True)
class Block:
    """A piece: `heading`, `text`, `list`, `table` (a grid), `plot` (SVG), `code`, or `link` (`title` says where to)."""

    kind: str
    text: str = ""
    title: str = ""
    grid: Grid | None = None
    items: Sequence[str] = ()


def to_markdown(blocks: Sequence[Block]) -> str:
    """Markdown with the plots inside as data addresses."""
    parts = []
    for place, block in enumerate(blocks):
        if block.kind == "heading":
            parts.append(f"{'#' if place == 0 else '##'} {block.text}")
        elif block.kind == "plot":
            data = base64.b64encode(block.text.encode()).decode()
            parts.append(f"![{block.title}](data:image/svg+xml;base64,{data})")
        elif block.kind == "link":
            parts.append(f"[{block.text}]({block.title})")
        elif block.kind == "code":
            parts.append(f"```json\n{block.text}\n```")
        elif block.kind == "list":
            parts.append("\n".join(f"- {item}" for item in block.items))
        else:
            parts.append(str(block.grid) if block.grid else block.text)
    return "\n\n".join(parts) + "\n"


def keep(path: Path, blocks: Sequence[Block]) -> int:
    """Write a page, as HTML if the file is named `.html` or `.htm`, else as Markdown, and return its bytes.

    Raises:
        InputError: it cannot be written.
    """
    made = (to_html if path.suffix.lower() in (".html", ".htm") else to_markdown)(blocks).encode()
    try:
        path.write_bytes(made)
    except OSError as problem:
        raise InputError(f"cannot write {path}: {problem.strerror}") from None
    return len(made)


_STYLE = (
    "body{font:15px/1.5 sans-serif;max-width:1100px;margin:0 auto;padding:1em;color:#222;background:#fff}"
    ".scroll{overflow-x:auto;margin:1em 0}table{border-collapse:collapse;font-size:13px}"
    "caption{text-align:left;color:#595959;padding:0 0 .4em}"
    "td,th{border-bottom:1px solid #ddd;padding:3px 9px;text-align:right;white-space:nowrap;font-weight:400}"
    "tbody th{text-align:left;position:sticky;left:0;background:#fff}"
    "thead th{border-bottom:2px solid #767676;font-weight:600}thead th:first-child{text-align:left}"
    "h1,h2,dd,p{overflow-wrap:anywhere}figure{margin:1em 0}svg{display:block;width:100%;max-width:760px;height:auto}"
    "pre{background:#f6f6f6;padding:1em;overflow:auto;max-height:30em;font-size:12px}"
    "@media print{body{max-width:none;padding:0}h2{break-after:avoid}figure{break-inside:avoid}"
    ".scroll{overflow:visible}td,th{white-space:normal;font-size:8px;padding:2px 3px}"
    "tbody th{position:static}pre{max-height:none;white-space:pre-wrap;overflow-wrap:anywhere;font-size:8px}}"
)
"""On paper nothing scrolls: tables wrap and shrink, code breaks, so that no column and no line is lost."""


def to_html(blocks: Sequence[Block]) -> str:
    """One HTML page without scripts or outside requests."""
    body, heading = [], ""
    for place, block in enumerate(blocks):
        level = "h1" if place == 0 else "h2"
        if block.kind == "heading":
            heading = block.text
            body.append(f'<{level} id="{_anchor(heading)}">{escape(heading)}</{level}>')
        elif block.grid:
            body.append(block.grid.html(block.title or heading))
        elif block.kind == "plot":
            body.append(f"<figure>{block.text}</figure>")
        elif block.kind == "link":
            body.append(f'<p><a href="{escape(block.title)}">{escape(block.text)}</a></p>')
        elif block.kind == "code":
            where = escape(f"{block.title or heading}, as JSON")
            body.append(f'<pre tabindex="0" role="region" aria-label="{where}">{escape(block.text)}</pre>')
        elif block.kind == "list":
            body.append(f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in block.items)}</ul>")
        else:
            body.append(f"<p>{escape(block.text)}</p>")
    title = escape(blocks[0].text) if blocks else "hero_ray"
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
    head += f"<title>{title}</title><style>{_STYLE}</style>"
    start = f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body><main>\n'
    return start + "\n".join(body) + "\n</main></body></html>\n"


def _anchor(heading: str) -> str:
    """An address inside the page: letters and digits of a heading, the rest as hyphens."""
    return re.sub("[^a-z0-9]+", "-", heading.lower()).strip("-")
