"""VQA accuracy and the answer normaliser behind VQAv2, TextVQA and VizWiz.

Origin: the official VQA evaluation by way of the Pythia/MMF "EvalAI" answer processor (mmf commit c46b3b33). Its quirks
are part of every published figure, so they are kept: the malformed look-behind before full stops, the regex flag that
lands in the place of a count (at most 32 stops go), and contractions that can never fire.

Stages, applied left to right: T pre-tokenise, W white space, P punctuation, D digits, articles and contractions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from hero_ray.core.errors import DatasetError

MARKS = (";", "/", "[", "]", '"', "{", "}", "(", ")", "=", "+", "\\", "_", "-", ">", "<", "@", "`", ",", "?", "!")
NUMBERS = {
    "none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6",
    "seven": "7", "eight": "8", "nine": "9", "ten": "10",
}  # fmt: skip
ARTICLES = {"a", "an", "the"}
MAX_STOPS = 32

_COMMA_IN_NUMBER = re.compile(r"(?<=\d),+(?=\d)")
_STOP = re.compile(r"\.(?!\d)")
_KIT_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_KIT_STOP = re.compile(r"(?<!\d)\.(?!\d)")


def stage_t(text: str) -> str:
    """Lower-case, no commas or question marks, possessives split off."""
    return text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()


def stage_w(text: str) -> str:
    """Newline and tab become a space."""
    return text.replace("\n", " ").replace("\t", " ").strip()


def _punctuation(text: str, comma_in_number: re.Pattern[str], stop: re.Pattern[str]) -> str:
    emptied = bool(comma_in_number.search(text))
    out = text
    for mark in MARKS:
        # Decided on the text as it came in, applied to the running output.
        drop = emptied or f"{mark} " in text or f" {mark}" in text
        out = out.replace(mark, "" if drop else " ")
    return stop.sub("", out, count=MAX_STOPS)


def stage_p(text: str) -> str:
    """Punctuation as lmms-eval has it."""
    return _punctuation(text, _COMMA_IN_NUMBER, _STOP)


def stage_p_vlmevalkit(text: str) -> str:
    """Punctuation as VLMEvalKit has it: a stop next to any digit stays."""
    return _punctuation(text, _KIT_COMMA_IN_NUMBER, _KIT_STOP)


def stage_d(text: str) -> str:
    """Number words to digits, articles out, apostrophes back into contractions."""
    words = (NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def normalise(text: str) -> str:
    """T W P D: both sides of TextVQA and VizWiz in every lmms-eval version."""
    return stage_d(stage_p(stage_w(stage_t(text))))


def normalise_plain(text: str) -> str:
    """W P D: both sides of VQAv2 in current lmms-eval."""
    return stage_d(stage_p(stage_w(text)))


def normalise_vlmevalkit(text: str) -> str:
    """W P D with VLMEvalKit's punctuation."""
    return stage_d(stage_p_vlmevalkit(stage_w(text)))


def vqa_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """Mean over annotators of min(1, matches among the other answers / 3); both sides already normalised.

    Raises:
        DatasetError: there is no answer to compare with (hidden test splits).
    """
    if not answers:
        raise DatasetError("no reference answers: this split hides them; score it on its server or use the open split")
    hits = [answer == prediction for answer in answers]
    total = sum(hits)
    return sum(min(1.0, (total - hit) / 3) for hit in hits) / len(hits)


CONTRACTIONS = {
    "aint": "ain't", "arent": "aren't", "cant": "can't", "couldve": "could've", "couldnt": "couldn't",
    "couldn'tve": "couldn't've", "couldnt've": "couldn't've", "didnt": "didn't", "doesnt": "doesn't", "dont": "don't",
    "hadnt": "hadn't", "hadnt've": "hadn't've", "hadn'tve": "hadn't've", "hasnt": "hasn't", "havent": "haven't",
    "hed": "he'd", "hed've": "he'd've", "he'dve": "he'd've", "hes": "he's", "howd": "how'd", "howll": "how'll",
    "hows": "how's", "Id've": "I'd've", "I'dve": "I'd've", "Im": "I'm", "Ive": "I've", "isnt": "isn't", "itd": "it'd",
    "itd've": "it'd've", "it'dve": "it'd've", "itll": "it'll", "let's": "let's", "maam": "ma'am",
    "mightnt": "mightn't", "mightnt've": "mightn't've", "mightn'tve": "mightn't've", "mightve": "might've",
    "mustnt": "mustn't", "mustve": "must've", "neednt": "needn't", "notve": "not've", "oclock": "o'clock",
    "oughtnt": "oughtn't", "ow's'at": "'ow's'at", "'ows'at": "'ow's'at", "'ow'sat": "'ow's'at", "shant": "shan't",
    "shed've": "she'd've", "she'dve": "she'd've", "she's": "she's", "shouldve": "should've", "shouldnt": "shouldn't",
    "shouldnt've": "shouldn't've", "shouldn'tve": "shouldn't've", "somebody'd": "somebodyd",
    "somebodyd've": "somebody'd've", "somebody'dve": "somebody'd've", "somebodyll": "somebody'll",
    "somebodys": "somebody's", "someoned": "someone'd", "someoned've": "someone'd've", "someone'dve": "someone'd've",
    "someonell": "someone'll", "someones": "someone's", "somethingd": "something'd",
    "somethingd've": "something'd've", "something'dve": "something'd've", "somethingll": "something'll",
    "thats": "that's", "thered": "there'd", "thered've": "there'd've", "there'dve": "there'd've",
    "therere": "there're", "theres": "there's", "theyd": "they'd", "theyd've": "they'd've", "they'dve": "they'd've",
    "theyll": "they'll", "theyre": "they're", "theyve": "they've", "twas": "'twas", "wasnt": "wasn't",
    "wed've": "we'd've", "we'dve": "we'd've", "weve": "we've", "werent": "weren't", "whatll": "what'll",
    "whatre": "what're", "whats": "what's", "whatve": "what've", "whens": "when's", "whered": "where'd",
    "wheres": "where's", "whereve": "where've", "whod": "who'd", "whod've": "who'd've", "who'dve": "who'd've",
    "wholl": "who'll", "whos": "who's", "whove": "who've", "whyll": "why'll", "whyre": "why're", "whys": "why's",
    "wont": "won't", "wouldve": "would've", "wouldnt": "wouldn't", "wouldnt've": "wouldn't've",
    "wouldn'tve": "wouldn't've", "yall": "y'all", "yall'll": "y'all'll", "y'allll": "y'all'll",
    "yall'd've": "y'all'd've", "y'alld've": "y'all'd've", "y'all'dve": "y'all'd've", "youd": "you'd",
    "youd've": "you'd've", "you'dve": "you'd've", "youll": "you'll", "youre": "you're", "youve": "you've",
}  # fmt: skip
