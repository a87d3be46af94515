"""What is made once for many who ask, and that each of them is told of what does not hold."""

import pytest
import torch

from hero_ray.core.errors import NonFiniteScoreError
from hero_ray.core.looks import Looks, once, remembering
from hero_ray.methods.kit.scores import finite, keep_top, leading, ranks


def test_a_value_is_made_once_where_it_is_remembered():
    made = []

    def make():
        made.append(len(made))
        return made[-1]

    assert [once("key", make), once("key", make)] == [0, 1]
    with remembering():
        assert [once("key", make), once("other", make), once("key", make)] == [2, 3, 2]
    with remembering():
        assert once("key", make) == 4
    assert once("key", make) == 5


def test_everyone_who_asks_is_told_of_scores_that_are_not_finite():
    scores = torch.tensor([1.0, float("nan")])
    with remembering():
        for _ in range(2):
            with pytest.raises(NonFiniteScoreError):
                once("scores", lambda: finite(scores, "hero", "scores"))
            looks = Looks()
            with looks.shared():
                once("waiting", lambda: finite(scores, "hero", "scores"))
            assert len(looks.pending) == 1
            with pytest.raises(NonFiniteScoreError):
                looks.fetch()


def test_leading_tokens_are_those_that_keep_top_keeps():
    scores = torch.tensor([[0.5, 0.5, 0.9, 0.1], [3.0, 2.0, 1.0, 0.0]])
    valid = torch.tensor([[True, True, False, True], [True, False, True, True]])
    places = ranks(scores, valid)
    for counts in ([0, 0], [1, 2], [2, 1], [4, 4]):
        kept = leading(places, counts, valid)
        assert torch.equal(kept, keep_top(scores, counts, valid))
        assert kept.sum(1).tolist() == [min(count, 3) for count in counts]
    assert leading(places, [1, 1], valid).nonzero().tolist() == [[0, 0], [1, 0]]
