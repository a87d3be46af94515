"""One night: run the panel, judge it, repeat what looks worse, keep the verdict."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hero_ray.core.errors import HeroRayError, RunLockedError, StoreError
from hero_ray.nightly import history, report
from hero_ray.nightly.guard import judge
from hero_ray.nightly.records import GuardSettings, Night, NightVerdict, Suspicion
from hero_ray.results import truth
from hero_ray.store import Store, nights

if TYPE_CHECKING:
    from hero_ray.pipeline.facts import Plan
    from hero_ray.pipeline.finished import RunOutcome
    from hero_ray.store.verifications import VerificationRow

Execute = Callable[..., "RunOutcome"]
LEASE_PATIENCE_S = 150.0
"""A driver that died leaves a claim on its run; it runs out after a minute, and the next driver waits for that."""


def run_id(night: str, plan_hash: str) -> str:
    """The same night and the same plan are the same run, whoever starts it and however often."""
    return f"nightly-{night}-{plan_hash[:6]}"


def run_night(
    plan: Plan,
    store: Store,
    night: str,
    *,
    settings: GuardSettings | None = None,
    address: str | None = None,
    execute: Execute | None = None,
    check: Callable[[str], VerificationRow] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[NightVerdict, bool]:
    """Run the panel for one night, or what is missing of it, and judge it.

    Args:
        plan: the resolved panel.
        night: its date, `2026-01-31`.
        execute: runs a plan; `hero_ray.pipeline.run.run` if None.
        check: asks some answers of a run again; none are if None.
        say: told a line per stage.

    Returns:
        The verdict, and whether it is new: a night that was judged before keeps its verdict.

    Raises:
        StoreError: the database cannot be used.
        RunLockedError: another driver works on this night and does not stop. Whatever else ends the run early is a
            verdict (`failed`), which the next call for the same night tries to improve on.
    """
    start = execute or _pipeline()
    identity = run_id(night, plan.hash)
    known = store.read(nights.verdicts, identity).get(identity)
    if known is not None and known["state"] != "failed":
        say(f"night {night} was run and judged before; this is its verdict")
        return report.from_dict(known), False
    say(f"night {night}: run {identity}")
    try:
        outcome = _patiently(
            lambda: start(plan, store, run_id=identity, trigger=nights.NIGHTLY, address=address, say=say), say
        )
        ended = "" if outcome.status == "complete" else f"the run ended as {outcome.status}"
    except (StoreError, RunLockedError):
        raise
    except Exception as error:
        ended = f"{type(error).__name__}: {error}"
    if ended:
        verdict = NightVerdict(identity, night, "failed", notes=(ended,))
    else:
        verdict = _judge(plan, store, night, identity, settings or GuardSettings(), address, start, say)
        if check is not None:
            verdict = _checked(store, verdict, check)
    keep(store, verdict)
    return verdict, True


def _pipeline() -> Execute:
    from hero_ray.pipeline.run import run

    return run


def _patiently(start: Callable[[], RunOutcome], say: Callable[[str], None]) -> RunOutcome:
    deadline = time.monotonic() + LEASE_PATIENCE_S
    while True:
        try:
            return start()
        except RunLockedError as locked:
            if time.monotonic() >= deadline:
                raise
            say(f"{locked}; waiting")
            time.sleep(10)


def _judge(
    plan: Plan,
    store: Store,
    night: str,
    identity: str,
    settings: GuardSettings,
    address: str | None,
    execute: Execute,
    say: Callable[[str], None],
) -> NightVerdict:
    tonight = history.load(store, store.run(identity))
    past = history.good_nights(store, plan.config.name, identity, settings.window)
    say(f"comparing {len(tonight.cells)} cells with {len(past)} good nights")

    def rerun(suspects: Sequence[Suspicion]) -> Night | None:
        return repeat(plan, store, identity, suspects, address, execute, say)

    return judge(night, tonight, past, settings, rerun)


def _checked(store: Store, verdict: NightVerdict, check: Callable[[str], VerificationRow]) -> NightVerdict:
    """The verdict with what a verification of some answers says; one that differs opens an alert."""
    try:
        row = check(verdict.run_id)
    except HeroRayError as error:
        return replace(verdict, notes=(*verdict.notes, f"answers could not be verified: {error}"))
    said = f"verified {row.drawn} of {row.pictures} pictures: {row.verdict}; {'; '.join(row.report['said'])}"
    if row.verdict == truth.DIFFERS:
        details = {"night": verdict.night, "verification": row.id}
        store.add_alert("nightly-verify", f"stored answers differ: {said}", "error", verdict.run_id, None, details)
    return replace(verdict, notes=(*verdict.notes, said))


def repeat(
    plan: Plan,
    store: Store,
    identity: str,
    suspects: Sequence[Suspicion],
    address: str | None,
    execute: Execute,
    say: Callable[[str], None],
) -> Night | None:
    """Run the cells of some findings once more, as a run of their own; None if there is nothing that can be repeated
    or the repetition itself failed (then the first result has to speak alone)."""
    wanted = {cell for suspect in suspects for cell in _cells_of(suspect)}
    cells = tuple(cell for cell in plan.cells if cell.id in wanted)
    if not cells:
        return None
    timed = any(suspect.kind == "speed" for suspect in suspects)
    profile = plan.config.profile.model_copy(update={"enabled": timed and plan.config.profile.enabled})
    smaller: Any = replace(plan, cells=cells, config=plan.config.model_copy(update={"profile": profile}))
    say(f"{len(suspects)} suspicious finding(s): repeating {len(cells)} cell(s)")
    again = f"{identity}-again"
    try:
        outcome = execute(smaller, store, run_id=again, trigger="nightly-again", address=address, say=say)
    except HeroRayError as error:
        say(f"the repetition failed: {error}")
        return None
    return history.load(store, store.run(again), identity) if outcome.status == "complete" else None


def _cells_of(suspect: Suspicion) -> tuple[str, ...]:
    """Cells to repeat: one is enough where several share a timing."""
    return suspect.cell_ids[:1] if suspect.kind == "speed" else suspect.cell_ids


def keep(store: Store, verdict: NightVerdict) -> None:
    """Write the verdict and one open alert per alarm, all or nothing."""
    alarms = [
        {
            "kind": f"nightly-{finding.kind}",
            "severity": "error",
            "cell_id": finding.cell_ids[0] if finding.cell_ids else None,
            "message": report.line(finding),
            "details": {"night": verdict.night, "finding": report.to_dict(verdict)["alarms"][number]},
        }
        for number, finding in enumerate(verdict.alarms)
    ]
    if verdict.state == "failed":
        message = "; ".join(verdict.notes) or "the nightly run failed"
        alarms.append({"kind": "nightly-failed", "severity": "error", "message": message})
    store.transaction(nights.write_verdict, verdict.run_id, report.to_dict(verdict), alarms, report.headline(verdict))


def accept(store: Store, identity: str, reason: str) -> NightVerdict:
    """Declare a night with alarms the new normal: later nights are compared with it too.

    Raises:
        StoreError: nobody judged that run.
    """
    verdict = find_verdict(store, identity)
    accepted = replace(verdict, state="accepted", notes=(*verdict.notes, f"accepted: {reason}"))

    def change(connection: Any) -> None:
        nights.acknowledge(connection, verdict.run_id)
        nights.write_verdict(connection, verdict.run_id, report.to_dict(accepted), [])

    store.transaction(change)
    return accepted


def find_verdict(store: Store, which: str) -> NightVerdict:
    """The verdict on a night by its date, by its run id, or on the latest one.

    Raises:
        StoreError: there is none.
    """
    judged = store.read(nights.verdicts)
    order = [run.id for run in store.read(nights.night_runs) if run.id in judged]
    fitting = [name for name in order if which == "latest" or name.startswith((which, f"nightly-{which}"))]
    if not fitting:
        dates = ", ".join(judged[name]["night"] for name in order[:5]) or "none yet"
        raise StoreError(f"no nightly verdict for {which!r}; judged nights: {dates}")
    return report.from_dict(judged[fitting[0]])
