"""What diversity and merging methods compute fast, against the definitions, on sizes around the blocks and on ties."""

from __future__ import annotations

import pytest
import torch

from hero_ray.methods.cdpruner import greedy_map
from hero_ray.methods.divprune import max_min
from hero_ray.methods.kit.merging import Views, bag_sums, blank, by_group, group_sums, merge
from hero_ray.methods.kit.similarity import cosines, determinant_map, factored_map, gram
from hero_ray.methods.otprune import transport_factors
from tests.pretended import down, pretended, up


@pytest.mark.parametrize(
    "shape", [(0, 8), (1, 8), (7, 3), (192, 16), (400, 16), (1001, 4), (3, 500, 8), (2, 2, 301, 4)]
)
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
    found = gram(tokens)
    assert torch.allclose(found[3, others], found[555, others], atol=1e-5)


def hypercube(count: int, kinds: int, seed: int) -> torch.Tensor:
    """Tokens of few kinds with exact cosines: corners of a cube, all of length 4, most of them many times over."""
    draw = torch.Generator().manual_seed(seed)
    corners = torch.randint(0, 2, (kinds, 16), generator=draw).float() * 2 - 1
    return corners[torch.randint(0, kinds, (count,), generator=draw)]


@pytest.mark.parametrize("count", [2, 70, 193, 400, 769])
@pytest.mark.parametrize("kinds", [1, 5, 200])
def test_cosines_of_exact_tokens_are_exact(count: int, kinds: int) -> None:
    tokens = hypercube(count, kinds, seed=count)
    assert torch.equal(cosines(tokens), tokens @ tokens.T / 16)


@pytest.mark.parametrize("count", [2, 70, 400, 769])
@pytest.mark.parametrize("kinds", [1, 5, 200])
def test_max_min_picks_as_its_definition_under_ties(count: int, kinds: int) -> None:
    tokens = hypercube(count, kinds, seed=count + 1)
    distance = (1.0 - tokens @ tokens.T / 16).fill_diagonal_(torch.inf)
    wanted = [min(range(count), key=lambda token: (-float(distance[token].min()), token))]
    while len(wanted) < count // 2 + 1:
        nearest = distance[wanted].amin(0).tolist()
        wanted.append(min((token for token in range(count) if token not in wanted), key=lambda t: (-nearest[t], t)))
    assert max_min(tokens, len(wanted)).tolist() == wanted


@pytest.mark.parametrize("seed", range(4))
def test_greedy_map_picks_as_its_definition_under_ties(seed: int) -> None:
    """Kinds are orthogonal and weights powers of two, so that every determinant is exact."""
    draw = torch.Generator().manual_seed(seed)
    kinds = torch.randint(0, 24, (3, 90), generator=draw)
    weights = 2.0 ** torch.randint(-1, 2, (3, 90), generator=draw)
    valid = torch.rand(3, 90, generator=draw) < 0.9
    features = torch.nn.functional.one_hot(kinds, 24).float()
    picks = greedy_map(features, weights, valid, 20)
    for view in range(3):
        wanted: list[int] = []
        taken: set[int] = set()
        for _ in range(20):
            open_tokens = [token for token in range(90) if valid[view, token] and token not in wanted]

            def rank(token: int, view: int = view, taken: set[int] = taken) -> tuple[float, int]:
                gain = 0.0 if int(kinds[view, token]) in taken else float(weights[view, token]) ** 2
                return -gain, token

            wanted.append(min(open_tokens, key=rank))
            taken.add(int(kinds[view, wanted[-1]]))
        assert picks[view].tolist() == wanted


@pytest.mark.parametrize("gamma", [0.01, 1.0, 100.0])
@pytest.mark.parametrize(("tokens", "width"), [(1, 4), (60, 5), (60, 59), (60, 60), (60, 200), (300, 24)])
def test_few_rows_of_a_kernel_pick_as_all_of_it(tokens: int, width: int, gamma: float) -> None:
    features = torch.randn(tokens, width, generator=torch.Generator().manual_seed(tokens + width)).double() + 0.5
    scaled = features / features.norm(dim=0)
    kernel = torch.eye(tokens, dtype=torch.float64) + gamma * torch.linalg.matrix_power(scaled @ scaled.T, 2)
    left, right = transport_factors(features, gamma)
    assert left.shape == right.shape == (tokens, min(tokens, width))
    assert torch.allclose(left @ right.T + torch.eye(tokens), kernel)
    wanted: list[int] = []
    while len(wanted) < tokens:
        gains = {
            token: float(torch.linalg.slogdet(kernel[[*wanted, token]][:, [*wanted, token]])[1])
            for token in set(range(tokens)) - set(wanted)
        }
        wanted.append(max(gains, key=lambda token: gains[token]))
        if len(wanted) == 12:
            break
    picks = factored_map(left, right, tokens).tolist()
    assert picks[: len(wanted)] == wanted
    assert picks == determinant_map(kernel[None], kernel.diagonal()[None], tokens)[0].tolist()


