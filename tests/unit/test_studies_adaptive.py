"""The study of settings chosen per picture: the pairing, its correction, and what it refuses."""

from __future__ import annotations

from hero_ray.studies.adaptive import COLUMNS, TOGETHER, Answers, compared


def answers(scores: list[float], tokens: int) -> Answers:
    return Answers(scores, [tokens] * len(scores))


def rows(**settings: Answers) -> dict[tuple[str, str], dict[str, object]]:
    count = len(settings["fixed"].scores)
    names = ["easy" if i % 2 else "hard" for i in range(count)]
    images = [f"picture-{i // 2}" for i in range(count)]
    found = compared({"hero": {name.replace("_", " "): value for name, value in settings.items()}}, names, images)
    return {(row[1], row[2]): dict(zip(COLUMNS, row, strict=True)) for row in found}


def test_a_planted_gain_is_found_with_its_cost() -> None:
    fixed, auto = answers([0.0, 1.0] * 40, 100), answers([1.0, 1.0] * 40, 90)
    found = rows(fixed=fixed, alpha_auto=auto)
    assert set(found) == {("alpha auto", name) for name in ("hard", "easy", TOGETHER)}
    hard, easy, both = (found["alpha auto", name] for name in ("hard", "easy", TOGETHER))
    assert (hard["difference"], hard["n"], hard["pictures"], hard["verdict"]) == (1.0, 40, 40, "better")
    assert (easy["difference"], easy["verdict"]) == (0.0, "undecided")
    assert (both["difference"], both["n"], both["pictures"]) == (0.5, 80, 40)
    assert (both["tokens fixed"], both["tokens auto"]) == (100.0, 90.0)


def test_a_planted_loss_is_reported_as_one() -> None:
    found = rows(fixed=answers([1.0] * 80, 100), ratio_auto=answers([0.0, 1.0] * 40, 100))
    assert found["ratio auto", "hard"]["verdict"] == "worse"
    assert found["ratio auto", "hard"]["fixed"] == 1.0
    assert found["ratio auto", "hard"]["auto"] == 0.0


def test_more_comparisons_make_each_harder() -> None:
    fixed = answers([0.0, 0.0] * 20, 100)
    slight = answers([1.0 if i in (0, 4, 8, 12, 16, 20) else 0.0 for i in range(40)], 100)
    alone = rows(fixed=fixed, a=slight)["a", "hard"]
    among = rows(fixed=fixed, a=slight, b=fixed, c=fixed, d=fixed)["a", "hard"]
    assert alone["p"] == among["p"]
    assert among["p (Holm)"] > alone["p (Holm)"]  # type: ignore[operator]
