"""Requests to left-padded tensors: every token and every kind of place stands where it belongs."""

import torch

from hero_ray.models.base import Prompt, Request
from hero_ray.models.batch import own_parts, shared_parts, whole_prompts

TABLE = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
REQUESTS = [
    Request(Prompt((1, 5, 6), (10, 11, 12, 13), (1, 3)), torch.full((4, 8), 9.0), 1),
    Request(Prompt((), (14,), (0, 1)), torch.full((2, 8), 7.0), 1),
    Request(Prompt((1,), (15, 16), (0, 0)), torch.full((6, 8), 5.0), 1),
]


def embed(ids):
    return TABLE[ids]


def check(batch, parts):
    """`parts`: per row prefix, picture or None, suffix and instruction span."""
    width = max(len(prefix) + (0 if v is None else len(v)) + len(suffix) for prefix, v, suffix, _ in parts)
    assert batch.embeds.shape == (len(parts), width, 8)
    for row, (prefix, visual, suffix, (first, last)) in enumerate(parts):
        seen = torch.empty(0, 8) if visual is None else visual
        length = len(prefix) + len(seen) + len(suffix)
        start = width - length
        expected = torch.cat([embed(list(prefix)), seen, embed(list(suffix))])
        assert torch.equal(batch.embeds[row, start:], expected)
        text = width - len(suffix)
        kinds = {
            "valid": range(start, width),
            "visual": range(start + len(prefix), text),
            "after_image": range(text, width),
            "instruction": range(text + first, text + last),
        }
        for name, places in kinds.items():
            assert getattr(batch, name)[row].nonzero()[:, 0].tolist() == list(places), name
        assert batch.lengths[row] == length
        assert batch.num_visual[row] == len(seen)


def test_whole_prompts_and_both_of_their_parts():
    prompts = [request.prompt for request in REQUESTS]
    asked = list(zip(prompts, [request.visual for request in REQUESTS], strict=True))
    check(whole_prompts(REQUESTS, embed), [(p.prefix, v, p.suffix, p.instruction) for p, v in asked])
    check(shared_parts(REQUESTS, embed), [(p.prefix, v, (), (0, 0)) for p, v in asked])
    check(own_parts(REQUESTS, embed), [((), None, p.suffix, p.instruction) for p in prompts])
