"""The common part of every benchmark that reads a dataset: rows to Samples, pictures on demand, means over samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from PIL import Image

from hero_ray.benchmarks import images
from hero_ray.benchmarks.audit import differences
from hero_ray.benchmarks.picture_cells import encoded_bytes
from hero_ray.benchmarks.sources import Head, Source, open_source
from hero_ray.benchmarks.tables import Locator, ParquetTable, RowTable
from hero_ray.core.errors import DatasetError, ImageError, ParameterError, UnknownNameError
from hero_ray.core.text import brief
from hero_ray.core.types import Metric, Sample, Scored

SHORT = "\nAnswer the question using a single word or phrase."
LETTER = "\nAnswer with the option's letter from the given choices directly."
PromptStyle = Literal["lmms-eval", "vlmevalkit", "internvl"]
PROMPT_STYLES = get_args(PromptStyle)


@dataclass(frozen=True)
class Fields:
    """What a benchmark reads out of one row."""

    question: str
    references: Any
    category: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


class DatasetBenchmark:
    """One benchmark over one dataset; subclasses fill in `fields`, `ask` and `score`.

    Args:
        flavour: scoring rules; the first of `flavours` by default.
        data: local file or folder instead of the hub.
        hub: hub id to read instead of the known ones.
        config: dataset configuration instead of the usual one.
        split: dataset split instead of the usual one.
        prompts: whose prompt texts; follows the flavour by default.
        image_keys: `auto` takes the dataset's own picture ids where it has them, `bytes` and `pixels` hash.
        exif: whether EXIF orientation is applied.
        max_pixels: larger pictures become failed samples.
        allow_outside: whether a picture's path may leave the folder of the data.

    Raises:
        UnknownNameError: no such flavour.
        ParameterError: an option outside its values.
    """

    name: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()
    flavours: ClassVar[tuple[str, ...]] = ("head",)
    source: ClassVar[Source]
    key_column: ClassVar[str | None] = None
    image_column: ClassVar[str | None] = None
    """Column with the dataset's own picture id."""
    num_pictures: ClassVar[int | None] = None
    category_sizes: ClassVar[Mapping[str, int]] = {}
    """Of the full split, where confirmed: distinct pictures, documents per category."""
    papers: ClassVar[Mapping[str, str]] = {}
    """Paper -> the metric whose hundredfold it prints."""
    main_metric: str = "exact_match"
    scale: float = 1.0
    max_new_tokens: int = 16

    def __init__(
        self,
        flavour: str | None = None,
        data: str | Path | None = None,
        hub: str | None = None,
        config: str | None = None,
        split: str | None = None,
        prompts: str | None = None,
        image_keys: str = "auto",
        exif: images.ExifPolicy = "apply",
        max_pixels: int = images.MAX_PIXELS,
        allow_outside: bool = False,
    ) -> None:
        self.flavour = flavour or self.flavours[0]
        if self.flavour not in self.flavours:
            raise UnknownNameError(f"flavour of {self.name}", self.flavour, self.flavours)
        self.prompts = prompts or ("vlmevalkit" if self.flavour == "vlmevalkit" else "lmms-eval")
        for option, value, known in (
            ("prompts", self.prompts, PROMPT_STYLES),
            ("image_keys", image_keys, ("auto", "bytes", "pixels")),
            ("exif", exif, ("apply", "ignore")),
        ):
            if value not in known:
                raise ParameterError(f"{self.name}: {option}={brief(value)}; expected one of {', '.join(known)}")
        self.data, self.image_keys, self.exif = data, image_keys, exif
        self.max_pixels, self.allow_outside = max_pixels, allow_outside
        self.first: int | None = None
        self.where = replace(
            self.source,
            ids=(hub,) if hub else self.source.ids,
            split=split or self.source.split,
            config=config or self.source.config,
            rows=None if split else self.source.rows,
        )

    # ---- rows to samples

    @cached_property
    def table(self) -> RowTable:
        """The rows; opened on first use."""
        head = None if self.first is None else Head(self.first, self._count)
        return open_source(self.name, self.where, self.data, head=head)

    def only(self, limit: int | None) -> None:
        """Say before the rows are opened that no more than the first documents will be asked for.

        Of several Parquet files only those that hold them are fetched, read and fingerprinted then, cached or not.
        """
        self.first = limit

    def _count(self, table: RowTable) -> int:
        """Documents of a table."""
        if type(self).wanted is DatasetBenchmark.wanted and isinstance(table, ParquetTable):
            return table.num_rows
        return sum(self.wanted(row) for _, row in table.rows(self.where.columns))

    def fields(self, row: Mapping[str, Any]) -> Fields:
        """What the benchmark needs of a row."""
        raise NotImplementedError

    def wanted(self, row: Mapping[str, Any]) -> bool:
        """Whether a row belongs to the benchmark."""
        return True

    def samples(self, limit: int | None = None) -> Iterator[Sample]:
        """Samples in dataset order; `limit` takes the first n documents, as lmms-eval does."""
        seen: dict[str, int] = {}
        for document, (locator, row) in enumerate(self._documents(limit)):
            yield self._sample(document, locator, row, seen)

    def _documents(self, limit: int | None) -> Iterator[tuple[Locator, dict[str, Any]]]:
        columns = list(self.where.columns)
        if self.where.image and self._hashes_pictures:
            columns.append(self.where.image)
        taken = 0
        for locator, row in self.table.rows(columns) if limit != 0 else ():
            if self.wanted(row):
                taken += 1
                yield locator, row
            if taken == limit:
                return  # before another row is read: it may lie in a file of its own

    @property
    def _hashes_pictures(self) -> bool:
        return self.image_keys != "auto" or self.image_column is None

    def _sample(self, document: int, locator: Locator, row: Mapping[str, Any], seen: dict[str, int]) -> Sample:
        try:
            read = self.fields(row)
        except (KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
            raise DatasetError(f"{self.name}: document {document} is not laid out as expected: {error!r}") from error
        key = str(row[self.key_column]) if self.key_column else str(document)
        if self.key_column:
            seen[key] = seen.get(key, 0) + 1
            key = key if seen[key] == 1 else f"{key}#{seen[key]}"
        return Sample(
            benchmark=self.name,
            key=key,
            question=read.question,
            references=read.references,
            image_key=self._image_key(document, row),
            image_ref=self._image_ref(locator, row),
            category=read.category,
            extra={"doc_id": document, **read.extra},
        )

    def _image_key(self, document: int, row: Mapping[str, Any]) -> str:
        if not self._hashes_pictures:
            return f"{self.name}:{row[self.image_column or '']}"
        try:
            data = self._encoded(row.get(self.where.image or ""))
            if self.image_keys == "pixels":
                return images.pixels_key(images.decode(data, self.max_pixels, self.exif))
            return images.bytes_key(data)
        except ImageError:
            # Not a reason to stop: the sample fails on its own when its picture is loaded.
            return f"{self.name}:document-{document}"

    def _image_ref(self, locator: Locator, row: Mapping[str, Any]) -> Any:
        return locator

    def load_image(self, image_ref: Any) -> Image.Image:
        """The picture behind `Sample.image_ref`, RGB.

        Raises:
            ImageError: the bytes are not a usable picture.
        """
        cell = self.table.cell(image_ref, self.where.image or "image")
        return images.decode(self._encoded(cell), self.max_pixels, self.exif)

    def _encoded(self, cell: Any) -> bytes:
        files = getattr(self.table, "files", ())
        return encoded_bytes(cell, files[0].parent if files else None, self.allow_outside)

    def fingerprint(self) -> str:
        """Content hash of the dataset files."""
        return self.table.fingerprint()

    def __getstate__(self) -> dict[str, Any]:
        return _portable(self.__dict__)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(_portable(state))

    # ---- prompts

    def ask(self, sample: Sample, style: PromptStyle) -> str:
        """User text in one prompt style."""
        raise NotImplementedError

    def prompt(self, sample: Sample, family: str) -> str:
        """User text for a model family, without chat template and image token.

        The harnesses put the same text before every LLaVA and InternVL model; what differs between them is `prompts`.
        """
        return self.ask(sample, self.prompts)  # type: ignore[arg-type]

    # ---- scores

    def score(self, prediction: str, references: Any, sample: Sample | None = None) -> dict[str, Any]:
        """Per-sample scores by metric key."""
        raise NotImplementedError

    def aggregate(self, scored: Sequence[Scored]) -> list[Metric]:
        """Mean of the main metric, whole benchmark first, then by category."""
        return means(scored, self.main_metric)

    def paper_figures(self, metrics: Sequence[Metric]) -> dict[str, float]:
        """Our figures on each paper's scale, by paper; only papers that print this benchmark."""
        whole = {metric.name: metric.value for metric in metrics if not metric.category}
        return {paper: 100 * whole[name] for paper, name in self.papers.items() if name in whole}

    def lmms_keys(self, metrics: Sequence[Metric]) -> dict[str, float]:
        """Figures under lmms-eval's metric keys, for export."""
        return {metric.name: metric.value for metric in metrics if not metric.category}

    # ---- checks

    def require(self) -> None:
        """Refuse before anything is generated if a score could not be made later (a judge that is not set)."""

    def complaint(self, sample: Sample) -> str:
        """What is odd about one sample, "" for nothing."""
        return ""

    def audit(self) -> list[str]:
        """What differs from the full dataset as its card describes it; streams every row once."""
        return differences(self)


def _portable(state: Mapping[str, Any]) -> dict[str, Any]:
    """A benchmark's state; the table keeps only file names, and a node without those files opens the source anew."""
    lost = "table" in state and not all(path.is_file() for path in getattr(state["table"], "files", ()))
    return {key: value for key, value in state.items() if not (lost and key == "table")}


def by_category(scored: Sequence[Scored]) -> dict[str, list[Scored]]:
    """Groups by category, in order of appearance; uncategorised samples are left out."""
    groups: dict[str, list[Scored]] = {}
    for item in scored:
        if item.sample.category:
            groups.setdefault(item.sample.category, []).append(item)
    return groups


def mean(values: Sequence[float]) -> float:
    """Plain mean; 0.0 of nothing."""
    return sum(values) / len(values) if values else 0.0


def means(scored: Sequence[Scored], name: str, value: Callable[[Scored], float] | None = None) -> list[Metric]:
    """A metric's mean over all samples, then over each category."""
    read = value or (lambda item: float(item.scores[name]))
    if not scored:
        return []
    groups = {"": list(scored), **by_category(scored)}
    return [Metric(name, mean([read(item) for item in group]), len(group), key) for key, group in groups.items()]


def lettered(options: Sequence[str]) -> str:
    """`A. first` and so on, one per line."""
    return "\n".join(f"{chr(65 + i)}. {option}" for i, option in enumerate(options))


def spaced(suffix: str) -> str:
    """A suffix joined by one space instead of a newline, as the InternVL scripts do."""
    return suffix.replace("\n", " ", 1)
