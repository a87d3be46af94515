"""`hero-ray init`: a sweep file that says what was asked for, and what is wrong before it is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from hero_ray.cli import main
from hero_ray.core import config
from hero_ray.core.shipped import sweep_files


def ends(*arguments: str) -> int:
    """The exit code of a command line."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


def init(*arguments: str) -> None:
    assert ends("init", *arguments) == 0


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def written(path: str = "sweep.yaml") -> config.SweepConfig:
    return config.build(config.read(path))


def test_without_options_it_is_a_sweep_that_can_be_planned(capsys: pytest.CaptureFixture[str]) -> None:
    init()
    built = written()
    assert built.models == ("hero-tiny",)
    assert [str(task.name) for task in built.tasks] == ["synth-attribute"]
    *said, last = capsys.readouterr().out.splitlines()
    assert said == ["wrote sweep.yaml", "next: hero-ray sweep sweep.yaml --dry-run"]
    assert json.loads(last) == {"path": "sweep.yaml", "model": "hero-tiny", "task": "synth-attribute"}
    assert ends("plan", "sweep.yaml") == 0
    assert "cells" in capsys.readouterr().out


def test_what_was_asked_for_is_in_it() -> None:
    methods = "hero:alpha=0.7,text_term=clip,hired"
    init("mine.yaml", "--model", "llava-next-7b", "--data", "pope", "--methods", methods, "--budgets", "25%,64tok",
         "--max-loss", "2")  # fmt: skip
    built = written("mine.yaml")
    by_hand = config.build({"models": "llava-next-7b", "tasks": "pope", "methods": methods, "budgets": "25%,64tok"})
    assert (built.models, built.methods, built.budgets) == (by_hand.models, by_hand.methods, by_hand.budgets)
    text = Path("mine.yaml").read_text()
    assert "# margin: 2" in text
    assert text.count("#") > 10, "every key says what may stand there"


@pytest.mark.parametrize("name", ["demo", "nightly", "paper/hero-table-5"])
def test_a_shipped_file_is_copied_as_it_is(name: str) -> None:
    init("mine.yaml", "--like", name)
    assert Path("mine.yaml").read_bytes() == sweep_files()[name].read_bytes()
    assert written("mine.yaml") == config.build(config.read(str(sweep_files()[name])))


def test_a_folder_of_pictures_gets_a_file_to_fill_in(capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path("kitchen, south")
    folder.mkdir()
    for name in ("b.png", "a: 1.png"):
        Image.new("RGB", (32, 24)).save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    init("--data", str(folder), "--metric", "contains")
    assert "put a question and its answer into each row" in capsys.readouterr().out
    rows = [json.loads(line) for line in (folder / "questions.jsonl").read_text().splitlines()]
    assert rows == [{"image": name, "question": "", "answer": ""} for name in ("a: 1.png", "b.png")]
    (task,) = written().tasks
    assert (task.name, task.flavour) == ("file:kitchen, south/questions.jsonl", "contains")
    init("again.yaml", "--data", str(folder))  # the file of questions is there now
    assert "put a question" not in capsys.readouterr().out


@pytest.mark.parametrize("typed", ["a few", "0", "nan", "-1", "1,5"])
def test_a_loss_that_is_no_number_is_said_in_a_line(
    typed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Typed at the question; `--max-loss` refuses words by itself."""
    monkeypatch.setattr("hero_ray.cli.init.asked", lambda asks, given, usual: typed if "lost" in asks else usual)
    assert ends("init") == 2
    assert f"points that may be lost: '{typed}' is no number" in capsys.readouterr().err
    assert not Path("sweep.yaml").exists()


def test_a_refused_sweep_leaves_no_file_of_questions() -> None:
    Path("pictures").mkdir()
    Image.new("RGB", (32, 24)).save("pictures/a.png")
    assert ends("init", "--data", "pictures", "--methods", "heroo") == 2
    assert [path.name for path in Path("pictures").iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--model", "llava-nxt-7b"], "Did you mean 'llava-next-7b'"),
        (["--data", "popee"], "Did you mean 'pope'"),
        (["--data", "empty"], "holds no pictures"),
        (["--methods", "heroo"], "heroo"),
        (["--budgets", "40"], "40"),
        (["--data", "pope", "--metric", "letter"], "goes with file:PATH"),
        (["--like", "demoo"], "Did you mean 'demo'"),
        (["--like", "demo", "--model", "llava-next-7b", "--budgets", "20%"], "leave out --model, --budgets"),
        (["--like", "demo", "--max-loss", "2"], "leave out --max-loss"),
        (["taken.yaml"], "is there already"),
        (["nowhere/x.yaml"], "cannot write"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_written(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("taken.yaml").write_text("mine")
    Path("empty").mkdir()
    assert ends("init", *arguments) == 2
    said = capsys.readouterr()
    assert says in said.err
    assert len(said.err.strip().splitlines()) == 1
    assert not Path("sweep.yaml").exists()
    assert Path("taken.yaml").read_text() == "mine"
    init("taken.yaml", "--force")
    assert written("taken.yaml").models == ("hero-tiny",)
