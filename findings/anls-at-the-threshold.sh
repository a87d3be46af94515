#!/usr/bin/env bash
# DocVQA's ANLS where half of the letters are wrong: two packages, one name, 0 or 0.5 points.
#
# Expected: `anls` and `anls-star`, given one predicted text and its references, return the same ANLS.
# Happens: they part exactly at the threshold. The metric's definition gives 1 - NL where NL < 0.5 and 0 elsewhere, so an
#   answer with NL = 0.5 earns nothing; `anls` keeps to it, `anls-star` (and harnesses that compare "similarity < 0.5")
#   gives half a point. Off the threshold the two agree. Short answers hit NL = 0.5 all the time: "12" for "12.0",
#   "2019" read as "2091"... every two- or four-sign number or code of which one half is lost.
# Versions: anls 0.0.2, anls-star 1.0.1. Run on 2026-11-30.
# Matters: what pruned tokens lose first on documents are single digits, which is where the packages part: the same
#   answers, scored with one or the other, give another gap between pruned and unpruned model.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
venv=${FINDINGS_VENV:-$work/venv} # a folder of yours is kept and used again
"${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/pip" install -q --no-compile --disable-pip-version-check anls==0.0.2 anls-star==1.0.1
cd "$work"
"$venv/bin/python" - <<'PY'
import random
from importlib.metadata import version

from anls import anls_score
from anls_star import anls_score as anls_star_score

print(f"anls {version('anls')}, anls-star {version('anls-star')}")


def both(answer, references):
    return anls_score(prediction=answer, gold_labels=references, threshold=0.5), anls_star_score(tuple(references), answer)


cases = [("12", "12.0"), ("2091", "2019"), ("A4", "A7"), ("abcd", "abef"), ("$ 5", "$ 50"), ("hello", "hallo")]
for answer, truth in cases:
    print(f"{answer!r:8} for {truth!r:8} anls {both(answer, [truth])[0]:.2f}  anls-star {both(answer, [truth])[1]:.2f}")

draw = random.Random(0)
pages, totals, part = 4000, [0.0, 0.0], {}
for _ in range(pages):  # four-digit years and amounts, each digit misread with probability 0.25
    truth = "".join(draw.choice("0123456789") for _ in range(4))
    answer = "".join(draw.choice("0123456789") if draw.random() < 0.25 else digit for digit in truth)
    scores = both(answer, [truth])
    totals = [total + score for total, score in zip(totals, scores)]
    if abs(scores[0] - scores[1]) > 1e-12:
        part[scores] = part.get(scores, 0) + 1
means = [100 * total / pages for total in totals]
print(f"{pages} four-digit answers, a quarter of the digits misread: ANLS {means[0]:.2f} (anls), {means[1]:.2f} (anls-star); where they part: {part}")

assert both("12", ["12.0"]) == (0.0, 0.5) and both("2091", ["2019"]) == (0.0, 0.5)
assert set(part) == {(0.0, 0.5)}, part
assert means[1] - means[0] > 5, means
print("as recorded")
PY
