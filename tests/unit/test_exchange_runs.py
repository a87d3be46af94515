"""Runs of the database to files and back."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
from pathlib import Path

import pytest

from hero_ray.cli import main
from hero_ray.core.config import MethodEntry
from hero_ray.core.errors import InputError, MissingExtraError
from hero_ray.results.exchange import files, from_runs, readers, write_run
from hero_ray.results.exchange.into_store import import_task
from hero_ray.results.exchange.lmms_export import write
from hero_ray.results.writer import grid, latex_text
from hero_ray.store import Store, open_store
from tests import fake_results as fake


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    found = str(tmp_path_factory.mktemp("db") / "results.db")
    with open_store(found) as store:
        fake.fill(store, n=60)
    return found


def test_figures_are_flat_and_complete(store: Store) -> None:
    rows = from_runs.figures(store, "run1")
    read = list(csv.DictReader(files.to_csv(rows).splitlines()))
    assert len(read) == 22 * 4  # 22 cells, the whole benchmark and three categories
    hero = next(row for row in read if (row["method"], row["retention_ratio"], row["category"]) == ("hero", "0.2", ""))
    (point,) = (p for p in store.points(["run1"]) if p.cell_id == hero["cell_id"])
    assert (float(hero["value"]), float(hero["ci_low"]), int(hero["n"])) == (point.value, point.ci_low, 60)
    assert float(hero["n_visual_llm"]) == 24.0


def test_answers_survive_parquet(store: Store, tmp_path: Path) -> None:
    from pyarrow import parquet

    rows = from_runs.predictions(store, "run1")
    files.to_parquet(rows, tmp_path / "answers.parquet")
    assert parquet.read_table(tmp_path / "answers.parquet").to_pylist() == rows
    assert len(rows) == 22 * 60


def test_json_carries_the_provenance(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["export", "-f", "json", "--run", "run1", "--db", path])
    found = json.loads(capsys.readouterr().out)
    assert (found["run"]["git_commit"], found["run"]["environment"]) == ("abc123", {"python": "3.11"})
    assert len(found["rows"]) == 88


def test_latex_has_a_line_per_method_and_budget(path: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main(["export", str(tmp_path / "t.tex"), "-f", "latex", "--run", "run1", "--db", path])
    lines = (tmp_path / "t.tex").read_text().splitlines()
    assert lines[2].startswith(r"Method & Budget & synth-color & synth-digits & Avg. \% of full & ")
    assert any(line.startswith(r"hero & 20\% & ") for line in lines)
    assert len([line for line in lines if line.endswith(r"\\") and "multicolumn" not in line]) == 10
    assert any("clustered by picture" in line for line in lines), "what the signs mean stands below the table"
    assert lines[-4:-1] == ["% model hero-tiny", *(f"% synth-{n} n = 60 on 20 pictures" for n in ("color", "digits"))]
    assert lines[-1].endswith("they are no evidence about methods on real models.")


def test_latex_escapes_what_it_must() -> None:
    assert latex_text(r"a_b & 5% {x} \y") == r"a\_b \& 5\% \{x\} \textbackslash{}y"


def test_lmms_eval_files_come_back_with_the_same_score(store: Store, tmp_path: Path) -> None:
    written = write_run(store, "run1", tmp_path, samples=True)
    assert len(written) == 11 * 3  # eleven settings: one results file and two sample files each
    (source,) = (p for p in written if "hero_0.2" in str(p) and p.name.endswith("color.jsonl"))
    with open_store(str(tmp_path / "new.db")) as fresh:
        run_id, kept, unmatched = import_task(fresh, readers.read(source), as_is=True)
        (point,) = fresh.points([run_id])
        (cell,) = fresh.cells(run_id)
    expected = next(
        p for p in store.points(["run1"])
        if (p.method, p.retention_ratio, p.benchmark) == ("hero", 0.2, "synth-color")
    )  # fmt: skip
    assert (kept, unmatched, point.metric, point.value) == (60, 0, "accuracy", pytest.approx(expected.value))
    assert (cell.model, cell.method, cell.retention_ratio) == ("hero-tiny", "hero", 0.2)


def test_a_tracker_that_is_not_installed_is_named(store: Store) -> None:
    for send, package in ((files.to_mlflow, "mlflow"), (files.to_wandb, "wandb")):
        if importlib.util.find_spec(package) is None:
            with pytest.raises(MissingExtraError, match=package):
                send(from_runs.figures(store, "run1"), {}, "p")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["export", "-f", "parquet"], "name it"),
        (["export", "-f", "lmms-eval"], "name it"),
        (["export", "/nowhere/at/all.csv"], "cannot write"),
        (["export", "/nowhere/at/all.parquet"], "cannot write"),
        (["export", "/proc/all", "-f", "lmms-eval"], "cannot write"),
        (["export", "-f", "latex", "--samples"], "--samples has no latex form"),
        (["export", "-f", "wandb", "--samples"], "--samples has no wandb form"),
        (["import", "/nowhere/samples_x.jsonl"], "does not exist"),
    ],
)
def test_what_cannot_be_done_is_said(
    path: str, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    run = ["--run", "run1"] if arguments[0] == "export" else []
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, *run, "--db", path])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_hero_with_all_its_parameters_is_exported(
    path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every parameter of a real cell in a folder's name made 265 characters, and file systems allow 255."""
    from hero_ray.core import plan
    from hero_ray.core.config import SweepConfig

    params = {f"parameter_number_{i}": f"value {i}" for i in range(20)}
    fact = plan.MethodFact("hero", "exact", params, 3, False, True)
    model = plan.ModelFact("hero-tiny", "llava-next", "abc", "float32", 100)
    tasks = [
        plan.TaskFact("synth-color", flavour, "data", 8, {"llava-next": "texts"}) for flavour in ("head", "v0.2.3")
    ]
    cells = plan.cells(
        SweepConfig(budgets="20%", tasks="synth-color"), [model], [(MethodEntry(name="hero"), fact)], tasks
    )
    with open_store(str(tmp_path / "a.db")) as fresh:
        fresh.create_run("r", "demo", {"name": "demo", "batch_size": 64, "limit": 5}, "h")
        fresh.add_cells("r", cells, {cell.id: 3 for cell in cells})
        for cell in cells:
            questions = [fake.sample("synth-color", i, 1) for i in range(2)]
            fresh.write_unit("r", [fake.answer(cell, question, 1.0) for question in questions])
            fresh.write_metrics("r", cell.id, [fake.metric(fake.np.ones(2), ["a", "b"], "")])
        written = write_run(fresh, "r", tmp_path / "out")
    assert len(written) == 2  # one task in two flavours: two files, nothing lost
    documents = [json.loads(file.read_text()) for file in written]
    (first, second) = (document["configs"]["synth-color"] for document in documents)
    assert first["generation_kwargs"]["max_new_tokens"] == 8
    assert {each["metadata"][0]["scoring_flavour"] for each in (first, second)} == {"head", "v0.2.3"}
    assert documents[0]["config"]["batch_size"] == 64
    assert documents[0]["config"]["limit"] == 5
    assert documents[0]["config"]["hero_ray"]["settings"].items() >= params.items()
    assert documents[0]["config"]["hero_ray"]["model"]["dtype"] == "float32"
    assert documents[0]["n-samples"] == {"synth-color": {"original": 3, "effective": 2}}


