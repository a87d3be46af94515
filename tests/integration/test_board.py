"""Records of the board: written from runs, held against themselves, and rendered without a server."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from hero_ray.cli import app, load_verbs
from hero_ray.core.errors import InputError
from hero_ray.results.board import records, site
from hero_ray.store import open_store
from tests import board_data

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("board")
    board_data.ten(folder, tmp_path_factory.mktemp("scratch"))
    return folder


@pytest.fixture(scope="module")
def built(board: Path, tmp_path_factory: pytest.TempPathFactory) -> site.Built:
    return site.build(board, tmp_path_factory.mktemp("site"))


def test_ten_records_say_what_they_are(built: site.Built) -> None:
    trust = {record.name.rpartition("-")[2]: record.trust for record in built.records}
    assert trust == {
        "0": "bit-equal",
        "1": "bit-equal",
        "2": "changed since verified",
        "3": "not verified",
        "4": "differs",
        "5": "not verified",
        "6": "not verified",
        "7": "bit-equal",
        "8": "not verified",
        "9": "unreadable",
    }
    (broken,) = [record for record in built.records if record.fault]
    assert broken.fault == "sweep.yaml is missing"
    assert [record.name[-1] for record in built.records if not record.counts] == ["2", "4", "9"]


def test_what_is_untrue_or_unlike_shares_no_chart(built: site.Built) -> None:
    page = (built.index.parent / site.page_of("org/some-model")).read_text()
    assert {n for n in range(10) if f"person {n}" in page} == {0, 1, 3, 5, 6}
    assert re.search(
        r"<td>person 1</td><td>bit-equal, 25% of pictures</td><td>person 3: [\d.]+, person 5: [\d.]+</td>", page
    )
    assert page.count("<h2") == 3, "pope under two sets of weights, textvqa_val under one"
    index = built.index.read_text()
    assert all(f"person {number}" in index for number in range(10))
    assert "3 of 10 do not" in index


def test_ties_stand_instead_of_ranks(built: site.Built) -> None:
    page = (built.index.parent / site.page_of("org/some-model")).read_text()
    assert "Ties with" in page
    assert not re.search(r"<th[^>]*>(#|Rank|Place)</th>", page)
    assert "Against straw men on pope" in page
    assert "bit-equal, 25% of pictures" in page


class Links(HTMLParser):
    """Every address a page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in ("href", "src") and value]
        assert tag != "script"


def test_pages_ask_nothing_of_the_network_and_link_to_each_other(built: site.Built) -> None:
    for path in built.index.parent.glob("*.html"):
        links = Links()
        links.feed(path.read_text())
        assert links.found
        assert all((path.parent / link).is_file() for link in links.found)
        assert "http" not in re.sub(r'xmlns="[^"]*"', "", path.read_text())


def test_a_name_cannot_put_markup_into_the_board(tmp_path: Path) -> None:
    with open_store(str(tmp_path / "r.db")) as store:
        board_data.fill(store, "run", "<script>alert(1)</script>/m", "a" * 16, ("pope",), 1)
        records.submit(store, "run", tmp_path / "board", "<img src=x onerror=alert(1)>")
    built = site.build(tmp_path / "board", tmp_path / "site")
    text = "".join(path.read_text() for path in built.index.parent.glob("*.html"))
    assert "<img" not in text
    assert "<script" not in text


def _other_text(folder: Path) -> None:
    path = next(folder.rglob("*_samples.jsonl"))
    path.write_text(path.read_text().replace('"no"', '"yes"', 1))


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no readme": (lambda f: (f / "README.md").unlink(), "README.md is missing"),
    "no results": (lambda f: [p.unlink() for p in f.rglob("*.json*") if "data" in p.parts], "holds no file of"),
    "altered answers": (_other_text, "its checksum differs"),
    "no sweep": (lambda f: (f / "sweep.yaml").write_text("- a\n"), "is no sweep file"),
    "bad json": (lambda f: (f / "lock.json").write_text("{"), "cannot be read"),
    "bad report": (lambda f: (f / "verify.json").write_text('{"verdict": "true"}'), "no report of hero-ray verify"),
}


@pytest.mark.parametrize("kind", sorted(BROKEN))
def test_a_broken_record_is_listed_with_its_fault(kind: str, tmp_path: Path) -> None:
    change, said = BROKEN[kind]
    with open_store(str(tmp_path / "r.db")) as store:
        board_data.fill(store, "run", "m", "a" * 16, ("pope",), 1)
        change(records.submit(store, "run", tmp_path / "board", "someone"))
    (record,) = site.build(tmp_path / "board", tmp_path / "site").records
    assert said in record.fault


PLUG_IN = {"method loud": {"package": "loud-pruning 0.1", "code": "0123456789"}}


def plugged(folder: Path, added: dict[str, dict[str, str]] | None) -> Path:
    """The record of a run with a method of another package, of which the run's environment says `added`."""
    change = text("update cells set method = 'loud', spec = :spec where id = :id")
    with open_store(str(folder / "r.db")) as store:
        board_data.fill(store, "run", "m", "a" * 16, ("pope",), 1)
        if added is not None:
            store.add_environment("run", "plugins", added)
        for cell in store.cells("run"):
            if cell.method == "hero":
                spec = json.dumps({**cell.spec, "method": {"name": "loud", "code": "1+0123456789"}})
                told = {"id": cell.id, "spec": spec}
                store.transaction(lambda c, told=told: c.execute(change, told))
        return records.submit(store, "run", folder / "board", "someone")


def test_a_record_names_the_package_that_a_method_needs(tmp_path: Path) -> None:
    made = plugged(tmp_path, PLUG_IN)
    assert site.faults(made) == []
    assert json.loads((made / "lock.json").read_text())["plugins"] == PLUG_IN
    assert (
        "- needs loud-pruning 0.1: method loud, no part of hero_ray; source 0123456789"
        in (made / "README.md").read_text()
    )


@pytest.mark.parametrize(
    "added", [None, {"method loud": {"package": "loud-pruning 0.1", "code": "another"}}], ids=["absent", "other code"]
)
def test_a_record_that_does_not_name_it_has_a_fault(tmp_path: Path, added: dict[str, dict[str, str]] | None) -> None:
    (fault,) = site.faults(plugged(tmp_path, added))
    assert fault.startswith("method loud is no part of hero_ray and lock.json does not name the package")


def test_a_run_that_is_not_complete_is_no_record(tmp_path: Path) -> None:
    with open_store(str(tmp_path / "r.db")) as store:
        store.create_run("run", "x", {}, "h")
        with pytest.raises(InputError, match="takes complete runs"):
            records.submit(store, "run", tmp_path, "someone")
        board_data.fill(store, "other", "m", "a" * 16, ("pope",), 1)
        records.submit(store, "other", tmp_path / "b", "someone")
        with pytest.raises(InputError, match="is there already"):
            records.submit(store, "other", tmp_path / "b", "someone")
    with pytest.raises(InputError, match="no folder of records"):
        site.build(tmp_path / "none", tmp_path / "site")


def test_the_commands_make_and_render_a_record(tmp_path: Path) -> None:
    load_verbs()
    url = f"sqlite:///{tmp_path / 'r.db'}"
    with open_store(url) as store:
        board_data.fill(store, "run", "m", "a" * 16, ("pope",), 1)
    board = str(tmp_path / "board")
    done = CliRunner().invoke(app, ["board", "submit", board, "--by", "me", "--fraction", "0", "--db", url])
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(app, ["board", "build", board, "--out", str(tmp_path / "site")])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout.strip().splitlines()[-1])["counted"] == 1
