"""In-LLM methods against their vectors, on block boundaries written out by hand; vector tests carry the vector's id."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import LlamaConfig, LlamaModel
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from hero_ray.core.encoded import Budget, Needs
from hero_ray.core.errors import NonFiniteScoreError, ParameterError
from hero_ray.methods import create, gsearch, vtw
from hero_ray.methods.dart import choose
from hero_ray.methods.fastv import rounded_share
from hero_ray.methods.kit.clustering import averaged, density_peaks
from hero_ray.methods.kit.conformance import random_encoded, single_layout
from hero_ray.methods.kit.dropping import after_block, mean_share, share_of
from hero_ray.methods.kit.scores import descending
from hero_ray.methods.sparsevlm import SparseVLM, debiased, rater_relevance, stage_shares, top_heads
from hero_ray.models.blocks import BlockState
from hero_ray.models.live import LiveTokens
from hero_ray.models.runner import Runner
from tests.llm_states import WrittenState, kept_visual, run, vector_budget
from tests.method_vectors import vector


def test_fastv_vector() -> None:
    given = vector("fastv")
    expected = given["expected"]
    attention = torch.tensor(given["inputs"]["attn_layer_Kminus1"])[None]
    seen, cut = (WrittenState(layer, 32, [(3, 6, 3)], attention) for layer in (2, 3))
    for variant in ("exact", "released"):
        survivors = run(create("fastv", variant=variant).pruner(vector_budget(0.5)), seen, cut)
        assert kept_visual(cut, survivors) == expected["kept_image"]
        assert survivors is not None
        assert survivors.keep[0].nonzero()[:, 0].tolist() == expected["keep_indices"]
        assert cut.positions[survivors.keep].tolist() == expected["position_ids"]
    assert create("fastv").positions == "keep"
    everyone = run(create("fastv", query="all").pruner(vector_budget(0.5)), seen, cut)
    assert kept_visual(cut, everyone) == expected["paper_kept_image"]


def test_fastv_scores_of_the_vector() -> None:
    given = vector("fastv")
    attention = torch.tensor(given["inputs"]["attn_layer_Kminus1"])[None]
    seen = WrittenState(2, 32, [(3, 6, 3)], attention)
    for query, key in (("last", "last_query_scores"), ("all", "paper_all_query_scores")):
        scores = create("fastv", query=query)._score(seen)[0, 3:9]
        assert scores.tolist() == pytest.approx(given["expected"][key], abs=1e-5)


def test_fastv_rounding_vector() -> None:
    given = vector("fastv.rounding")
    for position, (tokens, dropped) in enumerate(zip(given["inputs"]["N"], given["inputs"]["r"], strict=True)):
        total = torch.tensor([tokens])
        assert int(rounded_share(1.0 - dropped, total)) == given["expected"]["round_half_even"][position]
        assert int(share_of(1.0 - dropped, total)) == given["expected"]["floor_eps"][position]
        assert int(tokens * (1 - dropped)) == given["expected"]["int_no_eps"][position]


def test_fastv_rows_of_a_batch_are_cut_on_their_own() -> None:
    attention = torch.rand(2, 2, 12, 12, generator=torch.Generator().manual_seed(0))
    both = [WrittenState(layer, 32, [(3, 6, 3), (1, 4, 2)], attention) for layer in (2, 3)]
    survivors = run(create("fastv").pruner(vector_budget(0.5)), *both)
    assert [len(kept_visual(both[1], survivors, row)) for row in (0, 1)] == [3, 2]
    alone = [WrittenState(layer, 32, [(1, 4, 2)], attention[1:, :, 5:, 5:]) for layer in (2, 3)]
    single = run(create("fastv").pruner(vector_budget(0.5)), *alone)
    assert kept_visual(alone[1], single) == kept_visual(both[1], survivors, 1)


def test_fastv_refuses_attention_that_is_not_finite() -> None:
    attention = torch.full((1, 1, 12, 12), math.nan)
    seen = WrittenState(2, 32, [(3, 6, 3)], attention)
    with pytest.raises(NonFiniteScoreError, match="fastv: 6 of 12 values of LLM attention of block 2"):
        create("fastv").pruner(vector_budget(0.5)).after(seen)


def test_sparsevlm_select_vector() -> None:
    given = vector("sparsevlm.select")
    inputs, expected = given["inputs"], given["expected"]
    pictures, words = torch.tensor(inputs["vision_embeds"]), torch.tensor(inputs["text_embeds"])
    hidden = torch.cat([pictures, words])[None]
    first = WrittenState(1, 32, [(0, 4, 3)], hidden=hidden)
    text = torch.ones(1, 3, dtype=torch.bool)
    relevance = rater_relevance(hidden, first.visual, words[None], text)
    assert relevance[0].tolist() == pytest.approx(expected["rater_mean"], abs=1e-5)
    attention = torch.zeros(1, 1, 7, 7)
    attention[0, 0, 4:, :4] = torch.tensor(inputs["headmean_text_to_vision"])
    # a nominal share whose first list entry rounds to the vector's budget of 2 of 4 tokens
    pruner = create("sparsevlm", recycle=False).pruner(vector_budget(128 / 576))
    assert pruner.before(first) is None
    cut = WrittenState(4, 32, [(0, 4, 3)], attention, hidden)
    survivors = run(pruner, WrittenState(3, 32, [(0, 4, 3)], attention, hidden), cut)
    assert kept_visual(cut, survivors) == expected["kept"]


def test_sparsevlm_counts_vector() -> None:
    given = vector("sparsevlm.counts")
    method, alive = SparseVLM(), 576
    shares = stage_shares(192 / 576)
    blocks = [block + 1 for block in given["params"]["layers"]]
    per_block = {}
    for share, block, stage in zip(shares, blocks, given["expected"]["stages"], strict=True):
        assert alive == stage["in_"]
        keep = round(share * 576)
        pool, clusters = method.recycled_counts(alive - keep)
        assert (keep, alive - keep) == (stage["keep"], stage["deleted"])
        assert (pool, clusters) == (stage["recycle_pool"], stage["clusters"])
        alive = keep + clusters
        per_block[block] = alive / 576
        assert alive == stage["out"]
    mean = 576 * mean_share(per_block, given["params"]["L"])
    assert mean == pytest.approx(given["expected"]["mean_tokens_per_layer"])


def test_sparsevlm_recycles_behind_the_kept() -> None:
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(2, 60, 4, generator=draw)
    attention = torch.rand(2, 1, 60, 60, generator=draw)
    spans = [(4, 50, 6), (4, 30, 3)]
    pruner = create("sparsevlm").pruner(vector_budget(64 / 576))
    pruner.before(WrittenState(1, 32, spans, hidden=hidden))
    cut = WrittenState(4, 32, spans, attention, hidden)
    survivors = run(pruner, WrittenState(3, 32, spans, attention, hidden), cut)
    assert survivors is not None
    assert survivors.recycled_valid is not None
    kept = [len(kept_visual(cut, survivors, row)) for row in (0, 1)]
    assert kept == [6, 3]  # 66 / 576 of 50 and of 30, rounded
    expected = [
        create("sparsevlm").recycled_counts(total - alive)[1] for total, alive in zip((50, 30), kept, strict=True)
    ]
    assert survivors.recycled_valid.sum(1).tolist() == expected


def test_density_peaks_finds_plain_groups() -> None:
    points = torch.tensor([[0.0, 0.0], [0.1, 0.0], [5.0, 5.0], [5.1, 5.0], [0.0, 0.1]])
    group = density_peaks(points, 2)
    assert group[0] == group[1] == group[4]
    assert group[2] == group[3] != group[0]
    means = averaged(points, 2)
    assert sorted(means.sum(1).tolist()) == pytest.approx([0.2 / 3, 10.05], abs=1e-5)


def test_sparsevlm_share_grows_with_the_ratio() -> None:
    assert stage_shares(1 / 3) == pytest.approx((300 / 576, 200 / 576, 110 / 576))
    assert stage_shares(64 / 576) == pytest.approx((66 / 576, 30 / 576, 17 / 576))
    assert stage_shares(1.0) == (1.0, 1.0, 1.0)
    assert stage_shares(32 / 576) == pytest.approx((33 / 576, 15 / 576, 8.5 / 576))


def test_sparsevlm_v2_looks_through_the_bias_with_its_best_heads() -> None:
    """Two of four heads count (14 of 32); a bias that favours late tokens is divided out of their rows."""
    spans, width = [(1, 4, 2)], 7
    attention = torch.zeros(1, 4, width, width)
    attention[0, 0, 5:, 1:5] = torch.tensor([0.10, 0.10, 0.20, 0.25])
    attention[0, 1, 5:, 1:5] = torch.tensor([0.10, 0.10, 0.20, 0.25])
    attention[0, 2, 5:, 1:5] = torch.tensor([0.04, 0.00, 0.00, 0.00])
    attention[0, 3, 5:, 1:5] = torch.tensor([0.00, 0.00, 0.00, 0.00])
    bias = torch.tensor([8.0, 1.0, 2.0, 3.0, 8.0, 8.0, 8.0]).expand(1, width, width)
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(1, width, 8, generator=draw)
    kept = {}
    for variant in ("exact", "v2"):
        method = create("sparsevlm", variant=variant)
        pruner = method.pruner(vector_budget(128 / 576))  # 303 or 238 of 576: 2 of 4 tokens
        pruner.before(WrittenState(1, 32, spans, hidden=hidden))
        states = [WrittenState(layer, 32, spans, attention, hidden, bias=bias) for layer in (3, 4)]
        survivors = run(pruner, *states)
        assert survivors is not None
        assert (survivors.recycled is None) == (variant == "v2")
        kept[variant] = kept_visual(states[1], survivors)
    assert kept == {"exact": [2, 3], "v2": [0, 2]}
    assert create("sparsevlm", variant="v2").positions == "keep"
    assert create("sparsevlm").positions == "compact"


def test_sparsevlm_v2_lists_are_its_own() -> None:
    pruner = create("sparsevlm", variant="v2").pruner(vector_budget(192 / 576))
    assert pruner._shares == pytest.approx((300 / 576, 200 / 576, 118 / 576))  # type: ignore[union-attr]


def test_bias_never_turns_attention_negative() -> None:
    rows = torch.ones(1, 2, 1, 3)
    found = debiased(rows, torch.tensor([[[10.0, -3.0, 0.0]]]))
    assert found[0, 0, 0].tolist() == pytest.approx([0.1, 10.0, 10.0])


def test_top_heads_are_chosen_by_what_raters_see_of_the_picture() -> None:
    rows = torch.zeros(1, 4, 2, 3)
    rows[0, 0, 1] = 9.0  # a text token that does not rate
    rows[0, 1, 0, 2] = 9.0  # a rater that looks at text
    rows[0, 2, 0, 0], rows[0, 3, 0, 1] = 0.2, 0.3
    chosen = top_heads(rows, torch.tensor([[True, False]]), torch.tensor([[True, True, False]]))
    assert torch.equal(chosen, rows[:, [3, 2]])


def test_rope_bias_is_attention_of_all_ones() -> None:
    """Against transformers' own rotation of all-ones heads, on gapped positions."""
    torch.manual_seed(0)
    config = LlamaConfig(hidden_size=32, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, vocab_size=8)
    model = LlamaModel(config)
    positions = torch.tensor([[0, 1, 5, 40, 41]])
    flags = torch.ones(1, 5, dtype=torch.bool)
    tokens = LiveTokens(torch.zeros(1, 5, 32), positions, flags, flags, flags, flags, padded=False)
    state = BlockState(Runner(model, torch.nn.Identity()), tokens, 0, torch.tensor([5]))
    ones = torch.ones(1, 1, 5, 16)
    turned, _ = apply_rotary_pos_emb(ones, ones, *model.rotary_emb(ones, positions))
    expected = (turned[0, 0] @ turned[0, 0].T) / 4.0
    assert torch.allclose(state.rope_bias(torch.tensor([[4, 2]]))[0], expected[[4, 2]], atol=1e-5)


