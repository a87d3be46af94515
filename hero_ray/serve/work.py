"""What a request costs, known before it is begun, and whether anyone still waits for it."""

from __future__ import annotations

from hero_ray.benchmarks.images import size_of
from hero_ray.serve.problems import Problem, problem_from
from hero_ray.serve.settings import Limits

TOKENS_PER_MEGAPIXEL = 10
"""New tokens that cost as much as a million pixels: decoding and cutting those takes a core some 0.05 s."""


def megapixels(picture: bytes | None, limits: Limits, param: str) -> float:
    """Millions of pixels by the picture's header; 0 without a picture.

    Raises:
        Problem: 400; not a picture, or one beyond the limit.
    """
    if picture is None:
        return 0.0
    try:
        width, height = size_of(picture, limits.pixels)
    except Exception as error:
        problem = problem_from(error)
        problem.param = param
        raise problem from None
    return width * height / 1e6


def work_of(size: float, prunings: int, new_tokens: float, limits: Limits) -> float:
    """Work of a request: `prunings` x (megapixels + new tokens / `TOKENS_PER_MEGAPIXEL`).

    Args:
        size: megapixels.
        new_tokens: of all answers that may have to be made.

    Raises:
        Problem: 400; more than one request may ask for.
    """
    work = prunings * (size + new_tokens / TOKENS_PER_MEGAPIXEL)
    if work > limits.work:
        raise Problem(
            400,
            f"this request's work is {work:.0f}, the limit is {limits.work:g}: {prunings} pruning(s) x ({size:.1f} "
            f"megapixels + {new_tokens:.0f} new tokens / {TOKENS_PER_MEGAPIXEL}); send a smaller picture, fewer "
            "prunings or answers, or a lower max_tokens",
            code="too_much_work",
        )
    return work


class Caller:
    """Who waits for an answer. A replica asks between its steps whether that is still so."""

    def __init__(self) -> None:
        self.gone = False

    def check(self) -> None:
        """Raises: Problem: nobody waits any more; what is left of the work is not worth doing."""
        if self.gone:
            raise Problem(499, "the client went away")
