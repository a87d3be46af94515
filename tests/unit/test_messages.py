"""What is written wrong gets the hint it needs, and no secret is repeated."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from hero_ray import benchmarks
from hero_ray.cli import main
from hero_ray.core import config, presets
from hero_ray.core.budgets import parse_budget
from hero_ray.core.errors import BudgetError, ClaimError, ConfigError, InputError, StoreError, UnknownNameError
from hero_ray.models.shapes import shape
from hero_ray.models.sources import find_folder
from hero_ray.results.claims import parse_claim
from hero_ray.store.engine import absolute_url, explain, make_engine, parse_url, shown


@pytest.mark.parametrize(
    ("text", "hints"),
    [
        ("20", ("20% for 20 percent", "20tok for a number of tokens")),
        ("192", ("192tok",)),
        ("1.5", ("1.5% for 1.5 percent", "2tok")),
    ],
)
def test_a_budget_above_one_may_be_percent_or_tokens(text: str, hints: tuple[str, ...]) -> None:
    with pytest.raises(BudgetError) as refused:
        parse_budget(text)
    for hint in hints:
        assert hint in str(refused.value)
    assert ("percent" in str(refused.value)) == (float(text) <= 100)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "120%", "1e400"])
def test_other_wrong_budgets_stay_one_line(text: str) -> None:
    with pytest.raises(BudgetError, match="outside"):
        parse_budget(text)


def planned(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stopped:
        main(["sweep", "--dry-run", "--limit", "2", *arguments])
    said = capsys.readouterr()
    return int(stopped.value.code or 0), said.out + said.err


TINY = ("--model", "hero-tiny", "--tasks", "synth-exist", "--methods", "hero", "--no-straw-men")


def test_more_tokens_than_there_are_cost_no_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    database = ("--db", str(tmp_path / "a.db"))
    _, most = planned(capsys, *TINY, "--budgets", "1.0", *database)
    code, said = planned(capsys, *TINY, "--budgets", "99999tok", *database)
    assert code == 0
    assert "99999tok is more than the 320 patch tokens of hero-tiny" in said
    (cost,) = (line.partition(";")[0] for line in most.splitlines() if line.startswith("hero-tiny: about"))
    assert cost in said
    assert "more than" not in most


@pytest.mark.parametrize("verb", ["sweep", "plan"])
def test_a_plan_says_that_its_database_cannot_be(verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--dry-run", *TINY] if verb == "sweep" else []
    for place, said in ((tmp_path / "none" / "x.db", "does not exist"), (tmp_path, "is a folder")):
        with pytest.raises(SystemExit) as stopped:
            main([verb, *arguments, "--db", str(place)])
        assert stopped.value.code == 2
        assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_file_among_the_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows").mkdir()
    for name in ("mine.jsonl", "data/mine.parquet", "x.CSV", "rows"):
        with pytest.raises(UnknownNameError, match=f"Did you mean 'file:{name}'") as refused:
            benchmarks.get(name)
        assert str(pickle.loads(pickle.dumps(refused.value))) == str(refused.value)
    with pytest.raises(UnknownNameError, match="Did you mean 'pope'"):
        benchmarks.get("poppe")


def test_a_folder_among_the_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pics").mkdir()
    with pytest.raises(InputError, match=r"'\./pics' is a folder without a config\.json|pics' is a folder"):
        shape(str(find_folder("./pics")))
    for name in ("./nowhere", "/nowhere/at/all", "~/nowhere", "../nowhere"):
        with pytest.raises(InputError, match="does not exist"):
            find_folder(name)


@pytest.mark.parametrize(
    ("claim", "hint"),
    [
        ("hero@20% => 98% of full on pope", "write >="),
        ("hero@20% => full", "write >="),
        ("hero@20% =< full on pope", "write <="),
        ("hero@20% == full on pope", "two claims"),
        ("hero@20% full", "has no >=, >, <= or <"),
        ("hero@20% = full on pope", "has no >=, >, <= or <"),
        ("hero@20% >= full", "does not say where"),
        ("hero@20 >= full on pope", "20%"),
    ],
)
def test_claims(claim: str, hint: str) -> None:
    with pytest.raises((ClaimError, BudgetError), match=hint):
        parse_claim(claim)


# ---- sweep files


SECRET = "hunter2"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (f"database: postgresql://hero:{SECRET}@db/hero", "database"),
        (f"tasks: [{{name: pope, password: {SECRET}}}]", "tasks.0.password"),
        (f"profile: {{token: {SECRET}}}", "profile.token"),
        (f"profile: {SECRET}", "profile"),
        (f"batch_size: {SECRET}", "batch_size"),
        (f"limit: [{SECRET}]", "limit"),
        (f"methods: [{{a: {{}}, b: {SECRET}}}]", "a, b"),
        (f"model_args: {SECRET}", "model_args"),
    ],
)
def test_a_wrong_key_never_repeats_the_file(tmp_path: Path, text: str, key: str) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(f"{text}\n" if "tasks" in text else f"tasks: [pope]\n{text}\n")
    with pytest.raises(InputError) as refused:
        config.build(config.read(path))
    assert key in str(refused.value)
    assert SECRET not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_number_that_is_wrong_is_shown() -> None:
    with pytest.raises(ConfigError, match=r"`batch_size`: .* \(got 0\)"):
        config.build({"tasks": "pope", "batch_size": 0})


def test_a_preset_that_is_another_file_is_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "victim.yaml"
    for text in (f"database: postgresql://hero:{SECRET}@db/hero", f"method: [{SECRET}]", f"method: a\nkey: {SECRET}"):
        path.write_text(text)
        with pytest.raises(ConfigError) as refused:
            presets.load(str(path))
        assert SECRET not in str(refused.value)


# ---- database addresses


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://hero:s3cret@word@localhost/x",
        "postgresql://hero:pa@ss@w0rd@localhost:5432/x",
        "postgresql://hero:s3cret/w@rd@localhost/x",
        "postgresql://u:p@s3cret/w@host/db",
        "postgresql://hero:s3cret:w@rd:x@localhost/x",
        "postgresql://hero:word@localhost:s3cret/x",
    ],
)
def test_a_password_that_is_not_escaped_is_never_shown(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(StoreError, match="%40") as refused:
        parse_url(url)
    for part in ("s3cret", "word", "w0rd", "w@rd"):
        assert part not in str(refused.value).replace("password", "")
    with pytest.raises(SystemExit) as stopped:
        main(["status", "--db", url])
    assert stopped.value.code == 2
    said = capsys.readouterr()
    assert "s3cret" not in said.out + said.err


@pytest.mark.parametrize(
    "slip",
    [
        f"postgresql:/u:{SECRET}@h/db",
        f"postgresql//u:{SECRET}@h/db",
        f"Postgres:u:{SECRET}@h/db",
        f"host=127.0.0.1 password={SECRET}",
        f"dbname=x PASSWORD = {SECRET}",
    ],
)
def test_an_address_with_a_slip_is_no_path_and_is_not_shown(slip: str) -> None:
    for read in (parse_url, absolute_url):
        with pytest.raises(StoreError, match="neither a path nor a URL; expected sqlite:///PATH") as refused:
            read(slip)
        assert SECRET not in str(refused.value)
    for path in ("postgres.db", "postgresql/x.db", "a@b.db", "password.db"):
        assert parse_url(path).database == path
    assert parse_url("POSTGRESQL://u:x@h/db").drivername == "postgresql+psycopg"


def test_an_escaped_password_works_and_is_hidden() -> None:
    url = parse_url("postgresql://hero:s3cret%40w%2Frd%3A%25@localhost/x")
    assert (url.password, url.host) == ("s3cret@w/rd:%", "localhost")
    assert "s3cret" not in shown(url)
    assert parse_url("postgresql://hero@server:x@localhost/x").username == "hero@server"  # as Azure names users
    told = explain(OSError("no pg_hba entry for s3cret@w/rd:%"), url)
    assert "s3cret" not in str(told)


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg", "asyncpg", "pg8000", "psycopg2cffi"])
@pytest.mark.parametrize("kind", ["postgresql", "postgres"])
def test_every_driver_means_the_one_we_use(kind: str, driver: str) -> None:
    pytest.importorskip("psycopg")
    url = parse_url(f"{kind}+{driver}://hero:x@localhost/x")
    assert url.drivername == "postgresql+psycopg"
    make_engine(url).dispose()


def test_other_addresses() -> None:
    assert parse_url("sqlite+aiosqlite:///a.db").drivername == "sqlite"
    assert parse_url("odd name ?x#y@z.db").database == "odd name ?x#y@z.db"
    with pytest.raises(StoreError, match="'mysql' is not supported"):
        parse_url("mysql+pymysql://u:s3cret@h/d")
