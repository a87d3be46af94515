"""The kit for methods inside the LLM finds what breaks a promise, and random cases of every method break none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from hero_ray.core.encoded import Budget, Needs
from hero_ray.core.errors import SelectionError
from hero_ray.methods import create, get, names
from hero_ray.methods.base import LayerPruner, LayerState, Method, Survivors
from hero_ray.methods.kit.boundaries import DrawnState, check_pruner
from hero_ray.methods.kit.conformance import CLIP, llava_layout, random_encoded, single_layout
from perf.method_cases import case

PICTURES = [random_encoded(single_layout((2, 3)), Needs(), seed=seed) for seed in range(2)]
Answer = Callable[[LayerState], Survivors | None]


def pruned(answer: Answer) -> Method:
    """A method whose pruner answers so at block 2."""

    class Answering(LayerPruner):
        def before(self, state: LayerState) -> Survivors | None:
            return answer(state) if state.layer == 2 else None

    @dataclass(frozen=True)
    class Broken(Method):
        name: ClassVar[str] = "broken"
        stage: ClassVar = "in-llm"

        def pruner(self, budget: Budget) -> LayerPruner:
            return Answering()

    return Broken()


def half(state: LayerState) -> Tensor:
    keep = state.valid.clone()
    keep[:, ::2] &= ~state.visual[:, ::2]
    return keep


def merged(state: LayerState, count: int, width: int = 8) -> Tensor:
    return torch.zeros(len(state.valid), count, width)


def test_a_good_pruner_keeps_its_promises() -> None:
    alive = check_pruner(pruned(lambda state: Survivors(half(state))), PICTURES, 0.5, depth=3)
    assert alive == [[6, 6], [3, 3], [3, 3]]
    assert check_pruner(pruned(lambda state: None), PICTURES, 0.5, depth=2) == [[6, 6], [6, 6]]
    alive = check_pruner(pruned(lambda state: Survivors(half(state), merged(state, 1))), PICTURES, 0.5, depth=3)
    assert alive[1] == [4, 4]


@pytest.mark.parametrize(
    ("answer", "promise"),
    [
        (lambda state: Survivors(half(state)[:, 1:]), "survivors are bool"),
        (lambda state: Survivors(half(state).long()), "survivors are bool"),
        (lambda state: Survivors(torch.ones_like(state.valid)), "padding does not survive"),
        (lambda state: Survivors(state.visual.clone()), "text survives"),
        (lambda state: Survivors(half(state), merged(state, 1, width=3)), "as wide as others"),
        (lambda state: Survivors(half(state), merged(state, 9)), "no row grows"),
        (lambda state: Survivors(half(state), merged(state, 1), everywhere=True), "dropped at once"),
    ],
    ids=["shape", "dtype", "padding", "text", "width", "growth", "everywhere"],
)
def test_broken_promises_are_named(answer: Answer, promise: str) -> None:
    with pytest.raises(SelectionError, match=f"broken .* breaks a promise: .*{promise}"):
        check_pruner(pruned(answer), PICTURES, 0.5)


def test_what_a_pruner_is_shown_stays_as_it_is() -> None:
    class Scribbler(LayerPruner):
        def after(self, state: LayerState) -> None:
            state.hidden.zero_()

    class Scribbling(type(pruned(lambda state: None))):  # type: ignore[misc]
        def pruner(self, budget: Budget) -> LayerPruner:
            return Scribbler()

    with pytest.raises(SelectionError, match="stays as it is"):
        check_pruner(Scribbling(), PICTURES, 0.5)


def test_a_drawn_state_is_the_same_twice_and_attends_to_the_past() -> None:
    first, again = (DrawnState(3, 8, [5, 2], torch.tensor([5, 9]), seed=4) for _ in range(2))
    queries = torch.tensor([[9, 14], [9, 14]])
    rows = first.attention_rows(queries)
    assert torch.equal(rows, again.attention_rows(queries))
    assert rows.shape == (2, 2, 2, 15)
    torch.testing.assert_close(rows.sum(-1), torch.ones(2, 2, 2))
    assert not rows[:, :, 0, 10:].any()
    assert not rows[0, :, :, 0].any(), "the shorter row is padded"
    assert torch.equal(first.rope_bias(queries).argmax(-1), queries)


@pytest.mark.parametrize("name", [name for name in names() if get(name).stage == "in-llm"])
def test_every_method_inside_the_llm_keeps_its_promises(name: str) -> None:
    for variant in get(name).variants:
        method = create(name, variant=variant)
        layouts = (llava_layout((1, 2), (4, 4), rows=slice(1, 3)), single_layout((4, 4)))
        made = [random_encoded(layout, method.needs(CLIP)) for layout in layouts]
        for depth in (2, 4, 32):
            left = check_pruner(method, made, 0.3, depth)[-1]
            assert all(count < len(layout.sequence) for count, layout in zip(left, layouts, strict=True))


@pytest.mark.slow
def test_random_cases_of_every_method_break_nothing() -> None:
    chosen = [(name, variant) for name in names() if name != "full" for variant in get(name).variants]
    for number in range(1000):
        case(number, chosen)


def test_a_case_that_fails_is_named() -> None:
    words = case(5, [("hero", "exact")])
    assert words.startswith("case 5: hero:exact grid")
    assert words == case(5, [("hero", "exact")])
    with pytest.raises(RuntimeError, match="case 5: nobody:exact"):
        case(5, [("nobody", "exact")])
