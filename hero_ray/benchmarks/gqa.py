"""GQA test-dev balanced (Hudson and Manning 2019): compositional questions, about thirty per picture.

lmms-eval deletes all punctuation before comparing; the official evaluator, behind the LLaVA model zoo's figures that
HERO prints, only lower-cases and drops trailing stops. Both are scored.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

from hero_ray.benchmarks.dataset import SHORT, DatasetBenchmark, Fields, PromptStyle, means, spaced
from hero_ray.benchmarks.sources import Source, open_source
from hero_ray.benchmarks.tables import Locator, RowTable, fingerprint
from hero_ray.core.errors import DatasetError
from hero_ray.core.types import Metric, Sample, Scored

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def exact_match(prediction: str, answer: str) -> float:
    """Whole strings, lower-cased, ASCII punctuation deleted; inner white space counts."""
    left, right = (text.lower().translate(_NO_PUNCTUATION) for text in (prediction, answer))
    return float(left == right)


class Gqa(DatasetBenchmark):
    """GQA test-dev balanced; questions and pictures are two configurations, joined here instead of copied."""

    name = "gqa"
    aliases = ("GQA_TestDev_Balanced", "gqa_testdev")
    flavours = ("head", "v0.2.3", "v0.2.0", "hired", "vlmevalkit")
    source = Source(
        ids=("lmms-lab-encoder/GQA", "lmms-lab/GQA"),
        config="testdev_balanced_instructions",
        split="testdev",
        columns=("id", "imageId", "question", "answer"),
        image=None,
        rows=12_578,
    )
    images_config = "testdev_balanced_images"
    key_column = "id"
    image_column = "imageId"
    papers: ClassVar[Mapping[str, str]] = {"hero": "gqa_official", "ptp": "exact_match"}

    @cached_property
    def pictures(self) -> RowTable:
        """The second configuration: `id`, `image`."""
        where = replace(self.where, config=self.images_config, columns=("id",), image="image")
        return open_source(self.name, where, self.data)

    @cached_property
    def places(self) -> dict[str, Locator]:
        """Picture id -> its row."""
        return {str(row["id"]): locator for locator, row in self.pictures.rows(["id"])}

    @property
    def _hashes_pictures(self) -> bool:
        return False

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in super().__getstate__().items() if key not in ("places", "pictures")}

    def fields(self, row: Mapping[str, Any]) -> Fields:
        return Fields(row["question"], row["answer"])

    def _image_ref(self, locator: Locator, row: Mapping[str, Any]) -> Any:
        place = self.places.get(str(row["imageId"]))
        if place is None:
            raise DatasetError(f"gqa: picture {row['imageId']!r} is not in configuration {self.images_config}")
        return place

    def load_image(self, image_ref: Any) -> Any:
        from hero_ray.benchmarks import images, picture_cells

        cell = self.pictures.cell(image_ref, "image")
        files = getattr(self.pictures, "files", ())
        data = picture_cells.encoded_bytes(cell, files[0].parent if files else None, self.allow_outside)
        return images.decode(data, self.max_pixels, self.exif)

    def fingerprint(self) -> str:
        files = [*getattr(self.table, "files", ()), *getattr(self.pictures, "files", ())]
        return fingerprint(files)

    def ask(self, sample: Sample, style: PromptStyle) -> str:
        return sample.question + (spaced(SHORT) if style == "internvl" else SHORT)

    def score(self, prediction: str, references: Any, sample: Sample | None = None) -> dict[str, Any]:
        """lmms-eval's (or VLMEvalKit's) exact match, and the official evaluator's."""
        text, answer = prediction.strip(), str(references)
        if self.flavour == "vlmevalkit":
            main = float(text.lower() == answer.lower().strip())
        else:
            main = exact_match(text, answer)
        official = float(text.lower().rstrip(".") == answer.lower().rstrip("."))
        return {"exact_match": main, "gqa_official": official}

    def aggregate(self, scored: Sequence[Scored]) -> list[Metric]:
        return means(scored, "exact_match") + means(scored, "gqa_official")