def test_an_export_that_fails_leaves_nothing(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def full(*arguments: object) -> list[Path]:
        calls.append(arguments)
        if len(calls) == 4:
            raise OSError(28, "No space left on device")
        return write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(from_runs, "write", full)
    (tmp_path / "mine.txt").write_text("stays")
    with pytest.raises(InputError, match="No space left"):
        write_run(store, "run1", tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(InputError, match="cannot write the folder"):
        write_run(store, "run1", tmp_path / "mine.txt")


def test_the_ending_of_a_file_says_its_format(path: str, tmp_path: Path) -> None:
    """`export results.tex` wrote CSV into it."""
    begins = {
        "a.tex": r"\begin{tabular}",
        "a.csv": "run_id,",
        "a.json": "{",
        "a.txt": "run_id,",
        "A.TEX": r"\begin{tabular}",
    }
    for name, start in begins.items():
        with pytest.raises(SystemExit) as stopped:
            main(["export", str(tmp_path / name), "--run", "run1", "--db", path])
        assert stopped.value.code == 0
        assert (tmp_path / name).read_text().startswith(start)
    with pytest.raises(SystemExit):
        main(["export", str(tmp_path / "b.tex"), "-f", "csv", "--run", "run1", "--db", path])
    assert (tmp_path / "b.tex").read_text().startswith("run_id,")


def test_no_cell_of_a_csv_is_a_formula() -> None:
    texts = [
        "=1+1",
        "+cmd",
        "-2+3",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        " =1",
        "-5",
        "+3.2",
        "-1e-3",
        "a=b",
        "",
        "-",
        "-7.4 [-9.1, -5.0]",
        "-7 ± 2",
    ]
    made = files.to_csv([{"text": text, "value": -0.5} for text in texts])
    rows = list(csv.DictReader(io.StringIO(made, newline="")))
    assert [row["text"] for row in rows] == [
        "'=1+1", "'+cmd", "'-2+3", "'@SUM(A1)", "'\t=1", "'\n=1", "' =1", "-5", "+3.2", "-1e-3", "a=b", "",
        "-", "-7.4 [-9.1, -5.0]", "-7 ± 2",
    ]  # fmt: skip
    assert {row["value"] for row in rows} == {"-0.5"}
    assert grid(["=x"], [["=y"]]).csv() == "'=x\n'=y\n"
