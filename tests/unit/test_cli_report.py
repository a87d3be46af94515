"""Where a report goes may be said with or without the option's name."""

from __future__ import annotations

import pytest

from hero_ray.cli import main


@pytest.mark.parametrize("words", [["r.pdf"], ["--output", "r.pdf"]], ids=["place", "name"])
def test_both_ways_name_the_file(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["report", *words])
    assert "report file r.pdf ends in '.pdf'; expected .html or .md" in capsys.readouterr().err
