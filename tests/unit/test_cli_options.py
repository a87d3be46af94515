"""Options shared by the verbs."""

from __future__ import annotations

import pytest

from hero_ray.cli import main
from hero_ray.cli.options import pairs
from hero_ray.core.errors import ConfigError


def test_pairs_are_read_with_their_spaces_taken_off() -> None:
    assert pairs(" dtype = bfloat16,url=a=b ,") == {"dtype": "bfloat16", "url": "a=b"}
    assert pairs(None) == pairs("") == {}


@pytest.mark.parametrize("text", ["max_tiles", "=6", "a=1,b"])
def test_a_part_that_is_no_pair_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match="KEY=VALUE"):
        pairs(text)


def test_a_sweep_refuses_model_arguments_without_a_value(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["sweep", "--model-args", "max_tiles", "--dry-run"])
    assert stop.value.code == 2
    assert "'max_tiles' is not KEY=VALUE" in capsys.readouterr().err
