"""HERO FigureTable III: captions from primary and from shortcut tokens, rated 1 to 5 by a judge that sees the picture.

Four ratings: objects and the global scene, each for coverage (is it mentioned?) and correctness (is it right?). The
paper's prompt to GPT-4o is not printed; `PROMPT` is ours, so levels are comparable between our own runs with one pinned
judge only. The endpoint is that of judged benchmarks: HERO_RAY_JUDGE_URL, HERO_RAY_JUDGE_MODEL, HERO_RAY_JUDGE_KEY.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hero_ray.benchmarks.judge import Judge
from hero_ray.core.errors import JudgeError
from hero_ray.models.base import Request as Answer
from hero_ray.stats import mean_interval
from hero_ray.studies import asking
from hero_ray.studies.records import FigureTable, Study, StudyRequest, figures
from hero_ray.studies.token_roles import needs, settings

NAME = "caption-judge"
TASKS = ("mmstar",)
INSTRUCTION = "Describe the image in detail."
MAX_NEW_TOKENS = 256
RATINGS = ("object_coverage", "object_correctness", "global_coverage", "global_correctness")
PROMPT = """You compare a caption with the image it was written for. Give four whole numbers from 1 (worst) to 5 (best):
object_coverage: how many of the clearly visible objects the caption mentions;
object_correctness: how far what it says of objects (kind, count, colour, text, place) is true;
global_coverage: how much of the scene as a whole it conveys (setting, activity, style, mood);
global_correctness: how far what it says of the scene as a whole is true.
An empty or senseless caption gets 1 everywhere. Judge the caption alone, not its style or length.
Answer with one JSON object and nothing else, for example
{{"object_coverage": 3, "object_correctness": 4, "global_coverage": 2, "global_correctness": 4}}

Caption: {caption}"""


@dataclass(frozen=True)
class PictureJudge(Judge):
    """A judge that is shown `picture`, a data URL, with every prompt; replies are cached per picture."""

    picture: str = ""

    def _post(self, body: dict[str, Any]) -> Any:
        text = {"type": "text", "text": body["messages"][0]["content"]}
        shown = {"type": "image_url", "image_url": {"url": self.picture}}
        return super()._post(body | {"messages": [{"role": "user", "content": [text, shown]}]})

    def _path(self, kind: str, prompt: str) -> Path | None:
        return super()._path(kind, f"{hashlib.sha256(self.picture.encode()).hexdigest()}\n{prompt}")


def data_url(image: Image.Image) -> str:
    """A picture as an OpenAI `image_url`."""
    buffer = BytesIO()
    image.convert("RGB").save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def parse(reply: str) -> dict[str, int]:
    """The four ratings in a judge's reply.

    Raises:
        JudgeError: no JSON object with four whole numbers from 1 to 5.
    """
    match = re.search(r"\{.*\}", reply, re.S)
    try:
        found = json.loads(match[0]) if match else {}
    except ValueError:
        found = {}
    good = all(type(found.get(name)) is int and 1 <= found[name] <= 5 for name in RATINGS)
    if not good:
        raise JudgeError(f"the judge answered {reply[:200]!r}; expected JSON with {', '.join(RATINGS)}, each 1 to 5")
    return {name: found[name] for name in RATINGS}


def rate(judge: Judge, image: Image.Image, caption: str) -> dict[str, int]:
    """Ratings of one caption."""
    shown = PictureJudge(judge.url, judge.model, judge.key, judge.cache, picture=data_url(image))
    return parse(shown.reply(PROMPT.format(caption=caption.strip() or "(empty)")))


def run(request: StudyRequest) -> Study:
    """Caption `limit` pictures once per kind of tokens and have every caption rated.

    Raises:
        JudgeError: no judge is set, it cannot be asked, or its reply cannot be read.
    """
    judge, adapter = Judge.from_environment(NAME), request.adapter
    ratings: dict[str, list[Mapping[str, int]]] = {}
    captions = []
    prompt = adapter.prompt(INSTRUCTION)
    for number, (image, _) in enumerate(asking.pictures(asking.opened(request, TASKS), request.limit)):
        encoded = adapter.encode(adapter.prepare(image, str(number)), needs(adapter.vision))
        chosen = settings(encoded)
        requests = [
            Answer(prompt, adapter.assemble(encoded, s, "unpadded_rows"), MAX_NEW_TOKENS) for s in chosen.values()
        ]
        for role, answer in zip(chosen, adapter.generate(requests), strict=True):
            found = rate(judge, image, answer.text)
            ratings.setdefault(role, []).append(found)
            captions.append((number + 1, role, answer.text, *found.values()))
    rows = tuple(
        (role, name, *figures(mean_interval(np.array([float(rating[name]) for rating in given]))), len(given))
        for role, given in ratings.items()
        for name in RATINGS
    )
    note = (
        f"Ratings 1 to 5 by {judge.model} of captions by {adapter.info.name}; prompt of our own, so levels are not the "
        "paper's. Intervals are 95 %, over pictures."
    )
    return Study(
        NAME,
        "Captions from primary and shortcut tokens (HERO FigureTable III)",
        note,
        tables=(
            FigureTable("Mean rating", ("tokens", "rating", "mean", "low", "high", "n"), rows),
            FigureTable("Captions", ("picture", "tokens", "caption", *RATINGS), tuple(captions)),
        ),
        findings={f"{row[0]}/{row[1]}": row[2] for row in rows},
    )
