#!/usr/bin/env bash
# Does a Wilson interval hold the rate it is drawn around, when every answer is right or every one wrong?
#
# Expected: statsmodels' proportion_confint(method="wilson") ends at exactly 1.0 when all n answers are right and starts at
#   exactly 0.0 when none is, as its 'beta' and 'agresti_coull' do, or is out for fewer than one n in ten.
# Happens: for about a third of all n its upper end is 0.9999999999999999 or less at n of n, and for a fifth its lower end is a
#   hair above 0 at 0 of n: the interval leaves out the very rate it belongs to. scipy's wilson interval is exact at both ends.
# Versions: statsmodels 0.15.0, scipy 1.17.1. Run on 2026-11-30.
# Matters: a pruned model that keeps every answer, and a benchmark on which a small model scores 0, are daily cells. "low <= rate
#   <= high" is false there, an error bar (high - rate) is negative, and a test "1.0 lies in the interval" fails for n = 7, 9,
#   12, 14, 20 and not for 8, 10, 50 or 100: it depends on how many pictures were asked.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
venv=${FINDINGS_VENV:-$work/venv} # a folder of yours is kept and used again
"${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/pip" install -q --no-compile --disable-pip-version-check statsmodels==0.15.0 scipy==1.17.1 numpy==2.4.6
cd "$work"
"$venv/bin/python" - <<'PY'
from importlib.metadata import version

from scipy.stats import binomtest
from statsmodels.stats.proportion import proportion_confint

print({name: version(name) for name in ("statsmodels", "scipy")})
sizes = range(1, 201)


def by_scipy(right, asked):
    interval = binomtest(right, asked).proportion_ci(method="wilson")
    return interval.low, interval.high


ways = {method: (lambda right, asked, method=method: proportion_confint(right, asked, method=method)) for method in ("wilson", "beta", "agresti_coull")}
ways = {**{f"statsmodels {name}": way for name, way in ways.items()}, "scipy wilson": by_scipy}
left_out = {}
for name, way in ways.items():
    all_right = [asked for asked in sizes if way(asked, asked)[1] < 1]
    none_right = [asked for asked in sizes if way(0, asked)[0] > 0]
    left_out[name] = (all_right, none_right)
    print(f"{name:26} n of n leaves out 1.0 for {len(all_right)} of {len(sizes)} n, 0 of n leaves out 0.0 for {len(none_right)}: n = {all_right[:8]}")
print("7 of 7:", proportion_confint(7, 7, method="wilson"), " 0 of 7:", proportion_confint(0, 7, method="wilson"))

all_right, none_right = left_out.pop("statsmodels wilson")
assert len(all_right) > 40 and len(none_right) > 20, (len(all_right), len(none_right))
assert all(out == ([], []) for out in left_out.values()), left_out
print("as recorded")
PY
