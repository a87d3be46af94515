"""`hero-ray doctor`: facts of the installation and the batch-invariance certificate."""

import json
import re

import pytest
import torch
from typer.testing import CliRunner

from hero_ray import models
from hero_ray.cli import app, load_verbs
from hero_ray.models import miniature
from hero_ray.models.invariance import certify, drawn_picture


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.set_num_threads(1)
    return str(miniature.write_llava(miniature.llava_next(), tmp_path_factory.mktemp("doctor")))


def test_fp32_answers_do_not_depend_on_the_batch(folder):
    found = certify(models.load(folder, device="cpu"), samples=6, new_tokens=5)
    assert found.is_invariant
    assert found.samples == 6
    assert 0 <= found.logit_diff < 1e-4 < found.logit_std


def test_bf16_logits_move_more_than_fp32(folder):
    single, half = (
        certify(models.load(folder, device="cpu", dtype=dtype), samples=4, new_tokens=3)
        for dtype in ("float32", "bfloat16")
    )
    assert half.dtype == "bfloat16"
    assert half.logit_diff > 10 * single.logit_diff


def test_a_flip_is_counted(folder):
    adapter = models.load(folder, device="cpu")
    whole = adapter.generate

    def moody(requests, **options):
        answers = whole(requests, **options)
        if options["batch_size"] == 1:
            return answers
        return [type(answer)(**{**vars(answer), "token_ids": (*answer.token_ids, 9)}) for answer in answers]

    adapter.generate = moody
    found = certify(adapter, samples=4, new_tokens=3)
    assert (found.batched, found.neighbours, found.shared) == (1.0, 0.0, 0.0)
    assert not found.is_invariant


def test_probe_pictures_are_the_same_everywhere():
    assert drawn_picture(1).tobytes() == drawn_picture(1).tobytes()
    assert drawn_picture(1).size == (480, 640)


def test_the_verb_prints_facts_and_ends_with_json(folder):
    load_verbs()
    done = CliRunner().invoke(
        app, ["doctor", "--model", folder, "--dtype", "float32,bfloat16", "--samples", "2", "--new_tokens", "2"]
    )
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout.strip().splitlines()[-1])
    assert record["environment"]["torch"] == torch.__version__
    assert re.fullmatch(r"[0-9a-f]{16}", record["environment"]["versions"])
    assert record["environment"]["lock"] == "same versions" or " (lock: " in record["environment"]["lock"]
    assert [certificate["dtype"] for certificate in record["certificates"]] == ["float32", "bfloat16"]
    assert record["certificates"][0]["batched"] == 0.0
