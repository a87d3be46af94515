"""Answers that are asked the very same are generated once."""

from types import SimpleNamespace

import torch

from hero_ray.engine.batches import AnswerJob, distinct
from hero_ray.models.base import Prompt, Request

SEEN, OTHER = torch.zeros(2, 4), torch.zeros(2, 4)
WORDS = Prompt((1,), (5, 6), (0, 2))


def job(visual=SEEN, prompt=WORDS, limit=4, inside=False):
    pruning = SimpleNamespace(prunes_inside=lambda _: inside)
    return AnswerJob(None, None, SimpleNamespace(pruning=pruning, budget=None), Request(prompt, visual, limit))


def test_the_same_tokens_words_and_limit_are_asked_once():
    batch = [
        job(),
        job(OTHER),
        job(prompt=Prompt((1,), (5, 6), (0, 2))),
        job(limit=5),
        job(prompt=Prompt((1,), (5,), (0, 1))),
        job(OTHER),
    ]
    asked, places = distinct(batch)
    assert [id(one) for one in asked] == [id(one) for one in [batch[0], batch[1], batch[3], batch[4]]]
    assert places == [0, 1, 0, 2, 3, 1]


def test_what_goes_on_choosing_inside_is_asked_by_itself():
    batch = [job(inside=True), job(inside=True)]
    asked, places = distinct(batch)
    assert [id(one) for one in asked] == [id(one) for one in batch]
    assert places == [0, 1]
