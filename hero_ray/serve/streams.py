"""Answers that are told as they grow: which text may be shown, of which choice, with how likely its tokens were."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hero_ray.models.draws import TokenChance
from hero_ray.serve.engine_types import ChatJob, ChatResult, Piece
from hero_ray.serve.spelling import before_stop, openai_logprobs, showable
from hero_ray.serve.work import Caller


class Told:
    """What was told of the answers of one job.

    Args:
        draws: answers that are made; with one, all choices are it.
        emit: is told every piece.
    """

    def __init__(self, tokenizer: Any, job: ChatJob, draws: int, emit: Callable[[Piece], None], caller: Caller) -> None:
        self._tokenizer, self._job, self._emit, self._caller = tokenizer, job, emit, caller
        self._indices = [[draw] if draws > 1 else list(range(job.choices)) for draw in range(draws)]
        self._tokens: list[list[int]] = [[] for _ in range(draws)]
        self._shown = [""] * draws
        self._chances: list[list[TokenChance]] = [[] for _ in range(draws)]
        self._stopped = [False] * draws

    def chance(self, draw: int, chance: TokenChance) -> None:
        """How likely the next token of an answer was."""
        if not self._stopped[draw]:
            self._chances[draw].append(chance)

    def token(self, draw: int, token: int) -> bool:
        """The next token of an answer; whether it completed a stop string, so that no more is wanted.

        Raises:
            Problem: nobody listens any more.
        """
        self._caller.check()
        if self._stopped[draw]:
            return True
        self._tokens[draw].append(token)
        whole = self._tokenizer.decode(self._tokens[draw])
        self._stopped[draw] = before_stop(whole.strip(), self._job.stops)[1]
        text, shown = showable(whole, self._job.stops), self._shown[draw]
        if text.startswith(shown) and len(text) > len(shown):
            self._say(draw, text[len(shown) :])
        return self._stopped[draw]

    def rest(self, result: ChatResult) -> None:
        """What was held back of every answer, now that all are whole."""
        for draw, indices in enumerate(self._indices):
            text, shown = result.choices[indices[0]].text, self._shown[draw]
            piece = text[len(shown) :] if text.startswith(shown) else ""
            if piece or self._chances[draw]:
                self._say(draw, piece)

    def _say(self, draw: int, text: str) -> None:
        self._shown[draw] += text
        told = None
        if self._job.logprobs is not None:
            waiting, self._chances[draw] = self._chances[draw], []
            before = self._tokens[draw][: len(self._tokens[draw]) - len(waiting)]
            told = openai_logprobs(self._tokenizer, before, waiting, self._job.logprobs)
        for index in self._indices[draw]:
            self._emit(Piece(text, index, told))
