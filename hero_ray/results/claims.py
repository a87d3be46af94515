"""Claims about a run that can be checked: `hero@20% >= 98% of full on pope`.

Grammar: CONTENDER OP TARGET on WHERE
  CONTENDER  METHOD[:KEY=VALUE,...][@BUDGET], as everywhere
  OP         >= > <= <
  TARGET     [SHARE% of] CONTENDER [+|- POINTS], or a bare number of points
  WHERE      benchmarks with commas between them, or `all` (it must hold on each), or `average` (of share kept)
Points are hundredths of the metric's scale. A claim holds when its opposite is rejected at 5 %, fails when the claim
itself is; otherwise the samples do not decide it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from hero_ray import stats
from hero_ray.core.errors import ClaimError
from hero_ray.results.contenders import Contender, Results, parse_contender
from hero_ray.results.names import FULL
from hero_ray.results.needs import Forecast, about
from hero_ray.results.pairs import AnyPart
from hero_ray.results.sides import WAYS, Sides, agreed, judged, sides
from hero_ray.stats.verdicts import OneSided

EXAMPLE = "hero@20% >= 98% of full on pope"
ALPHA = 0.05
_OPERATORS = {">=": 1.0, ">": 1.0, "≥": 1.0, "<=": -1.0, "<": -1.0, "≤": -1.0}
_NUMBER = r"\d+(?:\.\d+)?"


@dataclass(frozen=True)
class Claim:
    """`sign * (left - share * right - offset) >= 0`; offset as a share of the metric's scale."""

    text: str
    left: Contender
    sign: float
    strict: bool
    share: float
    right: Contender | None
    offset: float
    where: tuple[str, ...] | str


def parse_claim(text: str) -> Claim:
    """Read a claim.

    Raises:
        ClaimError: what is missing, and where.
    """
    for wrong, meant in (("=>", ">="), ("=<", "<="), ("==", "two claims, >= and <=")):
        if wrong in text:
            raise ClaimError(f"claim {text!r} has {wrong!r}; write {meant}, for example: {EXAMPLE}")
    body, on, where = _cut(text.strip(), r"\s+on\s+")
    if not re.search(r">|<|≥|≤", text):
        raise ClaimError(f"claim {text!r} has no >=, >, <= or <, so it claims nothing; for example: {EXAMPLE}")
    if not on:
        raise ClaimError(f"claim {text!r} does not say where; end it with `on BENCHMARK`, for example: {EXAMPLE}")
    left, operator, target = _cut(body, r">=|<=|≥|≤|>|<")
    if not operator:
        raise ClaimError(f"claim {text!r} has no >=, >, <= or < before `on`; for example: {EXAMPLE}")
    left = left.strip()
    if not left or " " in left:
        raise ClaimError(f"expected one contender before {operator}, got {left!r}; for example: {EXAMPLE}")
    share, right, offset = _target(target.strip(), text)
    return Claim(
        text=text.strip(),
        left=parse_contender(left),
        sign=_OPERATORS[operator],
        strict=operator in "<>",
        share=share,
        right=right,
        offset=offset,
        where=_where(where, text),
    )


def _cut(text: str, pattern: str) -> tuple[str, str, str]:
    found = re.search(pattern, text)
    return (text, "", "") if found is None else (text[: found.start()], found[0].strip(), text[found.end() :])


def _target(text: str, claim: str) -> tuple[float, Contender | None, float]:
    if found := re.fullmatch(rf"({_NUMBER})", text):
        return 0.0, None, float(found[1]) / 100
    found = re.fullmatch(rf"(?:({_NUMBER})\s*%\s+of\s+)?(\S+)(?:\s+([+-])\s*({_NUMBER}))?", text)
    if found is None or found[2][0].isdigit() or found[2] == "of":
        raise ClaimError(
            f"cannot read {text!r} in claim {claim!r}; "
            "expected `full`, `98% of full`, `full - 1.0` or a number of points"
        )
    share = float(found[1]) / 100 if found[1] else 1.0
    offset = float(f"{found[3]}{found[4]}") / 100 if found[3] else 0.0
    return share, parse_contender(found[2]), offset


def _where(text: str, claim: str) -> tuple[str, ...] | str:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names) or any(" " in name for name in names):
        raise ClaimError(f"cannot read the benchmarks {text!r} in claim {claim!r}; separate names with commas")
    return names[0] if names in (("all",), ("average",)) else names


@dataclass(frozen=True)
class Finding:
    """A claim on one benchmark (or on the average).

    Attributes:
        left, right: the two figures, as shares of the metric's scale (of full tokens for the average).
        result: test of `left - share * right - offset`, signed so that the claim is `>= 0`.
        verdict: `holds`, `fails` or `undecided`, with the reason where missing answers leave it so.
        missing: answers that were asked for and are not there, on the left and on the right.
        seen: what an undecided claim rests on, in words.
        more: pictures that would decide an undecided claim on one benchmark, if all goes on as seen.
    """

    where: str
    left: float
    right: float | None
    result: OneSided
    verdict: str
    missing: tuple[int, int] = (0, 0)
    seen: str = ""
    more: Forecast | None = None

    @property
    def outlook(self) -> str:
        """What more pictures would show, in words; "" where nothing is open or nothing can be said."""
        if self.more is None or self.more.alone is None:
            return ""
        shown = "fails" if self.result.value < 0 else "holds"
        return f"{about(self.more.alone)} pictures like these would show that it {shown}, if {self.more.granted}"


