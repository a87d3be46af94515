"""Load: many clients at once, each asking its next question when its last is answered, of every cell in turn.

What pruning saves on one request alone says little of a busy server, which batches, queues and spends time on HTTP.
Every round sends the same questions to every cell, in rotating order (A B C, B C A, ...), so that the i-th rounds of
two cells are a pair. The clients are threads of this process that open a connection for every request, as strangers do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from hero_ray.benchmarks.base import Benchmark, main_score
from hero_ray.core.errors import EndpointError
from hero_ray.core.plan import FULL
from hero_ray.core.types import Sample
from hero_ray.engine.endpoint import Endpoint, Reply, picture_url
from hero_ray.stats.crossing import gain
from hero_ray.stats.intervals import mean_interval, t_quantile

WHOLE = {"stream": False, "stream_options": None}
"""Fields of a body that ask for the answer in one piece, which is what our own service batches."""
BUDGET = {"tokens": None, "base": "real", "newline_policy": "unpadded_rows"}


@dataclass(frozen=True)
class LoadedCell:
    """One cell under load: which server is asked, and what its requests say beside the question.

    Attributes:
        key: METHOD@BUDGET, or the flag of a server that prunes by itself.
        body: further fields of every request.
    """

    key: str
    endpoint: Endpoint
    method: str = FULL
    variant: str = "exact"
    params: Mapping[str, Any] = field(default_factory=dict)
    ratio: float = 1.0
    budget: Mapping[str, Any] = field(default_factory=lambda: dict(BUDGET))
    body: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SentQuestion:
    """One sample as it is sent: its picture as a data URL and its prompt."""

    sample: Sample
    picture: str
    prompt: str


@dataclass(frozen=True)
class Loading:
    """What to ask, of whom, and how hard.

    Attributes:
        contenders: the first is what the others are held against.
        clients: numbers of clients to try, each for all contenders in turn.
        requests: of one round; at least twice as many as there are clients are sent.
        rounds: pairs of rounds behind every gain.
        max_tokens: longest answer.
        scored: whether scores mean anything (random weights have none).
    """

    contenders: tuple[LoadedCell, ...]
    benchmark: Benchmark
    questions: tuple[SentQuestion, ...]
    clients: tuple[int, ...]
    requests: int = 64
    rounds: int = 5
    warmup: int = 1
    max_tokens: int = 16
    scored: bool = True


@dataclass(frozen=True)
class Burst:
    """One round of one contender: who was asked, and the reply or why there was none, in the order sent."""

    seconds: float
    asked: tuple[Sample, ...]
    said: tuple[Reply | str, ...]

    @property
    def replies(self) -> list[Reply]:
        return [one for one in self.said if isinstance(one, Reply)]

    @property
    def per_second(self) -> float:
        """Answered requests a second, from the first request to the last answer."""
        return len(self.replies) / self.seconds


def questions_of(benchmark: Benchmark, family: str, limit: int) -> tuple[SentQuestion, ...]:
    """The first questions of a benchmark, their pictures ready to be sent."""
    found, urls = [], dict[str, str]()
    for sample in islice(benchmark.samples(), limit):
        if sample.image_key not in urls:
            urls[sample.image_key] = picture_url(benchmark.load_image(sample.image_ref))
        found.append(SentQuestion(sample, urls[sample.image_key], benchmark.prompt(sample, family)))
    return tuple(found)


def burst(endpoint: Endpoint, asked: Sequence[tuple[Sample, bytes]], clients: int) -> Burst:
    """Send all requests by so many clients at once."""

    def one(body: bytes) -> Reply | str:
        try:
            return endpoint.answer(body)
        except EndpointError as error:
            return str(error)

    with ThreadPoolExecutor(clients) as threads:
        begun = time.perf_counter()
        said = tuple(threads.map(one, [body for _, body in asked]))
        return Burst(time.perf_counter() - begun, tuple(sample for sample, _ in asked), said)


def measure(job: Loading, progress: Callable[[str], None] = lambda message: None) -> dict[int, list[list[Burst]]]:
    """Clients -> per contender its rounds; round i of every contender asked the same questions."""
    bodies = [
        [(q.sample, one.endpoint.prepared(q.picture, q.prompt, job.max_tokens, one.body)) for q in job.questions]
        for one in job.contenders
    ]
    found = {}
    for clients in job.clients:
        count = max(job.requests, 2 * clients)
        rounds: list[list[Burst]] = [[] for _ in job.contenders]
        for number in range(-job.warmup, job.rounds):
            for place in range(len(job.contenders)):
                which = (place + number) % len(job.contenders)
                own, start = bodies[which], max(0, number) * count
                asked = [own[(start + i) % len(own)] for i in range(count if number >= 0 else clients)]
                made = burst(job.contenders[which].endpoint, asked, clients)
                if number >= 0:
                    rounds[which].append(made)
        found[clients] = rounds
        for contender, own_rounds in zip(job.contenders, rounds, strict=True):
            rate = float(np.mean([one.per_second for one in own_rounds]))
            progress(f"{clients} clients, {contender.key}: {rate:.1f} requests/s")
    return found


def records(job: Loading, measured: Mapping[int, Sequence[Sequence[Burst]]]) -> list[dict[str, Any]]:
    """One profile record, without its certificate, per contender and number of clients."""
    return [
        _record(job, contender, clients, rounds, None if place == 0 else by_contender[0])
        for clients, by_contender in measured.items()
        for place, (contender, rounds) in enumerate(zip(job.contenders, by_contender, strict=True))
    ]


def _record(
    job: Loading, contender: LoadedCell, clients: int, rounds: Sequence[Burst], base: Sequence[Burst] | None
) -> dict[str, Any]:
    replies = [reply for one in rounds for reply in one.replies]
    first, whole = ([getattr(reply, name) for reply in replies] for name in ("ttft_ms", "total_ms"))
    known = [r for r in replies if (r.completion_tokens or 0) > 1 and r.total_ms > r.ttft_ms]
    step = [(r.total_ms - r.ttft_ms) / ((r.completion_tokens or 0) - 1) for r in known]
    per_token = float(np.median(step)) if step else None
    return {
        "key": contender.key,
        "method": contender.method,
        "variant": contender.variant,
        "params": dict(contender.params),
        "retention_ratio": contender.ratio,
        "budget": dict(contender.budget),
        "benchmark": job.benchmark.name,
        "batch_size": clients,
        "new_tokens": 0,
        "n": len(replies),
        "ttft_ms_p50": _percentile(first, 50),
        "ttft_ms_p95": _percentile(first, 95),
        "tpot_ms_p50": per_token,
        "details": {
            "load": {
                **_rates(rounds),
                "answer_ms_p50": _percentile(whole, 50),
                "answer_ms_p95": _percentile(whole, 95),
                **_said(job, rounds),
                "over_base": None if base is None else _over(base, rounds),
            }
        },
    }


def _percentile(values: Sequence[float], share: float) -> float | None:
    return float(np.percentile(values, share)) if values else None


def _rates(rounds: Sequence[Burst]) -> dict[str, Any]:
    """Requests a second with their interval over rounds (Student's t), and what every round says."""
    rates = np.array([one.per_second for one in rounds])
    half = None
    if rates.size > 1:
        half = t_quantile(0.975, rates.size - 1) * float(rates.std(ddof=1)) / rates.size**0.5
    mean = float(rates.mean())
    return {
        "requests_per_s": mean,
        "requests_per_s_low": None if half is None else max(0.0, mean - half),
        "requests_per_s_high": None if half is None else mean + half,
        "rounds_requests_per_s": [round(float(rate), 4) for rate in rates],
        "rounds_ttft_ms_p95": [_percentile([reply.ttft_ms for reply in one.replies], 95) for one in rounds],
    }


def _said(job: Loading, rounds: Sequence[Burst]) -> dict[str, Any]:
    """How good the answers were under this load, what they cost in tokens, and how many never came."""
    pairs = [pair for one in rounds for pair in zip(one.asked, one.said, strict=True)]
    answered = [(sample, said) for sample, said in pairs if isinstance(said, Reply)]
    errors = [said for _, said in pairs if isinstance(said, str)]
    prompts = [reply.prompt_tokens for _, reply in answered if reply.prompt_tokens is not None]
    told: dict[str, Any] = {
        "requests": len(pairs),
        "failed": len(errors),
        "errors": {text: errors.count(text) for text in sorted(set(errors))[:8]},
        "prompt_tokens_mean": float(np.mean(prompts)) if prompts else None,
        "completion_tokens": sum(reply.completion_tokens or 0 for _, reply in answered),
        "metric": job.benchmark.main_metric,
        "score": None,
    }
    if answered and job.scored:
        values = [main_score(job.benchmark, reply.text, sample) for sample, reply in answered]
        found = mean_interval(np.array(values), np.array([sample.image_key for sample, _ in answered]))
        told |= {"score": found.value, "score_low": found.low, "score_high": found.high, "pictures": found.n_clusters}
    return told


def _over(base: Sequence[Burst], rounds: Sequence[Burst]) -> dict[str, Any] | None:
    """Gains over the base, round by round: requests a second, and time to first text (1.2: a fifth sooner).

    None where a request of either failed: what is refused is answered soonest.
    """
    if any(len(one.replies) < len(one.said) for one in (*base, *rounds)):
        return None
    first = [[np.percentile([r.ttft_ms for r in one.replies], 95) for one in side] for side in (base, rounds)]
    return {
        "requests_per_s": asdict(gain([one.per_second for one in base], [one.per_second for one in rounds])),
        "ttft_ms_p95": asdict(gain(first[1], first[0])),
    }
