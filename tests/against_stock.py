"""A loaded checkpoint held against transformers' own class: no-op logits and greedy tokens."""

import numpy as np
import torch
from PIL import Image

from hero_ray.core.encoded import Needs, keep_all
from hero_ray.engine.vlm import VisionLanguageModel
from hero_ray.methods import create, get, names
from hero_ray.methods.kit.conformance import check_method
from hero_ray.models.base import Request
from tests.checkpoints import ID

SIZES = [(56, 56), (90, 300)]
QUESTIONS = ["what colour is it?", "how many objects are in the picture on the left? Answer with one word."]


def picture(width=200, height=90, seed=0):
    """Noise; equal seeds give equal pictures."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8))


def requests_of(adapter, tokens=8):
    made = []
    for index, size in enumerate(SIZES):
        encoded = adapter.encode(adapter.prepare(picture(*size, index)), Needs())
        visual = adapter.assemble(encoded, keep_all(encoded.layout), "unpadded_rows")
        made += [Request(adapter.prompt(question), visual, tokens) for question in QUESTIONS]
    return made


def whole(stock, request):
    embeds = stock.get_input_embeddings()
    parts = [embeds(torch.tensor(request.prompt.prefix)), request.visual, embeds(torch.tensor(request.prompt.suffix))]
    return torch.cat([part.to(request.visual.dtype) for part in parts])[None]


def aligned(stock):
    """Weights in memory of their own: mapped from a file, they lie where kernels round otherwise."""
    for weight in stock.parameters():
        weight.data = weight.data.clone()
    return stock.eval()


def check_against(stock, ours, ends):
    """No-op logits equal stock's exactly, greedy tokens equal stock's, alone and together."""
    assert ours.decoder.end >= {ID[token] for token in ends}
    requests = requests_of(ours)
    expected = []
    for request in requests:
        embeds = whole(stock, request)
        mask = torch.ones(embeds.shape[:2], dtype=torch.long)
        with torch.no_grad():
            logits = stock(inputs_embeds=embeds, attention_mask=mask, logits_to_keep=1).logits[0]
        assert (ours.decoder.prefill([request]).logits - logits).abs().max().item() == 0.0
        ids = stock.generate(
            inputs_embeds=embeds,
            attention_mask=mask,
            do_sample=False,
            max_new_tokens=8,
            eos_token_id=sorted(ours.decoder.end),
            pad_token_id=ID["<pad>"],
        )[0].tolist()
        expected.append(ids[: next((i for i, token in enumerate(ids) if token in ours.decoder.end), len(ids))])
    assert len({token for ids in expected for token in ids}) > 8
    for options in ({"batch_size": 1, "share_prefix": False}, {"share_prefix": False}, {"share_prefix": True}):
        assert [list(answer.token_ids) for answer in ours.generate(requests, **options)] == expected, options


def every_method_keeps_its_promises(ours, image):
    """At R = 1 every method and variant answers as the unpruned model; at 0.4 it runs and drops only."""
    vlm = VisionLanguageModel(ours)
    full = vlm.generate(image, "is it red", max_new_tokens=4)
    for name in names():
        for variant in get(name).variants:
            method = create(name, variant=variant)
            same = vlm.generate(image, "is it red", method=method, retention_ratio=1.0, max_new_tokens=4)
            assert same.generation.token_ids == full.generation.token_ids, name
            less = vlm.generate(image, "is it red", method=method, retention_ratio=0.4, max_new_tokens=2)
            per_layer = list(less.tokens.visual_per_layer)
            assert per_layer == sorted(per_layer, reverse=True), (name, variant)
            if method.stage != "before-llm":
                continue
            needs, prompt = method.needs(ours.vision), ours.prompt("is it red")
            encoded = ours.ask(ours.encode(ours.prepare(image), needs), "is it red", needs, prompt)
            check_method(method, encoded, 0.4)