def test_vtw_vector() -> None:
    given = vector("vtw")
    params, expected = given["params"], given["expected"]
    spans = [(params["sys"], params["image_len"], params["text"])]
    method, lengths = create("vtw"), []
    pruner = method.pruner(vector_budget(params["K"] / params["L"]))
    length = sum(spans[0])
    for layer in range(1, params["L"] + 1):
        state = WrittenState(layer, params["L"], spans)
        survivors = pruner.before(state)
        if survivors is not None:
            assert state.positions[survivors.keep].tolist() == expected["position_ids_from_K"]
            length = int(survivors.keep.sum())
        lengths.append(length)
    assert lengths == expected["tokens_per_layer"] == expected["kv_len_per_layer"]
    assert method.positions == "keep"


def test_vtw_paper_depth_ignores_the_ratio() -> None:
    assert create("vtw", variant="paper").depth(0.1, 32) == 15
    assert [create("vtw").depth(0.5, 32), create("vtw").depth(0.1, 3), create("vtw").depth(0.9, 3)] == [16, 1, 2]


def test_vtw_measures_the_divergence_the_authors_way() -> None:
    """KL(withdrawn || full): for (.5, .5) against (.9, .1) that is .51, the other way round .37."""
    withdrawn, full = torch.tensor([0.5, 0.5]).double().log(), torch.tensor([0.9, 0.1]).double().log()
    assert vtw.divergence(withdrawn, full) == pytest.approx(0.5 * math.log(5 / 9) + 0.5 * math.log(5))
    assert vtw.divergence(full, withdrawn) == pytest.approx(0.9 * math.log(9 / 5) + 0.1 * math.log(1 / 5))
    assert vtw.divergence(full, full) == 0.0


