"""The interpreter that has a real vLLM, and what marks the tests that need it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.machine import wait_until_answers

PYTHON = os.environ.get("HERO_RAY_VLLM_PYTHON", "")
MARKS = [
    pytest.mark.vllm,
    pytest.mark.skipif(
        not PYTHON, reason="vLLM IS NOT TESTED: HERO_RAY_VLLM_PYTHON names no interpreter that has it (make test-vllm)"
    ),
    pytest.mark.timeout(1800),
]
READY_S = 1500.0
"""A start took 168 s on a machine at load 20."""
QUIETLY = {
    "PYTHONPATH": str(Path(__file__).with_name("no_torchvision")),
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}


@contextmanager
def serving(folder: Path, name: str, port: int, said: Path) -> Iterator[str]:
    """vLLM's own OpenAI server over a folder, in fp32 on loopback; its base address, up to `/v1`.

    Args:
        name: of the model there. said: file for all that it writes.
    """
    options = {"--served-model-name": name, "--dtype": "float32", "--host": "127.0.0.1", "--port": str(port)}
    options |= {"--block-size": "32", "--max-model-len": "1024", "--max-num-seqs": "16"}
    # not `vllm serve`, which asks for the version of a distribution called vllm: on a CPU it is called vllm-cpu
    command = [PYTHON, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder), "--enforce-eager"]
    command += [part for option in options.items() for part in option]
    with said.open("w") as log, subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | QUIETLY) as server:
        try:
            wait_until_answers(f"http://127.0.0.1:{port}/health", server, READY_S, lambda: said.read_text()[-3000:])
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()
            try:
                server.wait(60)
            except subprocess.TimeoutExpired:
                server.kill()
