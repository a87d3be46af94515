"""The embedded benchmarks: generated pictures and questions, no download.

All seven ask about the same pictures in the same order, so one vision encode serves them all. Figures on them show the
tool at work; they are no evidence about a method on real models.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from hero_ray.benchmarks.dataset import means
from hero_ray.benchmarks.tally import Tally, detected, f1, said_yes, share
from hero_ray.benchmarks.yes_no import detection
from hero_ray.core.errors import DatasetError, UnknownNameError
from hero_ray.core.types import Metric, Sample, Scored

FINGERPRINTED_IMAGES = 4


class Synthetic:
    """One family of questions about generated pictures.

    Args:
        split: `test` to report, `validation` to choose, `train`.
        num_images: how many pictures; the generator's default if None.
        questions_per_image: at most this many; the family's default if None.
        seed: another set of pictures.
    """

    name: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()
    flavours: ClassVar[tuple[str, ...]] = ("head",)
    main_metric: str = "exact_match"
    scale: float = 1.0
    max_new_tokens: int = 8

    def __init__(
        self,
        flavour: str | None = None,
        split: str = "test",
        num_images: int | None = None,
        questions_per_image: int | None = None,
        seed: int = 0,
    ) -> None:
        self.flavour = flavour or self.flavours[0]
        if self.flavour not in self.flavours:
            raise UnknownNameError(f"flavour of {self.name}", self.flavour, self.flavours)
        self.split, self.num_images, self.seed = split, num_images, seed
        self.questions_per_image = questions_per_image

    def require(self) -> None:
        """Nothing is needed."""

    def samples(self, limit: int | None = None) -> Iterator[Sample]:
        """Samples picture by picture; pixels are drawn again by `load_image`."""
        from hero_ray.benchmarks.synthetic.documents import questions

        image_key, image_ref = "", list[Any]()
        for document, row in enumerate(questions(self.name, **self._asked(self.num_images))):
            if limit is not None and document >= limit:
                return
            if (key := f"synth:{row['image_id']}") != image_key:  # questions about one picture share what names it
                image_key, image_ref = key, [self.split, self.seed, row["index"]]
            yield Sample(
                benchmark=self.name,
                key=row["question_id"],
                question=row["question"],
                references=list(row["answers"]),
                image_key=image_key,
                image_ref=image_ref,
                category=row["category"],
                extra={"doc_id": document},
            )

    def fingerprint(self) -> str:
        """Hash of the request and of what the generator makes of its first pictures."""
        from hero_ray.benchmarks.synthetic.documents import documents

        asked = [self.name, self.split, self.num_images, self.questions_per_image, self.seed]
        digest = hashlib.sha256(json.dumps(asked).encode())
        for row in documents(self.name, **self._asked(FINGERPRINTED_IMAGES)):
            digest.update(f"{row['question']}|{row['answers']}".encode() + row["image"].tobytes())
        return digest.hexdigest()[:16]

    def _asked(self, num_images: int | None) -> dict[str, Any]:
        """What is asked of the generator; its own defaults where nothing is said."""
        asked = {"num_images": num_images, "questions_per_image": self.questions_per_image}
        given = {key: value for key, value in asked.items() if value is not None}
        return {"split": self.split, "seed": self.seed, **given}

    def load_image(self, image_ref: Any) -> Image.Image:
        """The picture at [split, seed, index]."""
        try:
            split, seed, index = image_ref
        except (TypeError, ValueError) as error:
            raise DatasetError(f"{self.name}: {image_ref!r} is not [split, seed, index]") from error
        return _scene(str(split), int(seed), int(index)).copy()

    def prompt(self, sample: Sample, family: str) -> str:
        """The bare question: what the embedded models were trained on."""
        return sample.question

    def score(self, prediction: str, references: Any, sample: Sample | None = None) -> dict[str, Any]:
        """Exact match after lower-casing and stripping."""
        answers = [references] if isinstance(references, str) else references
        text = prediction.lower().strip()
        return {self.main_metric: float(any(text == answer.lower().strip() for answer in answers))}

    def aggregate(self, scored: Sequence[Scored]) -> list[Metric]:
        """Mean over questions, then by kind of question."""
        return means(scored, self.main_metric)

    def paper_figures(self, metrics: Sequence[Metric]) -> dict[str, float]:
        """No paper prints these."""
        return {}

    def lmms_keys(self, metrics: Sequence[Metric]) -> dict[str, float]:
        """Figures by metric name."""
        return {metric.name: metric.value for metric in metrics if not metric.category}


@lru_cache(maxsize=16)
def _scene(split: str, seed: int, index: int) -> Image.Image:
    from hero_ray.benchmarks.synthetic.documents import scene_at

    return Image.fromarray(scene_at(split, index, seed).image).convert("RGB")


class SynthAttribute(Synthetic):
    """Colour and shape of a small object."""

    name = "synth-attribute"


class SynthDigits(Synthetic):
    """The digit on an object."""

    name = "synth-digits"


class SynthWords(Synthetic):
    """The word on a sign."""

    name = "synth-words"


class SynthCount(Synthetic):
    """How many of a kind."""

    name = "synth-count"


class SynthPosition(Synthetic):
    """Where one object is."""

    name = "synth-position"


class SynthScene(Synthetic):
    """The whole picture: background and texture."""

    name = "synth-scene"


class SynthExist(Synthetic):
    """Is there such an object? POPE's form and figures, hard negatives."""

    name = "synth-exist"
    main_metric = "pope_accuracy"

    def score(self, prediction: str, references: Any, sample: Sample | None = None) -> dict[str, Any]:
        """Right or wrong; what was read travels along for precision and recall."""
        answers = [references] if isinstance(references, str) else references
        read, gold = prediction.lower().strip(), answers[0].lower().strip()
        return {"pope_accuracy": float(read == gold), "read": read if read in ("yes", "no") else "other", "gold": gold}

    def aggregate(self, scored: Sequence[Scored]) -> list[Metric]:
        """Accuracy, precision, recall, F1 and the share of yes answers."""
        if not scored:
            return []
        found = detection([(item.scores["read"], item.scores["gold"]) for item in scored])
        yes = sum(item.scores["read"] == "yes" for item in scored) / len(scored)
        figures = {
            "pope_accuracy": found.accuracy,
            "pope_precision": found.precision,
            "pope_recall": found.recall,
            "pope_f1_score": found.f1,
            "pope_predicted_yes_ratio": yes,
        }
        return [Metric(name, value, len(scored)) for name, value in figures.items()]

    def tally(self, scored: Sequence[Scored]) -> Tally:
        """Counts of found, false alarms, missed and said."""

        def figures(sums: np.ndarray) -> dict[str, np.ndarray]:
            right, alarms, missed, asked, yes, _ = np.moveaxis(sums, -1, 0)
            precision, recall, harmonic = f1(right, alarms, missed)
            found = {"pope_precision": precision, "pope_recall": recall, "pope_f1_score": harmonic}
            return found | {"pope_predicted_yes_ratio": share(yes, asked)}

        return Tally(np.hstack([detected(scored), said_yes(scored)]), figures)
