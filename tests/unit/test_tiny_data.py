"""The synthetic sets as Parquet files hold the very documents."""

import io

import numpy as np
import pyarrow.parquet as pq
from PIL import Image
from typer.testing import CliRunner

from hero_ray.benchmarks.synthetic.documents import documents
from hero_ray.benchmarks.synthetic.questions import BENCHMARKS
from tools.tiny import data


def test_every_benchmark_is_written_and_reads_back(tmp_path) -> None:
    data.write_sets(out=tmp_path, split=["validation"], num_images=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"{name}-validation.parquet" for name in BENCHMARKS
    )
    rows = pq.read_table(tmp_path / "synth-digits-validation.parquet").to_pylist()
    expected = list(documents("synth-digits", "validation", 3))
    told = [{key: value for key, value in document.items() if key != "index"} for document in expected]
    assert [{**row, "image": None} for row in rows] == [{**document, "image": None} for document in told]
    for row, document in zip(rows, expected, strict=True):
        decoded = Image.open(io.BytesIO(row["image"]))
        assert np.array_equal(np.asarray(decoded), np.asarray(document["image"]))


def test_writing_twice_gives_the_same_rows(tmp_path) -> None:
    for folder in ("a", "b"):
        data.write_sets(out=tmp_path / folder, split=["test"], num_images=2)
    for name in BENCHMARKS:
        tables = [pq.read_table(tmp_path / folder / f"{name}-test.parquet") for folder in ("a", "b")]
        assert tables[0].equals(tables[1])


def test_an_unknown_split_is_refused(tmp_path) -> None:
    app = data.typer.Typer()
    app.command()(data.write_sets)
    result = CliRunner().invoke(app, ["--out", str(tmp_path / "sets"), "--split", "dev"])
    assert result.exit_code == 2
    assert "validation" in result.output
    assert not (tmp_path / "sets").exists()
