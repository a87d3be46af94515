"""The Gram matrix that diversity methods share, on sizes around its blocks."""

from __future__ import annotations

import pytest
import torch

from hero_ray.methods.similarity import cosines, gram


@pytest.mark.parametrize("shape", [(1, 8), (7, 3), (192, 16), (400, 16), (1001, 4), (3, 500, 8), (2, 2, 301, 4)])
def test_cosines_are_those_of_every_pair(shape: tuple[int, ...]) -> None:
    tokens = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = cosines(tokens)
    unit = torch.nn.functional.normalize(tokens.double(), dim=-1)
    assert torch.allclose(found.double(), unit @ unit.mT, atol=1e-5)
    assert torch.allclose(found, found.mT, atol=1e-5)


def test_zero_tokens_are_like_nothing() -> None:
    tokens = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
    tokens[17] = 0.0
    assert not cosines(tokens)[17].any()


def test_equal_tokens_are_equally_like_all_others() -> None:
    tokens = torch.randn(600, 64, generator=torch.Generator().manual_seed(0))
    tokens[555] = tokens[3]
    others = torch.ones(600, dtype=torch.bool)
    others[[3, 555]] = False
    found = gram(tokens, torch.ones(600))
    assert torch.allclose(found[3, others], found[555, others], atol=1e-5)