def test_a_narrow_models_gains_do_not_drown_beside_the_identity() -> None:
    """In fp32 gains about 1e-6 above 1 are ranked as in fp64."""
    features = torch.randn(200, 16, generator=torch.Generator().manual_seed(3))
    picks = [factored_map(*transport_factors(same, 1e-6), 60).tolist() for same in (features, features.double())]
    assert picks[0] == picks[1]


@pytest.mark.parametrize(("width", "gamma"), [(16, 1e-6), (16, 100.0), (96, 0.01), (400, 1.0)])
def test_a_device_picks_what_the_cpu_does(width: int, gamma: float) -> None:
    """A device makes the whole kernel at once; its gains, too, are ranked without the identity's 1."""
    features = torch.randn(300, width, generator=torch.Generator().manual_seed(width)) + 0.5
    factors = transport_factors(features, gamma)
    with pretended():
        found = factored_map(*up(factors), 40)
    assert down(found).tolist() == factored_map(*factors, 40).tolist()
    assert down(found).tolist() == factored_map(*transport_factors(features.double(), gamma), 40).tolist()


@pytest.mark.parametrize("device", ["cpu", "pretended"])
@pytest.mark.parametrize("gamma", [0.01, 1e4, 1e6])
def test_picks_beyond_the_features_rank_stay_different(gamma: float, device: str) -> None:
    """What is left there is rounding, which grew from pick to pick until it was no number: 11 of 120 were different."""
    draw = torch.Generator().manual_seed(1)
    features = (torch.randn(120, 3, generator=draw) + 2.0) @ torch.randn(3, 2000, generator=draw)
    factors = transport_factors(features, gamma)
    with pretended():
        picks = factored_map(*(up(factors) if device == "pretended" else factors), 120)
    assert sorted(down(picks).tolist()) == list(range(120))


@pytest.mark.parametrize("neighbours", [1, 5, 32, 200])
def test_merging_adds_the_nearest_keys_by_weight(neighbours: int) -> None:
    draw = torch.Generator().manual_seed(neighbours)
    scores, keys = torch.rand(120, generator=draw), torch.randn(120, 16, generator=draw)
    features, order = torch.randn(120, 8, generator=draw), torch.tensor([7, 3, 99, 0])
    everything = (part[None] for part in (scores, keys, keys.norm(dim=1), features, torch.ones(120, dtype=torch.bool)))
    kept, (dropped,) = merge(Views(*everything), [order], neighbours)
    unit = torch.nn.functional.normalize(keys.double(), dim=1)
    for row, token in zip(kept, order.tolist(), strict=True):
        others = sorted((other for other in range(120) if other != token), key=lambda j: -float(unit[token] @ unit[j]))
        near = torch.tensor(others[:neighbours])
        assert torch.allclose(row, features[token] + scores[near] @ features[near], atol=1e-4)
    gone = torch.ones(120, dtype=torch.bool)
    gone[order] = False
    assert torch.allclose(dropped, scores[gone] @ features[gone], atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_blank_memory_is_zero_and_writable(dtype: torch.dtype) -> None:
    found = blank(torch.ones(3, 5, 7, dtype=dtype))
    assert found.dtype == dtype
    assert found.shape == (3, 5, 7)
    assert not found.any()
    found[1, 2] = 4.0
    assert float(found.float().sum()) == 28.0


@pytest.mark.parametrize(
    ("members", "count"), [(0, 1), (1, 1), (700, 3), (5000, 145), (5000, 2**15), (70_000, 2**15 + 9)]
)
def test_members_stand_group_by_group_in_their_order(members: int, count: int) -> None:
    groups = torch.randint(count, (members,), generator=torch.Generator().manual_seed(members))
    assert torch.equal(by_group(groups, count), groups.argsort(stable=True))
    last = torch.full((3,), count - 1)
    assert by_group(last, count).tolist() == [0, 1, 2], "the highest group is no negative number"


def test_sums_of_bags_are_those_of_groups() -> None:
    draw = torch.Generator().manual_seed(0)
    features, tokens = torch.randn(60, 5, generator=draw), torch.randperm(60, generator=draw)[:40]
    groups, weights = torch.randint(7, (40,), generator=draw) // 2 * 2, torch.rand(40, generator=draw)
    for by in (None, weights):
        sums, sizes = group_sums(features, tokens, groups, 8, by)
        shares = torch.ones(40) if by is None else by
        for group in range(8):
            mine = groups == group
            torch.testing.assert_close(sums[group], (features[tokens[mine]] * shares[mine, None]).sum(0))
            assert sizes[group] == mine.sum()
        order = by_group(groups, 8)
        assert torch.equal(bag_sums(features, tokens[order], sizes, None if by is None else by[order]), sums)
