"""New databases of either kind: with nothing in them, or copies of one that was made and filled once."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import make_url

from hero_ray.store import Store, open_store

Fill = Callable[[Store], object]


class Databases:
    """Databases of one kind. Making the tables takes longer than most tests of them, a copy a tenth of it."""

    def __init__(self) -> None:
        self._numbers, self._made = itertools.count(), dict[str, str]()

    def new(self, like: str | None = None) -> str:
        """URL of a database with nothing in it, or with what another holds that nobody is connected to."""
        raise NotImplementedError

    def filled(self, name: str, fill: Fill = lambda store: None) -> str:
        """URL of a database with every table and what `fill` puts in; it is asked once for each name."""
        if name not in self._made:
            url = self.new()
            with open_store(url) as store:
                fill(store)
            self._made[name] = url
        return self.new(self._made[name])


class Files(Databases):
    """SQLite, below a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def new(self, like: str | None = None) -> str:
        path = self._folder / str(next(self._numbers)) / "results.db"
        path.parent.mkdir()
        if like is not None:
            shutil.copy(like.removeprefix("sqlite:///"), path)
        return f"sqlite:///{path}"


class Server(Databases):
    """PostgreSQL, on a server that is thrown away."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = make_url(url)

    def order(self, *statements: str) -> None:
        import psycopg

        plain = self._url.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(plain, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def new(self, like: str | None = None) -> str:
        name = f"test_{next(self._numbers)}"
        template = f" TEMPLATE {make_url(like).database}" if like is not None else ""
        self.order(f"CREATE DATABASE {name}{template}")
        return self._url.set(database=name).render_as_string(hide_password=False)
