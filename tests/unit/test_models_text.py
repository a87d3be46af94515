"""Prompts, tokenizers and CLIP's long-text policies."""

import json
from types import SimpleNamespace

import pytest
import torch

from hero_ray.core.errors import CheckpointError, ParameterError, PromptError
from hero_ray.models import miniature
from hero_ray.models.clip_text import ClipSide
from hero_ray.models.prompts import build_prompt, style
from hero_ray.models.tokenizer import FastTokenizer, StandInTokenizer, read_tokenizer


@pytest.fixture(scope="module")
def fast(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokens") / "tokenizer.json"
    miniature.tokenizer(end=None).save(str(path))
    return FastTokenizer(path)


def saved(folder, **settings):
    """A tokenizer.json as `save_pretrained` leaves it behind a call with truncation or padding."""
    folder.mkdir(exist_ok=True)
    kept = miniature.tokenizer(end=None)
    if "truncation" in settings:
        kept.enable_truncation(settings["truncation"])
    if "padding" in settings:
        kept.enable_padding(length=settings["padding"])
    kept.save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.parametrize("settings", [{"truncation": 40}, {"padding": 300}, {"truncation": 16, "padding": 100}])
def test_a_kept_truncation_or_padding_cuts_and_pads_nothing(tmp_path, fast, settings):
    question = "what is written on the sign behind the car? answer with one word"
    kept = build_prompt(read_tokenizer(saved(tmp_path, **settings)), style("vicuna"), question, None, None, "<image>")
    assert kept == build_prompt(fast, style("vicuna"), question, None, None, "<image>")
    assert whole(kept, fast).endswith("one word ASSISTANT:")


def test_a_kept_truncation_leaves_clip_the_whole_question(tmp_path, fast):
    words = FastTokenizer(saved(tmp_path, truncation=8) / "tokenizer.json")
    clip = ClipSide(Counting(128), torch.eye(128), lambda text: [1, *words.encode(text)[0][1:], 2], 16, "tail")
    clip.text("what is written on the sign behind the car")
    assert clip.text_model.calls[0][1:-1] == fast.encode("what is written on the sign behind the car")[0][-14:]


def test_a_broken_tokenizer_is_one_line(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match="not a tokenizer"):
        read_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "tokenizer.model").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="not a sentencepiece model"):
        read_tokenizer(tmp_path)


@pytest.mark.parametrize("text", ["What \ud83d color?", "\udc00", "end \ud83d", "two \x00 nul"])
def test_half_a_character_reads_as_the_replacement_character(fast, text):
    clean = "".join("\ufffd" if letter in "\ud83d\udc00\x00" else letter for letter in text)
    prompt = build_prompt(fast, style("plain"), text, text, None, "<image>")
    assert prompt == build_prompt(fast, style("plain"), clean, clean, None, "<image>")


def whole(prompt, tokenizer):
    """The prompt's text, `|` where the picture stands."""
    letters = {tokenizer.special(letter): letter for letter in map(chr, range(10, 123)) if tokenizer.special(letter)}
    return "".join(letters.get(token, "|") for token in [*prompt.prefix[1:], -1, *prompt.suffix])


def test_vicuna_prompt_is_the_published_one(fast):
    prompt = build_prompt(fast, style("vicuna"), "what is it", None, None, "<image>")
    system = (
        "A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions."
    )
    assert whole(prompt, fast) == f"{system} USER: |\nwhat is it ASSISTANT:"


def test_plain_prompt_has_no_system_sentence(fast):
    prompt = build_prompt(fast, style("plain"), "what is it", None, None, "<image>")
    assert whole(prompt, fast) == "USER: |\nwhat is it ASSISTANT:"


def test_a_picture_stays_where_the_text_puts_it(fast):
    prompt = build_prompt(fast, style("plain"), "look: <image> what is it", None, None, "<image>")
    assert whole(prompt, fast) == "USER: look: | what is it ASSISTANT:"


@pytest.mark.parametrize(
    ("text", "question", "span"),
    [
        ("hint. what is it? one word", "what is it?", "what is it?"),
        ("what is it?", None, "what is it?"),
        ("what is it?", "something else", "what is it?"),
    ],
)
def test_the_instruction_is_the_question_or_else_all_of_the_text(fast, text, question, span):
    prompt = build_prompt(fast, style("plain"), text, question, None, "<image>")
    part = SimpleNamespace(prefix=(1,), suffix=prompt.suffix[slice(*prompt.instruction)])
    assert whole(part, fast) == "|" + span


def test_braces_in_a_question_are_taken_literally(fast):
    prompt = build_prompt(fast, style("plain"), "is it {user} or {system}", None, None, "<image>")
    assert prompt.num_text == len("USER: ") + 1 + len("\nis it {user} or {system} ASSISTANT:")


def test_an_unknown_picture_token_is_refused(fast):
    with pytest.raises(PromptError, match="exactly one token"):
        build_prompt(fast, style("plain"), "what", None, None, "<picture>")


