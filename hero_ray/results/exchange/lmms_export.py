"""Write `{time}_results.json` and `{time}_samples_{task}.jsonl` as lmms-eval does, one folder per model setting.

Keys follow lmms-eval's `EvaluationTracker`: metrics as `name,none` and `name_stderr,none`, documents by position,
pictures left out. What has no place there (method, retention ratio) is part of `model_args`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from hero_ray.results.exchange.records import ImportedAnswer, ModelRun, TaskResult

FILTER = "none"
TIME_FORMAT = "%Y%m%d_%H%M%S"
MAX_NAME_BYTES = 120


def model_args(run: ModelRun) -> str:
    """`pretrained=NAME,method=hero,retention_ratio=0.2`; commas inside values become semicolons."""
    pairs = {"pretrained": run.model, **run.settings}
    return ",".join(f"{key}={str(value).replace(',', ';')}" for key, value in pairs.items())


def folder_name(run: ModelRun) -> str:
    """lmms-eval's model folder with what sets this run apart: model, method, budget, and a hash of all of it.

    The whole list of settings may be longer than the 255 bytes that file systems allow a name; it stands in the file.
    """
    settings = dict(run.settings)
    words = [run.model, str(settings.get("method", ""))]
    words += [f"{settings[key]}{unit}" for key, unit in (("retention_ratio", ""), ("tokens", "tok")) if key in settings]
    told = _hash(json.dumps([model_args(run), [(t.task, t.flavour) for t in run.tasks], dict(run.spec)], default=str))
    return f"{safe_name('_'.join(filter(None, words)))}_{told[:8]}"


def safe_name(text: str) -> str:
    """`text` as part of a file's name: separators and quotes as `__`, at most 120 bytes; a cut one ends in its hash."""
    clean = re.sub(r"[\"<>:/|\\?*\[\]\s\x00-\x1f]+", "__", text).strip("_.") or "unnamed"
    if len(clean.encode()) <= MAX_NAME_BYTES:
        return clean
    return clean.encode()[: MAX_NAME_BYTES - 9].decode(errors="ignore") + "-" + _hash(text)[:8]


def task_name(task: str) -> str:
    """A task as part of a file's name; one that had to change (`file:data/mine.jsonl`) ends in its hash."""
    clean = safe_name(task)
    return clean if clean == task else f"{clean}-{_hash(task)[:8]}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def sample_line(answer: ImportedAnswer) -> dict[str, Any]:
    """One line of a samples file."""
    document = {"key": answer.key, "question": answer.question, "category": answer.category}
    numbers = [value for value in answer.scores.values() if isinstance(value, (int, float))]
    target = answer.target if isinstance(answer.target, str) else json.dumps(answer.target, ensure_ascii=False)
    return {
        "doc_id": answer.document,
        "target": target,
        "filtered_resps": [answer.prediction],
        "resps": [[answer.prediction]],
        "doc_hash": _hash(json.dumps(document, indent=2, ensure_ascii=False)),
        "prompt_hash": _hash(answer.question),
        "target_hash": _hash(target),
        **answer.scores,
        **({"score": numbers[0]} if numbers else {}),  # where lmms-eval's --baseline looks for a sample's figure
        "input": answer.question,
        "key": answer.key,
        "category": answer.category,
    }


def sample_lines(task: TaskResult) -> Iterator[dict[str, Any]]:
    """Lines of a samples file in dataset order."""
    for answer in sorted(task.answers, key=lambda a: (a.document is None, a.document or 0)):
        yield sample_line(answer)


def results_document(run: ModelRun) -> dict[str, Any]:
    """The content of a results file."""
    names = [task.task for task in run.tasks]
    return {
        "results": {task.task: _figures(task) for task in run.tasks},
        "group_subtasks": {name: [] for name in names},
        "configs": {task.task: _config(task) for task in run.tasks},
        "versions": dict.fromkeys(names, "Yaml"),
        "n-shot": dict.fromkeys(names, 0),
        "higher_is_better": {task.task: dict.fromkeys(task.metrics, True) for task in run.tasks},
        "n-samples": {
            task.task: {
                "original": task.num_documents,
                "effective": len(task.answers) if task.num_answered is None else task.num_answered,
            }
            for task in run.tasks
        },
        "config": {
            "model": "hero_ray",
            "model_args": model_args(run),
            "batch_size": run.batch_size,
            "device": None,
            "limit": run.limit,
            "hero_ray": {"settings": dict(run.settings), **run.spec},
        },
        "git_hash": run.git_commit or None,
        "date": run.started,
        "task_hashes": {task.task: _task_hash(task) for task in run.tasks if task.answers},
        "model_source": "hero_ray",
        "model_name": model_args(run).removeprefix("pretrained="),
        "model_name_sanitized": folder_name(run),
        "system_instruction": None,
        "chat_template": None,
        "total_evaluation_time_seconds": str(run.seconds),
    }


def _figures(task: TaskResult) -> dict[str, Any]:
    figures: dict[str, Any] = {"alias": task.task}
    for name, value in task.metrics.items():
        figures[f"{name},{FILTER}"] = value
        figures[f"{name}_stderr,{FILTER}"] = task.stderr.get(name, "N/A")
    return figures


def _config(task: TaskResult) -> dict[str, Any]:
    # Every answer of ours is greedy; of an imported one nobody knows how it was generated.
    greedy = {"max_new_tokens": task.max_new_tokens, "temperature": 0, "do_sample": False}
    return {
        "task": task.task,
        "output_type": "generate_until",
        "num_fewshot": 0,
        "metric_list": [{"metric": name, "higher_is_better": True} for name in task.metrics],
        "generation_kwargs": greedy if task.max_new_tokens is not None else {},
        "metadata": [{"scoring_flavour": task.flavour, "prompt_hash": task.prompt_hash}],
    }


def _task_hash(task: TaskResult) -> str:
    return _hash("".join(f"sample_{i}{line['doc_hash']}" for i, line in enumerate(sample_lines(task))))


def write(run: ModelRun, folder: Path, time: datetime, samples: bool = True) -> list[Path]:
    """Write the files of one model setting under `folder`; returns their paths, results first."""
    target = folder / folder_name(run)
    target.mkdir(parents=True, exist_ok=True)
    stamp = time.strftime(TIME_FORMAT)
    results = target / f"{stamp}_results.json"
    results.write_text(json.dumps(results_document(run), indent=2, ensure_ascii=False, default=str), encoding="utf-8")
    written = [results]
    for task in run.tasks if samples else ():
        path = target / f"{stamp}_samples_{task_name(task.task)}.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for line in sample_lines(task):
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
        written.append(path)
    return written
