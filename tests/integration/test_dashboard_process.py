"""`hero-ray dashboard` is one process: whoever ends it leaves nothing behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from hero_ray.store import open_store
from tests.machine import free_port, wait_until_answers


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_dashboard_is_gone_with_all_it_started(tmp_path: Path, stop: signal.Signals) -> None:
    url = f"sqlite:///{tmp_path / 'results.db'}"
    open_store(url).close()
    port = free_port()
    command = [sys.executable, "-m", "hero_ray", "dashboard", "--db", url, "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as served:
        try:
            wait_until_answers(f"http://127.0.0.1:{port}/_stcore/health", served)
            children = psutil.Process(served.pid).children(recursive=True)
            served.send_signal(stop)
            assert served.wait(20) in (0, -stop)
            assert psutil.wait_procs(children, timeout=20)[1] == []
        finally:
            served.kill()
