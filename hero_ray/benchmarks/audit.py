"""A dataset against its card: documents, pictures, categories, and what is odd about single rows."""

from __future__ import annotations

from typing import Any

MAX_COMPLAINTS = 10


def differences(benchmark: Any) -> list[str]:
    """What differs from the full dataset as its card describes it; streams every row of a `DatasetBenchmark` once."""
    documents, pictures = 0, set()
    categories, findings = dict[str, int](), list[str]()
    for sample in benchmark.samples():
        documents += 1
        pictures.add(sample.image_key)
        categories[sample.category] = categories.get(sample.category, 0) + 1
        if (complaint := benchmark.complaint(sample)) and len(findings) < MAX_COMPLAINTS:
            findings.append(f"{sample.key}: {complaint}")
    if benchmark.where.rows and documents != benchmark.where.rows:
        findings.append(f"{documents} documents; the full split has {benchmark.where.rows}")
    if benchmark.num_pictures and len(pictures) != benchmark.num_pictures:
        findings.append(f"{len(pictures)} distinct pictures; the full split has {benchmark.num_pictures}")
    for category, expected in benchmark.category_sizes.items():
        if categories.get(category, 0) != expected:
            findings.append(f"{categories.get(category, 0)} of category {category!r}; expected {expected}")
    return findings
