"""Yes or no? How each harness reads it out of an answer, and the detection figures POPE is reported by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hero_ray.benchmarks.vqa_text import stage_p_vlmevalkit


def first_four(text: str, one_letter: bool = True) -> str:
    """MME's reader: `yes`, `no` or `other` from the first four characters, full stops deleted.

    `not`, `none` and `noodle` therefore mean no. `one_letter`: whether `y` and `n` count (HiRED's copy: no).
    """
    plain = text.lower().strip().replace(".", "")
    if plain in ("yes", "no"):
        return plain
    if len(plain) == 1:
        return {"y": "yes", "n": "no"}.get(plain, "other") if one_letter else "other"
    start = plain[:4]
    return "yes" if "yes" in start else "no" if "no" in start else "other"


def by_words(text: str) -> str:
    """VLMEvalKit's reader: exactly one of the words yes and no occurs, else `other`."""
    words = stage_p_vlmevalkit(text.lower()).split()
    yes, no = "yes" in words, "no" in words
    return "yes" if yes and not no else "no" if no and not yes else "other"


def first_sentence(text: str) -> str:
    """LLaVA's and InternVL's POPE reader: `no` if No, not or no stands before the first stop, else `yes`."""
    words = text.split(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "not", "no"} & set(words) else "yes"


@dataclass(frozen=True)
class Detection:
    """Counts of a yes/no benchmark with yes as the positive class, and the figures made of them."""

    accuracy: float
    precision: float
    recall: float
    f1: float


def detection(pairs: Sequence[tuple[str, str]], unknown_is_no: bool = False) -> Detection:
    """Figures from (predicted, gold) pairs; zero denominators give 0.

    Predictions other than `yes` and `no` lower the accuracy but, unless `unknown_is_no`, count in neither precision nor
    recall (lmms-eval).
    """
    positive = sum(guess == "yes" == gold for guess, gold in pairs)
    false_alarms = sum(guess == "yes" != gold for guess, gold in pairs)
    missed = sum(gold == "yes" and (guess == "no" or (unknown_is_no and guess != "yes")) for guess, gold in pairs)
    precision = positive / (positive + false_alarms) if positive + false_alarms else 0.0
    recall = positive / (positive + missed) if positive + missed else 0.0
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    right = sum(guess == gold for guess, gold in pairs)
    return Detection(right / len(pairs) if pairs else 0.0, precision, recall, f1)
