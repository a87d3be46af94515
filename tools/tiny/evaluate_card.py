"""Measure an exported folder with transformers alone and write its model card: `python -m tools.tiny.evaluate_card`.

Answers come from `generate` on full tokens, so the card says what the folder does in anyone's hands. Validation chose
the recipe and the checkpoint; test did not.
"""

import json
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from hero_ray.benchmarks.synthetic.documents import NUM_IMAGES, documents
from hero_ray.benchmarks.synthetic.questions import BENCHMARKS
from hero_ray.models.registry import EMBEDDED_WEIGHTS
from hero_ray.results.writer import grid
from tools.tiny.answering import Answer, load_answerer
from tools.tiny.piece_tokenizer import SYSTEM
from tools.tiny.qwen_tokenizer import qwen_vocabulary
from tools.tiny.stages import STAGES
from tools.tiny.tokenizer import vocabulary

BATCH = 32


@dataclass(frozen=True)
class Accuracy:
    """Share of exact matches, how many were asked, and what always giving the commonest answer would score."""

    right: int
    number: int
    commonest: int

    @property
    def percent(self) -> float:
        return 100 * self.right / self.number

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval in percent, as if questions about one image were independent."""
        share, n, z = self.right / self.number, self.number, 1.96
        centre, spread = share + z * z / (2 * n), z * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
        low, high = ((centre + sign * spread) / (1 + z * z / n) for sign in (-1, 1))
        return 100 * low, 100 * high


def measure(answer: Answer, split: str, num_images: int) -> dict[str, Accuracy]:
    """Accuracy per benchmark and per category within benchmarks that have several."""
    tables: dict[str, Accuracy] = {}
    for name, categories in BENCHMARKS.items():
        rows = list(documents(name, split, num_images))
        asked = [(document["image"], document["question"]) for document in rows]
        given = [text for i in range(0, len(asked), BATCH) for text in answer(asked[i : i + BATCH])]
        marks = [text == document["answers"][0] for text, document in zip(given, rows, strict=True)]
        tables[name] = _accuracy(rows, marks)
        for category in categories if len(categories) > 1 else ():
            chosen = [i for i, document in enumerate(rows) if document["category"] == category]
            tables[f"{name}/{category}"] = _accuracy([rows[i] for i in chosen], [marks[i] for i in chosen])
    return tables


def _accuracy(rows: Sequence[dict[str, Any]], marks: Sequence[bool]) -> Accuracy:
    commonest = Counter(document["answers"][0] for document in rows).most_common(1)[0][1]
    return Accuracy(sum(marks), len(rows), commonest)


def table(tables: dict[str, dict[str, Accuracy]]) -> str:
    """Markdown, one row per benchmark or category, one pair of columns per split."""
    head = ["benchmark", *(title for split in tables for title in (f"{split} %, 95 % interval", "n"))]
    last = list(tables)[-1]
    rows = []
    for name, final in tables[last].items():
        cells = [cell for one in tables.values() for cell in _cells(one[name])]
        rows.append([name, *cells, f"{100 * final.commonest / final.number:.1f}"])
    return str(grid([*head, "commonest answer %"], rows))


def _cells(accuracy: Accuracy) -> tuple[str, int]:
    low, high = accuracy.interval
    return f"{accuracy.percent:.1f} ({low:.1f} to {high:.1f})", accuracy.number


def stages_table(checkpoints: Path) -> str:
    """Markdown of what each training stage did and took."""
    lines = [
        "| stage | steps | CPU s | wall s | seed | running averages at its end |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for stage in STAGES:
        if not (checkpoints / f"{stage}.json").exists():
            continue
        facts = json.loads((checkpoints / f"{stage}.json").read_text())
        averages = ", ".join(f"{name} {value:.2f}" for name, value in facts["averages"].items())
        lines.append(
            f"| {stage} | {facts['steps']} | {facts['cpu_s']} | {facts['wall_s']} | {facts['seed']} | {averages} |"
        )
    return "\n".join(lines)


def write_card(
    model: Annotated[str, typer.Option(help="hero-tiny, hero-tiny-internvl or hero-tiny-qwen.")] = "hero-tiny",
    folder: Annotated[Path | None, typer.Option(help="Exported folder to measure; the package's by default.")] = None,
    checkpoints: Annotated[Path | None, typer.Option(help="Folder of the training run; runs/MODEL by default.")] = None,
    num_images: Annotated[int, typer.Option(help="Images per split.", min=1)] = NUM_IMAGES,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
    write: Annotated[bool, typer.Option(help="Write README.md; otherwise only print the table.")] = True,
) -> None:
    """Measure validation and test on full tokens and write the card."""
    torch.set_num_threads(threads)
    folder = folder or EMBEDDED_WEIGHTS / model
    module, answer = load_answerer(model, folder)
    tables = {split: measure(answer, split, num_images) for split in ("validation", "test")}
    text = table(tables)
    typer.echo(text)
    if write:
        template = Path(__file__).with_name(f"card-{model}.md").read_text()
        filled = template.format(
            accuracy=text,
            stages=stages_table(checkpoints or Path("runs") / model),
            machine=f"{platform.machine()}, torch {torch.__version__}, {threads} thread, fp32",
            parameters=f"{sum(p.numel() for p in module.parameters()):,}",
            images=num_images,
            words=len(vocabulary()),
            qwen_words=len(qwen_vocabulary()),
            system=SYSTEM,
        )
        (folder / "README.md").write_text(filled)


if __name__ == "__main__":
    typer.run(write_card)