def test_vtw_search_vector() -> None:
    given = vector("vtw.search")
    params = given["params"]
    table = dict(enumerate(given["inputs"]["mean_kl"], start=params["first_layer"]))
    found = vtw.search(table.__getitem__, params["first_layer"] + len(table), params["eta"], params["first_layer"])
    assert found == given["expected"]["K"]
    assert vtw.search(lambda depth: 1.0, 32) is None


def test_pdrop_vector() -> None:
    given = vector("pdrop")
    params, expected = given["params"], given["expected"]
    pruner = create("pdrop", variant="paper").pruner(vector_budget(0.5))
    alive, lengths = list(range(params["N"])), [params["N"]]
    for layer, scores, kept in zip(
        (9, 17, 25), given["inputs"]["stage_scores"], expected["kept_original"], strict=True
    ):
        length = params["sys"] + len(alive) + params["text"]
        attention = torch.zeros(1, 1, length, length)
        attention[0, 0, -1, params["sys"] : params["sys"] + len(alive)] = torch.tensor(scores)
        state = WrittenState(layer, 32, [(params["sys"], len(alive), params["text"])], attention)
        state.num_visual = torch.tensor([params["N"]])
        assert pruner.before(WrittenState(layer - 1, 32, state.spans, attention)) is None
        alive = [alive[index] for index in kept_visual(state, pruner.before(state))]
        assert alive == kept
        lengths.append(len(alive))
    assert lengths == expected["lengths"]
    # renumbered: positions after every cut are contiguous, which is what "compact" tells the runner
    assert create("pdrop").positions == "compact"
    widths = [len(ids) for ids in expected["position_ids"]]
    assert widths == [params["sys"] + length + params["text"] for length in lengths]


