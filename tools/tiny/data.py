"""Write the synthetic benchmarks as Parquet files: `python -m tools.tiny.data --out DIR`."""

import io
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
import typer

from hero_ray.benchmarks.synthetic.documents import NUM_IMAGES, SPLITS, documents
from hero_ray.benchmarks.synthetic.questions import BENCHMARKS

SCHEMA = pa.schema(
    [
        ("image", pa.binary()),
        ("image_id", pa.string()),
        ("question_id", pa.string()),
        ("question", pa.string()),
        ("answers", pa.list_(pa.string())),
        ("category", pa.string()),
    ]
)


def row(document: dict[str, Any]) -> dict[str, Any]:
    """A document with its image as PNG bytes."""
    png = io.BytesIO()
    document["image"].save(png, format="PNG")
    return document | {"image": png.getvalue()}


def write_sets(
    out: Annotated[Path, typer.Option(help="Folder to write into.")] = Path("data/synthetic"),
    split: Annotated[list[str] | None, typer.Option(help="Which splits; repeatable.")] = None,
    num_images: Annotated[int, typer.Option(help="Images per split.", min=1)] = NUM_IMAGES,
    seed: Annotated[int, typer.Option(help="Another seed gives other scenes.")] = 0,
) -> None:
    """Write one Parquet file per benchmark and split."""
    parts = split or ["validation", "test"]
    for part in parts:
        if part not in SPLITS:
            raise typer.BadParameter(f"unknown split {part!r}; known: {', '.join(SPLITS)}")
    out.mkdir(parents=True, exist_ok=True)
    for part in parts:
        for name in BENCHMARKS:
            rows = [row(document) for document in documents(name, part, num_images, seed=seed)]
            target = out / f"{name}-{part}.parquet"
            pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), target)
            typer.echo(f"{target}: {len(rows)} questions about {num_images} images")


if __name__ == "__main__":
    typer.run(write_sets)
