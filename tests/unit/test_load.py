"""Servers under load: who is asked what and when, what is made of it, and what is said of failures."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from hero_ray.benchmarks import get
from hero_ray.core.config import build
from hero_ray.core.errors import ConfigError, EndpointError
from hero_ray.engine.endpoint import ALLOWED, Reply
from hero_ray.profiling import load, load_cells, load_tables
from hero_ray.profiling.job import is_profile_file, read_records, store_records, write_records
from hero_ray.results.load import by_cell, gains_of, is_load
from hero_ray.serve import load as serve_load
from hero_ray.store import figures, open_store

BENCHMARK = get("synth-attribute", num_images=4, questions_per_image=2)


class Pretended:
    """A server of so many milliseconds an answer, which notes how many were under way."""

    url = "http://127.0.0.1:1/v1"

    def __init__(self, ms: float, answer: str = "red", refuse: int = 0) -> None:
        self.ms, self.answer_text, self.refuse = ms, answer, refuse
        self.asked: list[bytes] = []
        self.under_way = self.most = 0
        self._lock = threading.Lock()

    def find_served(self) -> str:
        return "m"

    def prepared(self, picture: str, text: str, max_tokens: int, more: Any) -> bytes:
        return json.dumps([text, max_tokens, more]).encode()

    def answer(self, body: bytes) -> Reply:
        with self._lock:
            self.asked.append(body)
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            refused = len(self.asked) <= self.refuse
        time.sleep(0.002)
        with self._lock:
            self.under_way -= 1
        if refused:
            raise EndpointError("answered 429: full")
        return Reply(self.answer_text, 9, 3, self.ms, self.ms + 4)


def job(*servers: Pretended, **more: Any) -> load.Loading:
    names = ("full", "cut")[: len(servers)]
    contenders = tuple(
        load.LoadedCell(f"{name}@100%", server, params={"flag": name})  # type: ignore[arg-type]
        for name, server in zip(names, servers, strict=True)
    )
    questions = load.questions_of(BENCHMARK, "llava-next", 4)
    options: dict[str, Any] = {"clients": (1, 3), "requests": 4, "rounds": 2, "warmup": 1} | more
    return load.Loading(contenders, BENCHMARK, questions, **options)


def test_rounds_are_asked_in_turn_by_as_many_clients_as_said() -> None:
    servers = Pretended(10), Pretended(5)
    made = job(*servers)
    found = load.measure(made)
    assert set(found) == {1, 3}
    assert [len(one.asked) for rounds in found[3] for one in rounds] == [6] * 4, "twice the clients at least"
    assert [len(server.asked) for server in servers] == [1 + 2 * 4 + 3 + 2 * 6] * 2
    assert all(server.most <= 3 for server in servers)
    for clients in (1, 3):
        for one, other in zip(*found[clients], strict=True):
            assert [s.key for s in one.asked] == [s.key for s in other.asked], "pairs ask the same"
    texts = {json.loads(body)[0] for body in servers[0].asked}
    assert texts == {question.prompt for question in made.questions}


def bursts(rates: list[float], ttft: float, fail: int = 0, text: str = "red") -> list[load.Burst]:
    samples = tuple(BENCHMARK.samples())[:4]
    replies: list[Any] = [Reply(text, 9, 3, ttft + i, ttft + i + 4) for i in range(4)]
    said = (*["answered 429: full"] * fail, *replies[fail:])
    return [load.Burst(4 / rate, samples, said) for rate in rates]


def test_records_say_rates_scores_and_gains() -> None:
    made = job(Pretended(1), Pretended(1))
    base, cut = bursts([10, 20, 15], 100), bursts([15, 30, 22.5], 50)
    full, other = load.records(made, {8: [base, cut]})
    assert (full["batch_size"], full["n"], full["ttft_ms_p50"], full["tpot_ms_p50"]) == (8, 12, 101.5, 2.0)
    told = other["details"]["load"]
    assert told["requests_per_s"] == pytest.approx(22.5)
    assert told["requests_per_s_low"] < 22.5 < told["requests_per_s_high"]
    assert told["rounds_requests_per_s"] == pytest.approx([15, 30, 22.5])
    assert told["over_base"]["requests_per_s"]["ratio"] == pytest.approx(1.5)
    assert told["over_base"]["ttft_ms_p95"]["ratio"] == pytest.approx(102.85 / 52.85)
    assert full["details"]["load"]["over_base"] is None
    right = [sample.references[0] == "red" for sample in BENCHMARK.samples()][:4]
    assert told["score"] == pytest.approx(sum(right) / 4)
    assert (told["completion_tokens"], told["prompt_tokens_mean"], told["failed"]) == (36, 9.0, 0)
    unscored = load.records(job(Pretended(1), scored=False), {8: [base]})
    assert unscored[0]["details"]["load"]["score"] is None


def test_what_is_refused_counts_for_nothing_and_hides_no_gain() -> None:
    server = Pretended(1, refuse=2)
    (only,) = load.records(made := job(server, clients=(1,), rounds=1, warmup=0), load.measure(made))
    told = only["details"]["load"]
    assert (told["failed"], told["requests"], told["errors"]) == (2, 4, {"answered 429: full": 2})
    assert only["n"] == 2
    _, cut = load.records(job(server, server), {8: [bursts([10, 20], 100), bursts([90, 90], 50, fail=1)]})
    assert cut["details"]["load"]["over_base"] is None
    nobody = load.records(job(server), {8: [bursts([1], 1, fail=4)]})[0]
    assert (nobody["ttft_ms_p95"], nobody["n"], nobody["details"]["load"]["score"]) == (None, 0, None)


def test_records_go_through_a_file_into_the_database_and_back(tmp_path: Path) -> None:
    made = job(Pretended(1), Pretended(1))
    rounds = {
        1: [bursts([10, 11, 10], 50), bursts([15, 16, 15], 40)],
        8: [bursts([20, 21, 20], 90), bursts([10, 11, 10], 99)],
    }
    certificate = load_cells.conditions(made, True, **load_cells.of_servers(made.contenders))
    written = load_cells.written(load.records(made, rounds), certificate, "endpoint:http://x/v1", "endpoint", "m")
    write_records(tmp_path / "l.jsonl", written)
    assert is_profile_file(tmp_path / "l.jsonl")
    with open_store(str(tmp_path / "r.db")) as store:
        run = store_records(store, read_records(tmp_path / "l.jsonl"))
        rows = store.read(figures.profiles, [run])
    assert len(rows) == 4
    assert all(is_load(row) for row in rows)
    assert {row["benchmark"] for row in rows} == {"synth-attribute"}
    assert len({row["certificate_hash"] for row in rows}) == 1
    groups = by_cell([row | {"key": row["details"]["key"]} for row in rows])
    places, gains = gains_of(groups["cut@100%", 1.0], "requests_per_s")
    assert (places, [one.word for one in gains]) == ([1, 8], ["pays", "costs"])
    assert gains_of(groups["full@100%", 1.0], "requests_per_s") == ([], [])
    table, pays = str(load_tables.load_table(written)), str(load_tables.pays_table(written))
    assert "x1.48 [" in table
    assert "pays at 1, costs at 8" in pays
    assert str(load_tables.pays_table(written[:1])) == ""


def test_conditions_tell_loads_apart_but_not_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    made = job(Pretended(1))
    plain = load_cells.conditions(made, True, engine="x")
    monkeypatch.setattr(load_cells, "commit", lambda: "another")
    assert load_cells.conditions(made, True, engine="x")["hash"] == plain["hash"]
    assert load_cells.conditions(made, False, engine="x")["hash"] != plain["hash"]
    assert load_cells.conditions(made, True, engine="y")["hash"] != plain["hash"]


def test_our_service_is_asked_with_pruning_and_whole_answers() -> None:
    config = build({"tasks": "synth-digits", "methods": "fastervlm,hero:alpha=0.7", "budgets": "0.2,32tok"})
    found = load_cells.own_contenders(config, "http://127.0.0.1:9/v1", False)
    assert [one.key for one in found[:2]] == ["full@100%", "fastervlm@20%"]
    assert found[0].body["pruning"]["method"] == "full"
    assert "retention_ratio" not in found[0].body["pruning"]
    assert found[1].body["pruning"]["retention_ratio"] == 0.2
    assert found[1].body["stream"] is False
    assert found[-1].body["pruning"] | {"tokens": 32, "alpha": 0.7} == found[-1].body["pruning"]
    with pytest.raises(ConfigError, match="newline policy"):
        load_cells.own_contenders(
            build({"tasks": "synth-digits", "newline_policy": "none"}), "http://127.0.0.1:9/v1", False
        )


def test_servers_are_held_against_an_unpruned_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ALLOWED, "http://127.0.0.1:9")
    arguments = {"served": "m", "flag": "--rate 0.8"}
    found = load_cells.endpoint_contenders(
        "endpoint:http://127.0.0.1:9/v1", arguments, "endpoint:http://127.0.0.1:9/plain/v1", True
    )
    assert [(one.key, one.endpoint.flag, one.endpoint.attempts) for one in found] == [
        ("full@100%", "", 1),
        ("--rate 0.8@100%", "--rate 0.8", 1),
    ]
    assert found[1].params["flag"] == "--rate 0.8"
    same = "endpoint:http://127.0.0.1:9/v1"
    with pytest.raises(ConfigError, match="held against itself"):
        load_cells.endpoint_contenders(same, {"served": "m"}, same, True)
    with pytest.raises(ConfigError, match="not among the endpoints"):
        load_cells.endpoint_contenders("endpoint:http://elsewhere/v1", arguments, None, True)


def test_a_load_wants_one_model_and_one_benchmark() -> None:
    two = build({"models": "hero-tiny,hero-tiny-internvl", "tasks": "synth-attribute"})
    with pytest.raises(ConfigError, match="one model and one benchmark"):
        serve_load.run(serve_load.LoadRequest(two, (1,)))
    own = build({"tasks": "synth-attribute"})
    with pytest.raises(ConfigError, match="--against goes with an endpoint"):
        serve_load.run(serve_load.LoadRequest(own, (1,), against="endpoint:http://x/v1"))
    assert serve_load.service_settings("hero-tiny", {}, 64, "cpu").limits.queued == 128
    assert serve_load.service_settings("hero-tiny", {}, 1, "cuda").gpus_per_replica == 1.0


def test_the_service_that_never_comes_up_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve_load, "READY_S", 0.0)
    with pytest.raises(Exception, match="did not read its model"):
        serve_load._wait("http://127.0.0.1:9/readyz")
