"""What a replica raises while it answers comes out of Ray Data as it was raised: its kind, its words, nothing added."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hero_ray.core.errors import CheckpointError, ReplicaError
from hero_ray.pipeline.run import run
from hero_ray.store import open_store
from perf.sleeping import SleepingModel
from tests.integration.sweeps import small_plan

RAISED: dict[str, Exception] = {
    "ours": CheckpointError("weights.safetensors: 3 tensors are missing"),
    "theirs": ZeroDivisionError("division\nby zero"),
    "theirs without words": KeyError(7),
}


class Raising(SleepingModel):
    """Answers, and then raises where no single answer is to blame."""

    def __init__(self, what: str, **options: Any) -> None:
        super().__init__(**options)
        self._what = what

    def generate(self, *given: Any, **named: Any) -> Any:
        what = self._what

        class Gone:
            def __getattr__(self, name: str) -> Any:
                raise RAISED[what]

        self.info = Gone()  # type: ignore[assignment]
        return super().generate(*given, **named)


def load(name: str, **options: Any) -> Raising:
    """The loader that workers use."""
    return Raising(**options)


@pytest.mark.ray
@pytest.mark.parametrize(
    ("what", "kind", "words"),
    [
        ("ours", CheckpointError, "weights.safetensors: 3 tensors are missing"),
        ("theirs", ReplicaError, "a replica failed: ZeroDivisionError: division by zero"),
        ("theirs without words", ReplicaError, "a replica failed: KeyError: 7"),
    ],
)
def test_an_error_of_a_replica_is_told_as_it_was_raised(
    local_ray: None, tmp_path: Path, what: str, kind: type[Exception], words: str
) -> None:
    plan = small_plan(num_images=1, model_args={"what": what})
    with open_store(f"sqlite:///{tmp_path / 'results.db'}") as store, pytest.raises(kind) as raised:
        run(plan, store, loader="tests.integration.test_sweep_replica_errors:load")
    assert str(raised.value) == words