@pytest.mark.parametrize(
    ("ratio", "depth"), [(0.1, 32), (0.2, 32), (0.4, 32), (0.7, 32), (0.2, 24), (0.4, 3), (0.6, 4)]
)
def test_pdrop_reaches_the_mean_share(ratio: float, depth: int) -> None:
    stages = create("pdrop").stages(ratio, depth)
    assert all(1 <= block < depth for block in stages)
    assert mean_share(stages, depth) == pytest.approx(ratio, abs=1e-6)


def test_gsearch_vector() -> None:
    given = vector("gsearch")
    needed, tokens = given["inputs"]["oracle_min_tokens_per_layer"], given["params"]["N"]
    calls = []

    def quality(block: int, rates: tuple[float, ...]) -> float:
        calls.append(block)
        return 1.0 if rates[block - 1] * tokens >= needed[block - 1] - 1e-9 else 0.5

    grid = [count / tokens for count in range(1, tokens + 1)]
    rates = gsearch.search(quality, given["params"]["L"], grid, first=1)
    assert [round(rate * tokens) for rate in rates] == given["expected"]["schedule"]
    assert len(calls) == given["expected"]["oracle_calls"]


def test_psigmoid_vector() -> None:
    given = vector("psigmoid")
    params = given["params"]
    rates = gsearch.sigmoid_rates(params["k"], params["x0"], params["L"])
    assert list(rates) == pytest.approx(given["expected"]["rate"], abs=1e-5)
    counts = [int(share_of(rate, torch.tensor([params["N"]]))) for rate in rates]
    assert counts == given["expected"]["tokens"]


