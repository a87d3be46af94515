"""Open a results database for work: whoever creates or migrates one also loads the papers' rows."""

from __future__ import annotations

from hero_ray.results import published
from hero_ray.store import Store, open_store


def open_results(url: str | None = None, patience_s: float = 120.0) -> Store:
    """Open a results database to write in, its tables made or migrated and its published figures those of this version.

    Raises:
        StoreError: the path or server cannot be used, or the schema is newer than this code. Nothing was written.
    """
    store = open_store(url, patience_s=patience_s)
    if store.migrated:
        published.load(store)
    return store