def verdict(result: OneSided, strict: bool = False, alpha: float = ALPHA) -> str:
    """`holds`, `fails` or `undecided`; cells that answered alike never show a strict claim."""
    if result.p_claim < alpha and not (strict and result.value <= 0):
        return "holds"
    return "fails" if result.p_against < alpha else "undecided"


def check(results: Results, claim: Claim, missing: str = "") -> list[Finding]:
    """Test a claim wherever it applies. On several benchmarks it must hold on each, so nothing is corrected for.

    Args:
        missing: `drop` leaves samples out that one side did not answer, `wrong` counts them wrong. Otherwise a verdict
            that changes when they are wrong, on either side or both, is undecided.
    """
    if claim.where == "average":
        return [_average(results, claim, missing)]
    names = results.benchmarks if claim.where == "all" else claim.where
    return [replace(_on(results, claim, results.held(name), missing), where=name) for name in names]


def overall(findings: list[Finding]) -> str:
    """The worst verdict: one failure fails a claim, one undecided benchmark leaves it undecided."""
    verdicts = {finding.verdict.partition(":")[0] for finding in findings}
    return next(word for word in ("fails", "undecided", "holds") if word in verdicts)


def _on(results: Results, claim: Claim, name: str, missing: str) -> Finding:
    cells = results.find(claim.left, name)
    rivals = results.find(claim.right, name) if claim.right is not None else [results.fullest(name)]
    found = sides(results, cells, rivals, drop=missing == "drop")
    gap = (claim.sign, claim.share, claim.offset)

    def judge(result: OneSided) -> str:
        return verdict(result, claim.strict)

    if missing == "wrong":
        result = found.gap(*gap, wrong=(True, True))
        final = judge(result)
    else:
        result, final = judged(found, judge, missing == "drop", *gap)
    left, right = found.figures
    shown = right if claim.right is not None else None
    if claim.right is None or not final.startswith("undecided"):
        return Finding(name, left, shown, result, final, found.missing, _empty(claim, right))
    # More pictures help where it is these that do not decide, not the answers that are missing.
    more = found.needed((1 - claim.share) * right - claim.offset) if final == "undecided" else None
    seen = "; ".join(filter(None, (_empty(claim, right), _seen(found, claim, result))))
    return Finding(name, left, shown, result, final, found.missing, seen, more)


def _empty(claim: Claim, right: float) -> str:
    """What to know of a claim that no answers could fail: that a loss stays below a score that is itself no larger."""
    if claim.right is None or claim.sign < 0 or claim.share * right + claim.offset > 0:
        return ""
    return f"{claim.right.text} itself scores {100 * right:.1f} there, so any answers would hold this"


def _seen(found: Sides, claim: Claim, result: OneSided) -> str:
    """What the pictures say where they decide nothing: for claims that a loss stays small, how large it may be."""
    if claim.sign < 0 or claim.share != 1 or result.low is None:
        return ""
    return found.seen(-(result.low + claim.offset))


def _average(results: Results, claim: Claim, missing: str) -> Finding:
    """The claim on retention averages: each contender's mean share of the unpruned score."""
    full = parse_contender(FULL)
    target = claim.right or full
    pairs: dict[str, tuple[Sides, Sides]] = {}
    for name in results.benchmarks:
        base = results.find(full, name)
        left, right = (
            sides(results, results.find(side, name), base, drop=missing == "drop") for side in (claim.left, target)
        )
        if left.part(WAYS[0]) is not None and right.part(WAYS[0]) is not None:
            pairs[name] = left, right
    absent = tuple(sum(pair[side].missing[0] for pair in pairs.values()) for side in (0, 1))

    def parts(side: int, wrong: tuple[bool, bool]) -> dict[str, AnyPart]:
        """One contender beside the unpruned model, whose own missing answers count only where it is the target."""
        counted = (wrong[side], wrong[1] and target == full)
        found = {name: pair[side].part(counted) for name, pair in pairs.items()}
        return {name: part for name, part in found.items() if part is not None}

    def test(wrong: tuple[bool, bool]) -> OneSided:
        mine, theirs = parts(0, wrong), parts(1, wrong)
        return stats.retention_difference(mine, theirs, claim.share, offset=claim.offset, sign=claim.sign)

    ways = [(True, True)] if missing == "wrong" else WAYS if any(absent) and missing != "drop" else WAYS[:1]
    tests = [test(wrong) for wrong in ways]
    left_share, right_share = (stats.retention_average(parts(side, ways[0])).value for side in (0, 1))
    final = agreed(tests, lambda result: verdict(result, claim.strict), sum(absent))
    shown = right_share if claim.right else None
    return Finding("average", left_share, shown, tests[0], final, (absent[0], absent[1]))
