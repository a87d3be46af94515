"""HERO's Tables I-III beside the newest stored execution of the study that measures each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hero_ray import benchmarks
from hero_ray.benchmarks import sizes
from hero_ray.results import published

Row = Mapping[str, Any]
STUDY: Mapping[tuple[str, str], str] = {
    ("hero", "I"): "tile-importance",
    ("hero", "II"): "token-roles",
    ("hero", "III"): "caption-judge",
}
_ROLES = {"4-8": "primary", "12-23": "shortcut"}


def printed_rows(table: tuple[str, str]) -> list[Row]:
    """What the table prints."""
    return [row for row in published.ablations() if (row["paper"], row["table"]) == table]


def newest(stored: Sequence[Row], table: tuple[str, str], model: str | None) -> Row | None:
    """The newest execution of the table's study, on `model` where one is named, else on the paper's if there is one."""
    mine = [study for study in stored if study["name"] == STUDY[table] and model in (None, study["model"])]
    papers_own = [study for study in mine if study["model"] == models_of(table)]
    return next(iter(papers_own or mine), None)


def models_of(table: tuple[str, str]) -> str:
    """The model the paper measured: what the rows' note begins with."""
    return str(printed_rows(table)[0]["note"]).partition(";")[0].strip()


def measured(row: Row, study: Row) -> Row | None:
    """The study's row for a printed one, by the names of its columns; None where it measured none such."""
    first = study["result"]["tables"][0]
    wanted = _wanted(row)
    for values in first["rows"]:
        found = dict(zip(first["columns"], values, strict=True))
        if all(_same(found.get(key), value) for key, value in wanted.items()):
            return found
    return None


def _wanted(row: Row) -> dict[str, Any]:
    """Column -> value of the study's row that measures a printed one."""
    if row["table"] == "I":
        rank = 0 if row["parameter_value"] == "none" else int(row["parameter_value"])
        ranking = "thumbnail only" if not rank else str(row["variant"]).removeprefix("thumbnail + tile by ")
        return {"benchmark": published.BENCHMARKS[row["benchmark"]], "ranking": ranking, "rank": rank}
    role = _ROLES[row["parameter_value"]]
    if row["table"] == "II":
        return {"benchmark": "mmstar", "category": row["category"], "tokens": role}
    return {"rating": row["category"], "tokens": role}


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, str) and isinstance(found, str):
        return found.replace("&", "and").replace("_", " ").casefold() == wanted.casefold()
    return bool(found == wanted)


def factor(row: Row) -> float:
    """From the study's scale to the paper's: shares to per cent; a judge's levels as they are."""
    return 1.0 if row["table"] == "III" else 100.0


def unlike(row: Row, study: Row, found: Row) -> str:
    """The first way in which a study is not what the paper measured, or ""."""
    own = models_of((row["paper"], row["table"]))
    if study["model"] != own:
        return f"other model: {study['model']} instead of {own}"
    if row["table"] == "III":
        return "rated by another judge with another prompt; compare the order of the two settings, not the levels"
    if row["benchmark"] == "mme":
        return "other scale: the study gives the share of questions answered right, the paper MME points"
    name = published.BENCHMARKS[row["benchmark"]]
    whole = sizes.rows(benchmarks.get_class(name))
    if row["table"] == "I" and whole and found["n"] < whole:
        return f"other split: {found['n']} of {whole} questions (pictures with four tiles, --limit)"
    per_category: Mapping[str, int] = getattr(benchmarks.get_class(name), "category_sizes", {})
    size = next((n for category, n in per_category.items() if _same(category, row["category"])), None)
    if row["table"] == "II" and size and found["n"] < size:
        return f"other split: {found['n']} of {size} questions of this category answered"
    return ""


def missing(study: Row, row: Row) -> str:
    """Why a study has no figure for a printed row."""
    first = study["result"]["tables"][0]
    if "benchmark" not in first["columns"]:
        return "the study gives no such figure"
    names = dict.fromkeys(values[first["columns"].index("benchmark")] for values in first["rows"])
    wanted = published.BENCHMARKS[row["benchmark"]]
    return f"the study measured {', '.join(names)}" if wanted not in names else "the study gives no such figure"
