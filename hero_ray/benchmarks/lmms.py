"""`lmms:TASK`: any single-image task of an installed lmms-eval, with its own prompt, filters and scorer.

lmms-eval is not a dependency. Its tasks stay the authority here: we hand them documents and answers and keep what they
return. Tasks with several pictures per question, or with several rounds, are refused when such a document is met.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from types import SimpleNamespace
from typing import Any, ClassVar

from PIL import Image

from hero_ray.benchmarks.images import picture, pixels_key
from hero_ray.core.errors import DatasetError, ImageError, MissingExtraError, UnknownNameError
from hero_ray.core.text import clean, clean_text
from hero_ray.core.types import Metric, Sample, Scored


def _load_task(name: str, include: str | None) -> Any:
    try:
        from lmms_eval.tasks import TaskManager, get_task_dict
    except ImportError as error:
        raise MissingExtraError("lmms-eval", "lmms") from error
    manager = TaskManager(include_path=include)
    if name not in manager.all_tasks:
        raise UnknownNameError("lmms-eval task", name, manager.all_tasks)
    return get_task_dict([name], manager)[name]


class LmmsBenchmark:
    """A task of lmms-eval behind our interface.

    Args:
        target: the task's name (what follows `lmms:`).
        flavour: only `installed`, the version that is there.
        include: folder with task files of one's own (lmms-eval's `--include_path`).
    """

    name = "lmms"
    aliases: ClassVar[tuple[str, ...]] = ()
    flavours: ClassVar[tuple[str, ...]] = ("installed",)
    scale: float = 1.0

    def __init__(self, target: str, flavour: str | None = None, include: str | None = None) -> None:
        self.flavour = flavour or self.flavours[0]
        if self.flavour not in self.flavours:
            raise UnknownNameError(f"flavour of lmms:{target}", self.flavour, self.flavours)
        self.target, self.include, self.name = target, include, f"lmms:{target}"

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("target", "flavour", "include", "name")}

    @cached_property
    def task(self) -> Any:
        """The lmms-eval task object; opens its dataset."""
        return _load_task(self.target, self.include)

    def require(self) -> None:
        """Refuse early: opens the task.

        Raises:
            MissingExtraError: lmms-eval is not installed.
            UnknownNameError: it has no such task.
        """
        _ = self.task

    @cached_property
    def main_metric(self) -> str:
        """The first metric the task lists."""
        return str(next(iter(self.task.aggregation())))

    @cached_property
    def max_new_tokens(self) -> int:
        """The task's own limit; lmms-eval's wrappers default to 1024."""
        return int((self.task.config.generation_kwargs or {}).get("max_new_tokens") or 1024)

    @cached_property
    def _texts(self) -> Any:
        """Documents without their pictures, where the task offers that."""
        return getattr(self.task, "eval_docs_no_media", None) or self.task.eval_docs

    def samples(self, limit: int | None = None) -> Iterator[Sample]:
        """Documents in the task's order. Pictures are hashed one at a time: tasks name none of their own."""
        for document in range(min(len(self._texts), limit if limit is not None else len(self._texts))):
            row = self._texts[document]
            text = clean_text(str(self.task.doc_to_text(row)))
            try:
                key = pixels_key(self.load_image(document))
            except ImageError:
                key = f"{self.name}:document-{document}"
            target = self.task.doc_to_target(row)
            extra = {"doc_id": document, "target": clean(json.loads(json.dumps(target, default=str)))}
            yield Sample(self.name, str(document), text, {"document": document}, key, document, "", extra)

    def load_image(self, image_ref: Any) -> Image.Image:
        """The one picture of a document.

        Raises:
            ImageError: none, or several.
        """
        try:
            pictures = self.task.doc_to_visual(self.task.eval_docs[int(image_ref)])
        except (OSError, SyntaxError, AttributeError) as error:
            raise ImageError(f"{self.name} document {image_ref}: {error}") from error
        if len(pictures) != 1 or not isinstance(pictures[0], Image.Image):
            raise ImageError(f"{self.name} document {image_ref} has {len(pictures)} visuals; one picture is supported")
        return picture(pictures[0])

    def fingerprint(self) -> str:
        """Hash of the task's configuration and of every document's text."""
        settings = json.dumps(self.task.dump_config(), sort_keys=True, default=str)
        # The task prints its functions with addresses that differ in every process.
        digest = hashlib.sha256(re.sub(r" at 0x[0-9a-f]+", "", settings).encode())
        for document in range(len(self._texts)):
            digest.update(str(self.task.doc_to_text(self._texts[document])).encode())
        return digest.hexdigest()[:16]

    def prompt(self, sample: Sample, family: str) -> str:
        """The task's own prompt."""
        return sample.question

    def score(self, prediction: str, references: Any, sample: Sample | None = None) -> dict[str, Any]:
        """What the task's `process_results` returns, and a number under the main metric.

        The task's raw values are kept under `raw` for its own aggregation.
        """
        if not isinstance(references, dict) or "document" not in references:
            raise DatasetError(f"{self.name} scores against its own documents; references must be {{'document': n}}")
        row = self._texts[int(references["document"])]
        raw = self.task.process_results(row, [self._filtered(prediction.strip(), row)])
        return {
            self.main_metric: self._alone(raw.get(self.main_metric)),
            "raw": json.loads(json.dumps(raw, default=str)),
        }

    def _alone(self, value: Any) -> float:
        """One document's own figure: a number, or the score inside a record. 0.0 where only the whole set has one."""
        if isinstance(value, dict):
            value = value.get(getattr(self.task.config, "score_key", None) or "score")
        return float(value) if isinstance(value, (int, float)) else 0.0

    def _filtered(self, text: str, row: Any) -> Any:
        """The answer after the task's first filter pipeline."""
        filters = getattr(self.task, "_filters", None)
        if not filters:
            return text
        instance = SimpleNamespace(resps=[text], doc=row, filtered_resps={})
        filters[0].apply([instance], None)
        found = next(iter(instance.filtered_resps.values()), text)
        return found[0] if isinstance(found, list) and found else found

    def aggregate(self, scored: Sequence[Scored]) -> list[Metric]:
        """Every metric that the task's own aggregation turns into a number; submissions are skipped.

        Raises:
            DatasetError: not one metric could be made of these answers.
        """
        metrics: list[Metric] = []
        failures = []
        for name, function in self.task.aggregation().items() if scored else ():
            values = [item.scores["raw"][name] for item in scored if name in item.scores["raw"]]
            try:
                metrics.append(Metric(name, float(function(values)), len(values)))
            except Exception as error:  # the task's own code: assertions, division by zero, None for a submission
                failures.append(f"{name}: {error!r}")
        if failures and not metrics:
            raise DatasetError(f"{self.name}: no metric could be aggregated ({'; '.join(failures)})")
        return metrics