def test_stand_in_prompts_have_about_their_true_length():
    tokens = StandInTokenizer(32064, {"<image>": 32000})
    prompt = build_prompt(tokens, style("vicuna"), "What colour is the star?", None, None, "<image>")
    assert 35 <= prompt.num_text <= 60
    assert max(prompt.prefix + prompt.suffix) < 32000


def test_qwens_own_files_are_read_without_a_tokenizer_json(tmp_path):
    from tokenizers import pre_tokenizers

    alphabet = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    (tmp_path / "vocab.json").write_text(json.dumps(alphabet | {"at": 256, "what": 257, "wh": 258}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\na t\nw h\nwh at\n")
    added = {"260": {"content": "<|im_end|>", "special": True}, "261": {"content": "<IMG_CONTEXT>", "special": True}}
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "Qwen2Tokenizer", "added_tokens_decoder": added})
    )
    tokens = read_tokenizer(tmp_path)
    ids, spans = tokens.encode("what<IMG_CONTEXT>\nat<|im_end|>")
    assert (ids[0], ids[-2:], spans[-1]) == (257, [256, tokens.special("<|im_end|>")], (20, 30))
    assert ids[1] == tokens.special("<IMG_CONTEXT>")
    assert tokens.decode(ids) == "what\nat"


@pytest.fixture
def pieces(tmp_path):
    def read(**said):
        miniature.train_sentencepiece(tmp_path / "tokenizer.model")
        entry = {"content": "<|user|>", "special": True, "rstrip": said.pop("rstrip", False)}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": {"200": entry}} | said))
        return read_tokenizer(tmp_path)

    return read


def test_a_sentencepiece_tokenizer_does_what_its_configuration_says(pieces):
    text = "what<|user|>\ncolour"
    usual = pieces().encode(text)[0]
    assert usual[0] == 1
    assert pieces(add_bos_token=False).encode(text)[0] == usual[1:]
    eaten, spans = pieces(rstrip=True).encode(text)
    assert eaten == pieces().encode("what<|user|>colour")[0]
    assert spans[eaten.index(200) + 1][1] > text.index("c")
    later = pieces(legacy=False)
    assert later.encode("what<|user|>colour")[0] != pieces().encode("what<|user|>colour")[0]
    assert later.decode(later.encode("<|user|>colour")[0]) == "colour"


def test_a_begin_token_that_a_template_wrote_is_not_doubled(tmp_path):
    tokens = read_tokenizer(saved(tmp_path))
    assert tokens.encode("<s>what")[0] == tokens.encode("what")[0]
    ids, spans = tokens.encode("<s>what")
    assert spans[1] == (3, 4)
    assert ids[0] == 1


def test_tokens_beyond_the_file_cut_the_text(tmp_path):
    tokens = read_tokenizer(saved(tmp_path), {"<picture>": 900, "<image>": 901})
    ids, spans = tokens.encode("what <picture> is")
    assert ids == [*tokens.encode("what ")[0], 900, *tokens.encode(" is")[0][1:]]
    assert spans[ids.index(900)] == (5, 14)
    assert tokens.special("<image>") == miniature.IMAGE_ID
    assert tokens.decode(ids) == tokens.decode([i for i in ids if i != 900])


def test_a_folder_without_tokenizer_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="tokenizer"):
        read_tokenizer(tmp_path)


class Counting:
    """A text tower that answers with the mean of one-hot ids, and counts its calls."""

    def __init__(self, size=32):
        self.calls, self.size = [], size

    def parameters(self):
        return iter([torch.zeros(1)])

    def __call__(self, input_ids):
        self.calls.append(input_ids[0].tolist())
        return SimpleNamespace(text_embeds=torch.nn.functional.one_hot(input_ids, self.size).float().mean(1))


def side(policy):
    return ClipSide(Counting(), torch.eye(32), lambda text: [1, *(ord(c) - 90 for c in text), 2], 6, policy)


@pytest.mark.parametrize(
    ("policy", "calls"),
    [
        ("truncate", [[1, 7, 8, 9, 10, 2]]),
        ("tail", [[1, 9, 10, 11, 12, 2]]),
        ("chunk_mean", [[1, 7, 8, 9, 10, 2], [1, 11, 12, 2]]),
        ("chunk_max", [[1, 7, 8, 9, 10, 2], [1, 11, 12, 2]]),
    ],
)
def test_long_texts_follow_the_policy(policy, calls):
    clip = side(policy)
    embedding = clip.text("abcdef")
    assert clip.text_model.calls == calls
    assert embedding.shape[0] == (2 if policy == "chunk_max" else 1)
    assert torch.allclose(embedding.norm(dim=-1), torch.ones(len(embedding)))


def test_chunk_max_scores_by_the_best_piece():
    clip = side("chunk_max")
    like_the_second = clip.text("abcdef")[1:]
    assert clip.score(like_the_second, "abcdef").item() == pytest.approx(1.0)


def test_a_text_is_embedded_once():
    clip = side("truncate")
    clip.score(torch.ones(2, 32), "abc")
    clip.score(torch.ones(3, 32), "abc")
    assert len(clip.text_model.calls) == 1


def test_an_unknown_policy_is_refused():
    with pytest.raises(ParameterError, match="chunk_mean"):
        side("middle")
