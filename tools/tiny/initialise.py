"""Start projector and language model where gradients flow from the first step."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

EMBEDDING_SCALE = 0.05
ALIGN_STEPS = 90
ALIGN_PEAK = 3e-3


def whitening(sample: Tensor) -> tuple[Tensor, Tensor]:
    """Mean `[width]` and symmetric whitening matrix `[width, width]` of a feature sample `[..., width]`.

    Tower features have means of 10 and eigenvalues over three decades, which a fresh projector cannot see past.
    """
    flat = sample.flatten(0, -2).double()
    mean = flat.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov((flat - mean).t()))
    return mean, vectors @ torch.diag((values + 1e-3 * values.max()).rsqrt()) @ vectors.t()


@torch.no_grad()
def initialise_projector(first: nn.Linear, second: nn.Linear, sample: Tensor) -> None:
    """Whiten inside the first layer; unit gain in the second.

    Args:
        sample: What enters the first layer, `[..., first.in_features]`.
    """
    mean, whiten = whitening(sample)
    spread = torch.randn(first.out_features, first.in_features, dtype=torch.double) / first.in_features**0.5
    first.weight.copy_(spread @ whiten)
    first.bias.copy_(-(spread @ whiten @ mean))
    second.weight.normal_(0, second.in_features**-0.5)
    second.bias.zero_()


def word_targets(labels: Tensor, words: Sequence[Sequence[int | None]], vocabulary: int) -> Tensor:
    """Which words each visual token shows, 0 or 1, `[views, tokens, vocabulary]`.

    Args:
        labels: Patch labels `[views, heads, patches per token, tokens]`, 0 for "none".
        words: For each of the first heads, the word id of every label from 1 on; None where it is no single token.
    """
    views, _, _, tokens = labels.shape
    targets = torch.zeros(views, tokens, vocabulary)
    for head, ids in enumerate(words):
        for label, word in enumerate(ids, start=1):
            if word is not None:
                targets[:, :, word] += (labels[:, head] == label).any(1)
    return targets.clamp_(max=1)


def align_projector(
    projector: nn.Module,
    embedding: nn.Embedding,
    features: Tensor,
    targets: Tensor,
    steps: int = ALIGN_STEPS,
    views: int = 80,
) -> None:
    """Point projected tokens at the embeddings of the words they show; the language model stays untouched.

    Saves about a hundred steps of stage B. `embedding` is redrawn with the scale the language model starts from.

    Args:
        steps: how many, of `views` views each.
    """
    words = torch.randn_like(embedding.weight)
    bias = nn.Parameter(torch.full((len(words),), -3.0))
    adam = torch.optim.AdamW([*projector.parameters(), bias], lr=ALIGN_PEAK)
    for step in range(steps):
        for group in adam.param_groups:
            group["lr"] = ALIGN_PEAK * min(1.0, (step + 1) / 10) * (1 - 0.9 * step / steps)
        chosen = torch.randint(len(features), (views,))
        projected = projector(features[chosen])
        power = projected.square().mean(-1, keepdim=True)
        logits = 1.5 * projected * torch.rsqrt(power + 1e-6) @ words.t() / words.shape[1] ** 0.5 + bias
        wanted = targets[chosen]
        loss = functional.binary_cross_entropy_with_logits(logits, wanted, 1 + 4 * wanted, reduction="none")
        adam.zero_grad(set_to_none=True)
        (loss.sum(-1).mean() + 0.02 * (power.mean() - 1).square()).backward()  # type: ignore[no-untyped-call]
        adam.step()
    with torch.no_grad():
        embedding.weight.copy_(EMBEDDING_SCALE * words)


@torch.no_grad()
def initialise_llama(language_model: nn.Module, head: nn.Linear) -> None:
    """Fan-in scaled matrices, small embeddings, quiet MLP outputs.

    The library's 0.02 leaves a model this narrow at chance for hundreds of steps.
    """
    language_model.embed_tokens.weight.normal_(0, EMBEDDING_SCALE)  # type: ignore[union-attr, operator]
    head.weight.normal_(0, 0.3 * head.in_features**-0.5)
    for layer in language_model.layers:  # type: ignore[union-attr]
        attention, mlp = layer.self_attn, layer.mlp
        for part in (
            attention.q_proj,
            attention.k_proj,
            attention.v_proj,
            attention.o_proj,
            mlp.gate_proj,
            mlp.up_proj,
        ):
            part.weight.normal_(0, part.in_features**-0.5)
        mlp.down_proj.weight.normal_(0, 0.2 * mlp.down_proj.in_features**-0.5)
