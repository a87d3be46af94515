"""A verdict as Markdown, as Slack's JSON, and as plain data for the database and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from hero_ray.nightly.records import NightVerdict, Suspicion
from hero_ray.results.report.page import Block, to_markdown
from hero_ray.results.writer import Column, Grid, grid

HEADLINES = {
    "first": "first night, nothing to compare with",
    "regression": "REGRESSION",
    "failed": "THE RUN FAILED",
    "accepted": "accepted as the new normal",
}
UNITS = {"quality": "points", "speed": "%", "failures": "samples", "missing": "samples"}
MAX_LINES = 20
DOUBT = 0.10


def to_dict(verdict: NightVerdict) -> dict[str, Any]:
    """JSON-able form."""
    return asdict(verdict)


def from_dict(data: Mapping[str, Any]) -> NightVerdict:
    """The verdict that `to_dict` was given."""

    def finding(entry: Mapping[str, Any]) -> Suspicion:
        known = {field.name for field in fields(Suspicion)}
        values = {key: value for key, value in entry.items() if key in known}
        return Suspicion(**values | {"cell_ids": tuple(entry.get("cell_ids") or ())})

    return NightVerdict(
        run_id=data["run_id"],
        night=data["night"],
        state=data["state"],
        alarms=tuple(finding(entry) for entry in data.get("alarms", ())),
        silenced=tuple(finding(entry) for entry in data.get("silenced", ())),
        notes=tuple(data.get("notes", ())),
        changed=tuple((what, before, after) for what, before, after in data.get("changed", ())),
        compared_with=list(data.get("compared_with", ())),
        n_cells=data.get("n_cells", 0),
        looks=tuple(finding(entry) for entry in data.get("looks", ())),
    )


def headline(verdict: NightVerdict) -> str:
    """The verdict in words that claim no more than the night could show."""
    if verdict.state != "ok":
        return HEADLINES.get(verdict.state, verdict.state)
    seen = [look.noticeable for look in verdict.looks]
    if len(seen) < verdict.n_cells or not seen or None in seen or doubtful(verdict):
        return "nothing shown"
    most = max(max(look.noticeable or 0.0, -(look.low or 0.0)) for look in verdict.looks)
    return f"no drop of more than {most:.1f} points"


def doubtful(verdict: NightVerdict) -> list[Suspicion]:
    """Cells that lost more than they won, too few to alarm: by themselves rarer than one night in ten."""
    settled = {finding.label for finding in (*verdict.alarms, *verdict.silenced) if finding.kind == "quality"}
    return [look for look in verdict.looks if look.p <= DOUBT and look.label not in settled]


def _doubt(look: Suspicion) -> str:
    return f"{look.label}: {look.before:.1f} to {look.after:.1f}, p {look.p:.2g}: not shown; repeat with more pictures"


def _looks(looks: Sequence[Suspicion]) -> Grid:
    head: list[str | Column] = ["cell", "before", "tonight", "change", "95 % interval", "unnoticed below"]
    rows = [
        (
            look.label,
            f"{look.before:.1f}",
            f"{look.after:.1f}",
            f"{look.change:+.1f}",
            "" if look.low is None else f"[{look.low:+.1f}, {look.high:+.1f}]",
            "any drop" if look.noticeable is None else f"{look.noticeable:.1f}",
        )
        for look in looks
    ]
    return grid(head, rows)


def line(finding: Suspicion) -> str:
    """One finding in words: what, how much with its interval, from what to what."""
    unit = UNITS[finding.kind]
    interval = ""
    if finding.low is not None and finding.high is not None:
        interval = f" [{finding.low:+.1f}, {finding.high:+.1f}]"
    size = f"{finding.change:+.1f}" if finding.kind in ("quality", "speed") else f"{finding.change:+g}"
    text = f"{finding.kind}: {finding.label}: {finding.figure} {size} {unit}{interval}"
    text += f" ({finding.before:.4g} -> {finding.after:.4g})"
    return f"{text}; {finding.note}" if finding.note else text


def blocks(verdict: NightVerdict, commits: Sequence[str] = ()) -> list[Block]:
    """The summary of a night for people, the verdict first.

    Args:
        commits: subjects of the commits since the last good night, where a checkout could tell.
    """
    past = len(verdict.compared_with)
    compared = f", compared with {past} good night{'' if past == 1 else 's'}" if past else ""
    made = [
        Block("heading", f"Nightly {verdict.night}: {headline(verdict)}"),
        Block("text", f"Run {verdict.run_id}, {verdict.n_cells} cells{compared}."),
    ]
    if unsure := doubtful(verdict):
        made += [Block("heading", "Lost more than won"), Block("list", items=[_doubt(look) for look in unsure])]
    for title, findings in (("Worse", verdict.alarms), ("Silenced by a repetition", verdict.silenced)):
        if findings:
            made += [Block("heading", title), Block("table", grid=_table(findings))]
    if verdict.looks:
        said = "Points of 100. A drop below the last column could not have been noticed, by one cell alone."
        made += [Block("heading", "Before and tonight"), Block("text", said)]
        made.append(Block("table", grid=_looks(verdict.looks)))
    if verdict.changed:
        rows = [(what, _cell(before), _cell(after)) for what, before, after in verdict.changed]
        made.append(Block("heading", "What changed since the last good night"))
        made.append(Block("table", grid=grid(["what", "before", "tonight"], rows, left=3)))
    elif verdict.alarms:
        said = "Nothing that is recorded changed since the last good night: suspect the machine or the data."
        made.append(Block("text", said))
    for title, lines in (("Commits since then", commits), ("Notes", verdict.notes)):
        if lines:
            made += [Block("heading", title), Block("list", items=lines)]
    return made


def markdown(verdict: NightVerdict, commits: Sequence[str] = ()) -> str:
    """`blocks` as Markdown."""
    return to_markdown(blocks(verdict, commits))


def _table(findings: Sequence[Suspicion]) -> Grid:
    head: list[str | Column] = [
        "kind",
        "cell",
        "figure",
        "change",
        "95 % interval",
        "before",
        "tonight",
        Column("note", left=True),
    ]
    rows = []
    for found in findings:
        interval = "" if found.low is None else f"[{found.low:+.1f}, {found.high:+.1f}]"
        change = f"{found.change:+.2f} {UNITS[found.kind]}"
        values = (f"{found.before:.4g}", f"{found.after:.4g}")
        rows.append((found.kind, found.label, found.figure, change, interval, *values, found.note))
    return grid(head, rows, left=3)


def _cell(text: str) -> str:
    return text.replace("|", "/")


def _short(text: str, limit: int = 60) -> str:
    text = _cell(text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def slack(verdict: NightVerdict) -> dict[str, Any]:
    """The body that Slack-shaped webhooks take: a fallback text and blocks."""
    title_line = f"hero_ray nightly {verdict.night}: {headline(verdict)}"
    worse = [line(finding) for finding in verdict.alarms]
    changed = [f"{what}: {_short(before, 40)} -> {_short(after, 40)}" for what, before, after in verdict.changed]
    blocks = [{"type": "header", "text": {"type": "plain_text", "text": title_line[:150]}}]
    for title, lines in (("Worse", worse), ("What changed", changed), ("Notes", list(verdict.notes))):
        if lines:
            shown = lines[:MAX_LINES] + ([f"... and {len(lines) - MAX_LINES} more"] if len(lines) > MAX_LINES else [])
            text = "*" + title + "*\n" + "\n".join(f"• {_escape(entry)}" for entry in shown)
            blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": text[:3000]}})
    return {"text": "; ".join([title_line, *worse[:3]]), "blocks": blocks}


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
