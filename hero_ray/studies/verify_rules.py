"""What is known of the papers' tables beyond their digits: settings, scales, populations, contradictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

METHODS: Mapping[str, str] = {"spatial-r": "spatial"}
"""Names in the files -> ours, where they differ."""

FLAVOURS: Mapping[str, tuple[str, ...]] = {
    "hero": ("v0.2.0", "v0.2.3", "hired"),
    "hired": ("hired",),
    "ptp": ("vlmevalkit",),
}
"""Scoring rules a paper most likely used; HERO names no harness."""

OTHER_POPULATION: Mapping[tuple[str, str], str] = {
    ("hero", "vqav2_val"): "the paper prints the test-dev server's score; compare drops, not levels",
    ("hero", "vizwiz_vqa_val"): "the paper prints the test server's score; compare drops, not levels",
    ("hero", "mmbench_en_dev"): "the unpruned value equals the model zoo's, matched by a judge and a server",
}

WHOLE = ("", "image", "perception+cognition", "overall", "average")
"""Names of categories that are the whole benchmark."""

ABLATION_MODEL: Mapping[str, str] = {"hero": "llava-next-7b", "ptp": "internvl2-2b"}
BY_STUDY: Mapping[tuple[str, str], str] = {
    ("hero", "I"): "hero-ray study tile-importance --model llava-next-7b --tasks mme,pope,textvqa_val,realworldqa",
    ("hero", "II"): "hero-ray study token-roles --model llava-1.5-7b --tasks mmstar",
    ("hero", "III"): "hero-ray study caption-judge --model llava-1.5-7b --tasks mmstar",
}

REMARKS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("hero", "IV"): (
        "baselines stand at 50/25 % (PruMerge+ 55 %) beside HERO at 40/20 % and seem copied from their own papers",
        "text: 13B at 20 % beats full on POPE; the table has 86.9 against 87.1",
        "7B MME is 1474.0 for both PruMerge+ and HiRED at 40 %, below HiRED's 1483.0 at 20 %",
    ),
    ("hero", "V"): ("OCRBench 52.4 at 20 % is Table IV's value at 40 %; Table IV has 48.6 at 20 %",),
    ("hero", "VII"): ("layer bases are mixed: HiRED counts from 0 and calls 22 final, which may or may not be {22}",),
    ("hero", "VIII"): ("the 40 % row's 14.1 TFLOPs leave out the text tokens: Eq. 7 gives 14.95 at 1105 tokens",),
    ("ptp", "I"): (
        "VizWiz 8B full: text 30.9, table 32.9; ChartQA 8B VTW: text 18.9, table 16.3",
        "the 2B average of PTP itself is 100.07 by its cells, 99.8 printed",
    ),
    ("ptp", "II"): ("layers count from 0; the appendix and Table III's caption name layer 11, which has no row here",),
    ("ptp", "III"): ("text puts the RealWorldQA peak at alpha 0.8; the table has it at 0.9",),
    ("ptp", "IV"): ("the average declines are not the means of the columns (2.47 against 1.71 printed, and so on)",),
    ("ptp", "V"): (
        "the printed cache counts 16 key-value heads; InternVL2-2B has 8, so the real cache is half of it",
        "FLOPs saving: 52.5 % here, 32.2 % in the conclusion; total time in seconds here, milliseconds in the text",
    ),
    ("ptp", "VII"): ("the maxima add up to 1879.27; Table I prints 1879.7",),
}


def _span(text: str) -> tuple[int, ...]:
    first, _, last = text.partition("-")
    return tuple(range(int(first), int(last or first) + 1))


_PARTS: Mapping[tuple[str, str], tuple[str, dict[str, Any]]] = {
    ("hero", "none"): ("hero", {}),
    ("hero", "textual relevance"): ("hero", {"alpha": 1.0}),
    ("hero", "textual relevance and visual saliency (uniform budget)"): (
        "hero",
        {"temperature_cls": 1e9, "temperature_clip": 1e9},
    ),
    ("hero", "view-specific selection (first ViT layer for all)"): (
        "hero",
        {"tile_layers": (1,), "thumbnail_layers": (1,)},
    ),
    ("hero", "view-specific selection (final ViT layer for all)"): (
        "hero",
        {"tile_layers": (24,), "thumbnail_layers": (24,)},
    ),
    ("ptp", "none"): ("ptp", {}),
    ("ptp", "region"): ("ptp", {"region_rule": "uniform"}),
    ("ptp", "region and b"): ("ptp", {"region_rule": "uniform", "alpha": 1.0}),
    ("ptp", "region and c"): ("ptp", {"region_rule": "uniform", "alpha": 0.0}),
    ("ptp", "all scores"): ("random", {}),
}


def ablation_setting(row: Mapping[str, Any]) -> tuple[str, dict[str, Any], float] | None:
    """(method, parameters that differ from the default, ratio) of a printed ablation row; None where unknown."""
    paper, table, value = row["paper"], row["table"], row["parameter_value"]
    ratio = 0.2 if paper == "hero" else 0.5
    if (paper, value) in _PARTS and row["parameter"] == "removed":
        method, params = _PARTS[paper, value]
        return method, params, ratio
    if (paper, table) == ("hero", "VI"):
        return "hero", {"tile_layers": _span(value), "thumbnail_layers": _span("13-24")}, ratio
    if (paper, table) == ("hero", "VII"):
        return "hero", {"tile_layers": _span("6-10"), "thumbnail_layers": _span(value)}, ratio
    if paper == "ptp" and row["parameter"] == "vit_layer":
        return "ptp", {"vision_layer": int(value) + 1}, ratio
    if paper == "ptp" and row["parameter"] == "alpha":
        return "ptp", {"alpha": float(value)}, ratio
    if paper == "ptp" and row["parameter"] == "instruction_aggregation":
        return "ptp", {"instruction_rule": value}, ratio
    return None
