"""Building a transformers model straight on its device and in its dtype, without initialising or copying weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from hero_ray.core.errors import CheckpointError

META = torch.device("meta")


def build(model_class: Any, config: Any, device: torch.device, dtype: torch.dtype, attention: str) -> Any:
    """A model of undefined weights on `device` (shapes only on meta); buffers are computed, weights are for `fill`."""
    config._attn_implementation = attention
    with META:
        model = model_class(config)
    model.set_attn_implementation(attention)
    model = model.to(dtype).eval().requires_grad_(False)
    if device != META:
        place(model, device)
    return model


def place(model: Any, device: torch.device, but: str = "") -> None:
    """Give a model of shapes its memory: weights stay undefined, derived buffers are computed.

    Args:
        but: name of a part that stays shapes.
    """
    owner, _, name = but.rpartition(".")
    apart = model.get_submodule(but) if but else None
    if apart is not None:
        setattr(model.get_submodule(owner), name, nn.Identity())
    model.to_empty(device=device)
    model.tie_weights()
    restore_buffers(model, device)
    if apart is not None:
        setattr(model.get_submodule(owner), name, apart)


def restore_buffers(model: nn.Module, device: torch.device) -> None:
    """Recompute the buffers that no checkpoint holds: position ids and rotary frequencies (kept in fp32).

    Raises:
        CheckpointError: a derived buffer this version of transformers added and we do not know.
    """
    for module in model.modules():
        derived = module._non_persistent_buffers_set & set(module._buffers)
        if "inv_freq" in derived:
            fresh = type(module)(module.config)
            for name in derived:
                module._buffers[name] = fresh.get_buffer(name).to(device)
            derived = set()
        for name in derived:
            buffer = module._buffers[name]
            if name != "position_ids" or buffer is None:
                raise CheckpointError(f"{type(module).__name__}.{name} is a derived buffer we cannot recompute")
            module._buffers[name] = torch.arange(buffer.shape[-1], device=device).expand(buffer.shape).clone()


@torch.no_grad()
def randomise(model: nn.Module, seed: int) -> None:
    """Seeded random weights, drawn on the model's own device: norms 1, biases 0, matrices N(0, 1 / fan_in).

    Activations keep their scale through all blocks, so half precision neither overflows nor dies.
    """
    device = next(model.parameters()).device
    if device == META:
        return
    generator = torch.Generator(device=device)
    generator.manual_seed(seed)
    for name, weight in model.named_parameters():
        if weight.dim() < 2:
            is_scale = name.endswith("weight") or "lambda" in name
            weight.fill_(1.0 if is_scale else 0.0)
        else:
            weight.normal_(0.0, weight[0].numel() ** -0.5, generator=generator)
