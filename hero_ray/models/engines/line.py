"""Requests under way in one vLLM engine, whoever sent them: put in, moved on a step at a time, taken out when done.

vLLM batches continuously: every step takes what there is. Several senders share a line in one thread, an evaluator with
the pictures of a sweep or a service with its clients; whoever moves it on moves the others' requests too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal

from hero_ray.core.errors import ReplicaError
from hero_ray.models.base import Request
from hero_ray.models.draws import TokenChance
from hero_ray.models.generation import GenerationOptions

WINDOW = 256
"""Requests handed over at once at most: vLLM copies every prompt's rows, 5 MB each for a 7B at a fifth of its tokens.
"""


@dataclass(eq=False)
class LineRequest:
    """One request under way.

    Attributes:
        place: its number to `options.on_token`.
        ids: its answer so far; chances: of each token, the end token too, where `options.logprobs` asks for them.
        finish: how it ended, None before its end token or length is reached.
        over: nothing more will come. error: what `on_token` raised; the request was taken back then.
    """

    request: Request
    options: GenerationOptions
    place: int = 0
    ids: list[int] = field(default_factory=list)
    chances: list[TokenChance] = field(default_factory=list)
    finish: Literal["stop", "length"] | None = None
    over: bool = False
    error: BaseException | None = None


@dataclass
class EngineLine:
    """The queue before one engine.

    Attributes:
        engine: `vllm.LLMEngine`, in this process.
        hand_over: vLLM's prompt and sampling parameters for a request, made when its turn comes.
        end: token ids that end an answer.
    """

    engine: Any
    hand_over: Callable[[LineRequest], tuple[dict[str, Any], Any]]
    end: frozenset[int]
    _waiting: deque[LineRequest] = field(default_factory=deque)
    _open: dict[str, LineRequest] = field(default_factory=dict)
    _numbers: Any = field(default_factory=count)

    def __len__(self) -> int:
        return len(self._waiting) + len(self._open)

    def put(self, requests: Iterable[LineRequest]) -> None:
        """Queue requests; `step` hands them over."""
        self._waiting.extend(requests)

    def step(self) -> None:
        """Hand over what there is room for and run the engine once; nothing happens where nothing is under way.

        Raises:
            ReplicaError: vLLM failed, or cut an answer; it may answer nonsense from here on.
        """
        while self._waiting and len(self._open) < WINDOW:
            name, request = str(next(self._numbers)), self._waiting.popleft()
            self._tell(self.engine.add_request, name, *self.hand_over(request))
            self._open[name] = request
        if not self._open:
            return
        for output in self._tell(self.engine.step):
            row = self._open.get(output.request_id)
            if row is not None:
                self._take(output, row)

    def drop(self, requests: Sequence[LineRequest]) -> None:
        """Take back what nobody waits for any more."""
        gone = set(map(id, requests))
        self._waiting = deque(one for one in self._waiting if id(one) not in gone)
        names = [name for name, one in self._open.items() if id(one) in gone]
        self.engine.abort_request(names)
        for name in names:
            del self._open[name]
        while not self._open and self.engine.has_unfinished_requests():
            self.engine.step()

    def _tell(self, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except Exception as error:
            why = " ".join(str(error).split())[:300]
            raise ReplicaError(f"vLLM failed, and may be unusable now: {type(error).__name__}: {why}") from error

    def _take(self, output: Any, row: LineRequest) -> None:
        """Note the tokens of one output; several may come at once, the end token among them."""
        told, options = output.outputs[0], row.options
        steps = zip(told.token_ids, told.logprobs or (), strict=False)
        chances = [_chance(int(token), step, options.logprobs or 0) for token, step in steps]
        row.chances += chances
        enough = False
        try:
            for number, token in enumerate(told.token_ids):
                if token in self.end and not options.ignore_eos:
                    row.finish = "stop"
                    break
                row.ids.append(int(token))
                if options.on_chance is not None and chances:
                    options.on_chance(row.place, chances[number])
                if options.on_token is not None and options.on_token(row.place, int(token)) is True:
                    enough = True
                    break
        except BaseException as error:  # whoever was told of a token does not want the rest; the others' go on
            row.over, row.error = True, error
            self.drop([row])
            return
        if enough:
            row.over, row.finish = True, "stop"
            self.drop([row])
        elif output.finished:
            del self._open[output.request_id]
            row.over, row.finish = True, row.finish or "length"
            cut = row.finish == "length" and len(row.ids) < row.request.max_new_tokens
            if cut or told.finish_reason not in ("stop", "length"):
                raise ReplicaError(
                    f"vLLM ended an answer after {len(row.ids)} of {row.request.max_new_tokens} tokens without an end "
                    f"token ({told.finish_reason}); expected it to go on"
                )


def _chance(token: int, told: Mapping[int, Any], most: int) -> TokenChance:
    """One step of vLLM's log-probabilities: of the token itself, then of the likeliest ones, which may be it again."""
    likeliest = sorted(told.items(), key=lambda one: (-one[1].logprob, one[0]))[:most]
    return TokenChance(token, float(told[token].logprob), tuple((int(one), float(x.logprob)) for one, x in likeliest))
