"""What a sweep will cost before it runs."""

from __future__ import annotations

from collections import Counter

from hero_ray.pipeline.facts import Plan


def describe_plan(plan: Plan, url: str) -> str:
    """Cells, pictures, questions and encodes saved, as text; nothing is written anywhere."""
    answers = sum(plan.expected.values())
    questions = Counter(sample.benchmark for sample in plan.samples)
    pictures = len({sample.image_key for sample in plan.samples})
    lines = [f"sweep {plan.config.name} ({plan.hash}), results in {url}"]
    for model in plan.models:
        cells = plan.cells_of(model.name)
        methods = dict.fromkeys(f"{cell.method}" for cell in cells)
        lines.append(f"{model.name} ({model.family}, {model.dtype}): {len(cells)} cells; methods {', '.join(methods)}")
    for name, count in questions.items():
        lines.append(f"{name}: {count} questions")
    encodes = len(plan.models) * pictures
    lines.append(
        f"{len(plan.cells)} cells, {pictures} pictures, {len(plan.samples)} questions, {answers} answers; "
        f"{encodes} encodes instead of {answers} ({answers - encodes} saved)"
    )
    return "\n".join(lines)
