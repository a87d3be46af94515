"""What people say of a run: its name, tags and note. They tell nothing of its answers and may change at any time."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, update

from hero_ray.core.errors import InputError, StoreError
from hero_ray.core.text import clean_text
from hero_ray.store.tables import Run
from hero_ray.store.writes import now, table

NAME_MAX, TAG_MAX, TAGS_MAX, NOTE_MAX = 80, 30, 12, 4000
"""Characters of a name, of a tag; tags; characters of a note."""


def describe(
    connection: Connection,
    run_id: str,
    name: str | None = None,
    tags: Iterable[str] | None = None,
    note: str | None = None,
) -> None:
    """Set what is given and leave the rest as it is; "" and no tags take it away.

    Args:
        tags: blanks around a tag and repeats are dropped.

    Raises:
        InputError: a name, tag or note that is too long, too many tags, or a tag with a comma. Nothing was written.
        StoreError: no such run.
    """
    values: dict[str, object] = {"described_at": now()}
    if name is not None:
        values["name"] = _short("name", clean_text(" ".join(name.split())), NAME_MAX)
    if tags is not None:
        values["tags"] = _tags(tags)
    if note is not None:
        values["note"] = _short("note", clean_text(note.strip()), NOTE_MAX)
    if connection.execute(update(table(Run)).where(Run.id == run_id).values(values)).rowcount == 0:
        raise StoreError(f"run {run_id!r} is not in the database")


def _tags(given: Iterable[str]) -> list[str]:
    tags = [tag for tag in dict.fromkeys(clean_text(" ".join(each.split())) for each in given) if tag]
    if len(tags) > TAGS_MAX:
        raise InputError(f"{len(tags)} tags; a run takes at most {TAGS_MAX}")
    for tag in tags:
        if "," in tag:
            raise InputError(f"tag {tag!r} holds a comma, which stands between tags")
    return [_short("tag", tag, TAG_MAX) for tag in tags]


def _short(what: str, text: str, limit: int) -> str:
    if len(text) > limit:
        raise InputError(f"a {what} of {len(text):,} characters; at most {limit:,}")
    return text
