"""The plain records the exchange formats are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ImportedAnswer:
    """One answered question.

    Attributes:
        document: position in the dataset, from 0; None where a file does not say.
        key: id inside the dataset, or "".
        prediction: the model's text.
        target: reference as the file has it.
        question: question or whole prompt, where known.
        scores: per-sample scores the file came with.
        category: sub-task.
        picture: the picture's name, where the file says.
    """

    document: int | None
    key: str
    prediction: str
    target: Any = None
    question: str = ""
    scores: Mapping[str, Any] = field(default_factory=dict)
    category: str = ""
    picture: str = ""


@dataclass(frozen=True)
class TaskResult:
    """One benchmark of one model setting.

    Attributes:
        task: lmms-eval's task name.
        metrics: figure by metric key.
        stderr: standard error by metric key; absent ones are written as "N/A".
        answers: the samples behind it.
        num_documents: documents asked for.
        max_new_tokens: generation limit; None where nobody knows.
        flavour: scoring rules.
        prompt_hash: hash of the prompt texts, or "".
        num_answered: documents answered, where `answers` were not loaded.
    """

    task: str
    metrics: Mapping[str, float]
    answers: Sequence[ImportedAnswer]
    num_documents: int
    stderr: Mapping[str, float] = field(default_factory=dict)
    max_new_tokens: int | None = None
    flavour: str = "head"
    prompt_hash: str = ""
    num_answered: int | None = None


@dataclass(frozen=True)
class ModelRun:
    """One model setting over some benchmarks: what one lmms-eval results file holds.

    Attributes:
        model: model name, as asked for.
        settings: whatever sets this run apart: method, variant, retention_ratio, seed ...
        tasks: its benchmarks.
        started: ISO time.
        seconds: wall time.
        git_commit: version of hero_ray.
        batch_size, limit: as the sweep was asked; None where it does not say.
        spec: everything else that sets its answers apart, as the cell keeps it.
    """

    model: str
    tasks: Sequence[TaskResult]
    settings: Mapping[str, Any] = field(default_factory=dict)
    started: str = ""
    seconds: float = 0.0
    git_commit: str = ""
    batch_size: int | None = None
    limit: int | None = None
    spec: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ImportedTask:
    """Answers read from a file, with what the file says about where they come from.

    Attributes:
        settings: what `model_args` say; of our own exports the exact settings.
        metrics, stderr: figures and standard errors of the results file beside it.
        repeated: equal repeats of a question that were left out.
    """

    task: str
    model: str
    answers: Sequence[ImportedAnswer]
    settings: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    source: str = ""
    stderr: Mapping[str, float] = field(default_factory=dict)
    repeated: int = 0
