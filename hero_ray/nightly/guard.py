"""Compare a night with the good nights before it, cell by cell. Pure: nights in, findings out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hero_ray import stats
from hero_ray.nightly.change import least_drop, more_failures, score_drop, slowdown
from hero_ray.nightly.records import (
    MIN_SPEED_NIGHTS,
    SPEEDS,
    CellNight,
    GuardSettings,
    Night,
    NightVerdict,
    Speed,
    Suspicion,
)
from hero_ray.nightly.what_changed import panel_changed, what_changed
from hero_ray.stats.intervals import t_quantile

Rerun = Callable[[Sequence[Suspicion]], Night | None]


def judge(
    night: str, tonight: Night, past: Sequence[Night], settings: GuardSettings, rerun: Rerun = lambda findings: None
) -> NightVerdict:
    """The verdict on a night.

    Args:
        night: its date.
        tonight: the completed run.
        past: good nights, newest first; at most `settings.window` are used.
        rerun: repeats the cells of some findings and gives back what came out, or None if it cannot.
    """
    window = list(past[: settings.window])
    base = NightVerdict(
        tonight.run_id, night, "first", n_cells=len(tonight.cells), compared_with=[n.run_id for n in window]
    )
    if not window:
        missing = [finding for label in tonight.cells for finding in _incomplete(tonight.cells[label])]
        state = "regression" if missing else "first"
        return replace(base, state=state, alarms=tuple(missing), notes=("no good night to compare with yet",))
    suspects, notes, looks = suspicions(tonight, window, settings)
    alarms, silenced = _settle(suspects, window, settings, rerun)
    return replace(
        base,
        state="regression" if alarms else "ok",
        alarms=tuple(alarms),
        silenced=tuple(silenced),
        notes=tuple(notes),
        changed=what_changed(window[0], tonight),
        looks=looks,
    )


def suspicions(
    tonight: Night, window: Sequence[Night], settings: GuardSettings
) -> tuple[list[Suspicion], list[str], tuple[Suspicion, ...]]:
    """Everything that looks worse, corrected for the number of looks; remarks on what could not be compared; and the
    quality of every cell that was compared."""
    level = settings.suspicion / max(1, 2 * len(tonight.cells))  # quality and failures of each cell, one that moves
    answers = [
        finding
        for label in sorted(tonight.cells)
        for finding in _answers(tonight.cells[label], window, settings, level)
    ]
    times, notes = _times(tonight, window, settings)
    found = _missing(tonight, window, notes)
    for family in (answers, times):
        if family:
            adjusted = stats.benjamini_hochberg([finding.p for finding in family])
            corrected = [replace(f, p_adjusted=float(p)) for f, p in zip(family, adjusted, strict=True)]
            found += [finding for finding in corrected if finding.p_adjusted <= settings.suspicion]
    return found, notes, tuple(finding for finding in answers if finding.kind == "quality")


def _settle(
    suspects: Sequence[Suspicion], window: Sequence[Night], settings: GuardSettings, rerun: Rerun
) -> tuple[list[Suspicion], list[Suspicion]]:
    """Repeat the suspects' cells once: what does not show again was a flake.

    Without a repetition only findings that are beyond doubt by themselves stay.
    """
    again = rerun(suspects) if suspects else None
    if again is None:
        sure = [suspect for suspect in suspects if suspect.p_adjusted <= settings.alone]
        return sure, [suspect for suspect in suspects if suspect not in sure]
    alarms: list[Suspicion] = []
    silenced: list[Suspicion] = []
    for suspect in suspects:
        (alarms if _confirmed(suspect, again, window, settings) else silenced).append(suspect)
    return alarms, silenced


def _confirmed(suspect: Suspicion, again: Night, window: Sequence[Night], settings: GuardSettings) -> bool:
    if suspect.kind == "speed":
        if suspect.label not in again.speeds:
            return True
        found, _ = _times(again, window, settings)
    else:
        if suspect.label not in again.cells:
            return True
        cell = again.cells[suspect.label]
        found = _incomplete(cell) + _answers(cell, window, settings)
    same = [f for f in found if (f.kind, f.label, f.figure) == (suspect.kind, suspect.label, suspect.figure)]
    return any(f.p <= settings.confirmation for f in same)


def _answers(cell: CellNight, window: Sequence[Night], settings: GuardSettings, level: float = 0.05) -> list[Suspicion]:
    """Quality and failures of a cell against the nights that hold it."""
    past = [night.cells[cell.label] for night in window if cell.label in night.cells]
    if not past:
        return []
    found = []
    aligned = align(cell, past)
    if aligned is not None:
        scores, history, clusters = aligned
        change, error, p = score_drop(scores, history, clusters, settings.min_drop / 100 * cell.scale)
        points = 100 / cell.scale
        least = least_drop(scores - np.nanmean(history, axis=0), clusters, level, cell.scale)
        before = points * float(np.nanmean(np.nanmean(history, axis=0)))
        seen = None if least is None else max(settings.min_drop, points * least)
        half = t_quantile(0.975, max(1, len(np.unique(clusters)) - 1)) * error
        found.append(
            Suspicion(
                "quality",
                cell.label,
                "score",
                before=before,
                after=points * float(scores.mean()),
                change=points * change,
                low=max(points * (change - half), -before),
                high=min(points * (change + half), 100 - before),
                p=p,
                cell_ids=(cell.cell_id,),
                note=f"{int((scores < history[0]).sum())} answers worse and {int((scores > history[0]).sum())} better "
                f"than on the last good night, of {len(scores)}",
                noticeable=None if seen is None or seen > before else seen,
            )
        )
    failed, n = sum(old.n_failed for old in past), sum(old.n_failed + old.n_done for old in past)
    found.append(
        Suspicion(
            "failures",
            cell.label,
            "failed samples",
            before=failed / len(past),
            after=cell.n_failed,
            change=cell.n_failed - failed / len(past),
            p=more_failures(cell.n_failed, cell.n_failed + cell.n_done, failed, n),
            cell_ids=(cell.cell_id,),
        )
    )
    return found


def align(
    cell: CellNight, past: Sequence[CellNight]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]] | None:
    """Tonight's scores [samples], the good nights' [nights, samples] (NaN where absent) and the picture numbers, over
    the samples that tonight shares with at least one good night; None if there are none."""
    order = np.argsort(cell.ids)
    ids = cell.ids[order]
    history = np.full((len(past), len(ids)), np.nan)
    for row, old in enumerate(past):
        if len(ids) == 0 or old.n_done == 0:
            continue
        place = np.minimum(np.searchsorted(ids, old.ids), len(ids) - 1)
        known = ids[place] == old.ids
        history[row, place[known]] = old.scores[known]
    answered = ~np.isnan(history).all(axis=0)
    history = history[~np.isnan(history).all(axis=1)]
    if not answered.any():
        return None
    clusters = np.unique(cell.clusters[order][answered], return_inverse=True)[1]
    return cell.scores[order][answered], history[:, answered], clusters.astype(np.int64)


def _times(tonight: Night, window: Sequence[Night], settings: GuardSettings) -> tuple[list[Suspicion], list[str]]:
    """Speed and memory of every timed (model, method, budget), against certificate-equal nights only."""
    found: list[Suspicion] = []
    unlike: dict[str, int] = {}
    for label, speed in sorted(tonight.speeds.items()):
        timed = [night.speeds[label] for night in window if label in night.speeds]
        past = [old for old in timed if old.certificate == speed.certificate]
        if len(past) < MIN_SPEED_NIGHTS:
            if timed and timed[0].certificate != speed.certificate:
                reason = f"the certificate changed ({_difference(timed[0], speed)})"
            else:
                reason = f"{len(past)} comparable night(s) so far, {MIN_SPEED_NIGHTS} are needed"
            unlike[reason] = unlike.get(reason, 0) + 1
            continue
        found += [finding for figure in SPEEDS if (finding := _time(speed, past, figure, settings)) is not None]
    notes = [f"speed of {count} of {len(tonight.speeds)} not judged: {reason}" for reason, count in unlike.items()]
    return found, notes


def _time(speed: Speed, past: Sequence[Speed], figure: str, settings: GuardSettings) -> Suspicion | None:
    now = speed.figures.get(figure)
    before = np.array([old.figures[figure] for old in past if old.figures.get(figure)], dtype=float)
    if not now or len(before) < MIN_SPEED_NIGHTS:
        return None
    change, low, high, p = slowdown(now, before, settings.min_slowdown)
    mean = float(np.exp(np.log(before).mean()))
    return Suspicion(
        "speed", speed.label, figure, mean, now, 100 * change, 100 * low, 100 * high, p, cell_ids=speed.cell_ids
    )


def _difference(before: Speed, after: Speed) -> str:
    keys = sorted(before.conditions.keys() | after.conditions.keys())
    pairs = [(key, before.conditions.get(key), after.conditions.get(key)) for key in keys]
    shown = [f"{key} {old} -> {new}" for key, old, new in pairs if old != new]
    return ", ".join(shown) or f"{before.certificate} -> {after.certificate}"


def _missing(tonight: Night, window: Sequence[Night], notes: list[str]) -> list[Suspicion]:
    """Cells that the last good night had and tonight lacks, and cells with unanswered samples."""
    found = [finding for label in sorted(tonight.cells) for finding in _incomplete(tonight.cells[label])]
    gone = sorted(window[0].cells.keys() - tonight.cells.keys())
    new = sorted(tonight.cells.keys() - window[0].cells.keys())
    if panel_changed(window[0], tonight):
        notes.append(f"the panel itself was changed: {len(gone)} cells left it, {len(new)} are new")
        return found
    return found + [
        Suspicion("missing", label, "cell", window[0].cells[label].n_expected, 0, -window[0].cells[label].n_expected)
        for label in gone
    ]


def _incomplete(cell: CellNight) -> list[Suspicion]:
    answered = cell.n_done + cell.n_failed
    if answered >= cell.n_expected and cell.n_expected:
        return []
    return [
        Suspicion(
            "missing",
            cell.label,
            "unanswered samples",
            before=cell.n_expected,
            after=answered,
            change=answered - cell.n_expected,
            cell_ids=(cell.cell_id,),
        )
    ]
