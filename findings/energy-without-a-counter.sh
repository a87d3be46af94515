#!/usr/bin/env bash
# What energy does zeus report on a machine whose GPU and processor have no counter it can read?
#
# Expected: an error when the monitor is made, or None for the total as for each of its parts.
# Happens: the monitor is made, the window closes, and nothing is logged. gpu_energy is {}, cpu_energy, dram_energy and soc_energy
#   are None, and total_energy, the sum over the first, is 0: an int, as if a second of work had taken no joule.
# Versions: zeus 0.16.0. Run on 2026-12-01, without a GPU and without readable RAPL counters.
# Matters: joules a token, and savings in per cent, are made of total_energy. Where nothing is counted they come out as 0 (or a
#   division by 0) instead of missing; ask `gpu_energy` first.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
venv=${FINDINGS_VENV:-$work/venv} # a folder of yours is kept and used again
"${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/pip" install -q --no-compile --disable-pip-version-check zeus==0.16.0
cd "$work"
CUDA_VISIBLE_DEVICES="" "$venv/bin/python" - 2>said <<'PY'
import time

from zeus.monitor import ZeusMonitor

monitor = ZeusMonitor()
monitor.begin_window("work")
end = time.perf_counter() + 1.0
while time.perf_counter() < end:
    sum(range(1000))
found = monitor.end_window("work")
parts = (found.cpu_energy, found.dram_energy, found.soc_energy)
if found.gpu_energy or any(part is not None for part in parts):
    raise SystemExit("this machine has a counter; run it on one without")
print(f"{found.time:.1f} s of work: total_energy {found.total_energy!r}, gpu {found.gpu_energy}, cpu, dram, soc {parts}")
assert found.total_energy == 0 and isinstance(found.total_energy, int)
PY
test ! -s said && echo "and nothing was logged"