def test_gsearch_fits_the_mean_share_and_takes_a_schedule() -> None:
    for ratio, depth in ((0.2, 32), (0.4, 24), (0.5, 3)):
        assert mean_share(create("gsearch").stages(ratio, depth), depth) == pytest.approx(ratio, abs=1e-6)
    given = create("gsearch", schedule=[1.0, 0.5, 0.25])
    assert given.stages(0.2, 3) == {1: 0.5, 2: 0.25}
    with pytest.raises(ParameterError, match="3 rates, the LLM 4 blocks"):
        given.stages(0.2, 4)
    with pytest.raises(ParameterError, match="falling"):
        create("gsearch", schedule=(0.5, 1.0))


def test_dart_vector() -> None:
    given = vector("dart")
    inputs, expected, params = given["inputs"], given["expected"], given["params"]
    pictures, words = torch.tensor(inputs["image_states"]), torch.tensor(inputs["text_states"])
    keys = torch.tensor([*inputs["image_key_l1"], *inputs["text_key_l1"]])[None, None, :, None]
    mine = descending(torch.tensor(inputs["image_key_l1"]), params["pivot_image"])
    theirs = descending(torch.tensor(inputs["text_key_l1"]), params["pivot_text"])
    assert (mine.tolist(), theirs.tolist()) == (expected["pivot_image"], expected["pivot_text"])
    unit = torch.nn.functional.normalize(torch.cat([pictures[mine], words[theirs]]), dim=-1)
    likeness = unit @ torch.nn.functional.normalize(pictures, dim=-1).T
    order = choose(likeness[None], mine[None], [params["per_pivot"]] * 2)
    assert order[0].tolist() == [*expected["pivot_image"], *expected["added"]]
    hidden = torch.cat([pictures, words])[None]
    seen, cut = (WrittenState(layer, 32, [(0, 6, 2)], hidden=hidden, block_keys=keys) for layer in (2, 3))
    pruner = create("dart", visual_pivots=1, text_pivots=1).pruner(vector_budget(0.5))
    assert kept_visual(cut, run(pruner, seen, cut)) == expected["kept"]


def test_dart_counts_vector() -> None:
    given = vector("dart.counts")
    method = create("dart", variant="released")
    for position, wanted in enumerate(given["inputs"]["max_num"]):
        counts = method.counts(wanted, *given["inputs"]["pivots"])
        assert set(counts) == {given["expected"]["per_pivot"][position]}
        assert sum(counts) + given["inputs"]["pivots"][0] == given["expected"]["kept"][position]
        assert sum(create("dart").counts(wanted, 4, 4)) + 4 == wanted


def test_cuts_scale_with_depth() -> None:
    assert [after_block(block, 32) for block in (2, 3, 7, 16, 24)] == [2, 3, 7, 16, 24]
    assert [after_block(block, 24) for block in (2, 3, 7, 16)] == [2, 3, 6, 12]  # 2, 5, 11 counted from 0
    assert [after_block(block, 40) for block in (2, 8, 16, 24)] == [2, 10, 20, 30]
    assert [after_block(block, 3) for block in (2, 8, 16, 24)] == [1, 2, 2, 2]


@pytest.mark.parametrize("name", ["fastv", "sparsevlm", "vtw", "pdrop", "gsearch", "dart"])
def test_everything_enters_the_llm(name: str) -> None:
    layout = single_layout((4, 4))
    selection = create(name).select(random_encoded(layout, Needs()), Budget.of(layout, 0.2))
    assert torch.equal(selection.sequence(layout), layout.sequence)
    assert "inside the LLM" in selection.note
