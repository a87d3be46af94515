"""What readers look for here and do not find, with the reason: the last section of docs/methods.md."""

from __future__ import annotations

TRAINED = "trained: it is nothing without weights of its own, and a method here changes none"
ANNOUNCED = "its repository announces code and holds none, and nothing here is rebuilt from an abstract"
INSIDE = "it prunes inside the vision tower, where methods here only look"

ABSENT: tuple[tuple[str, str, str], ...] = (
    ("DynamicViT", "arXiv 2106.02034", TRAINED),
    ("EViT", "arXiv 2202.07800", TRAINED),
    ("EvoPrune", "2025", INSIDE),
    ("FlexAttention", "arXiv 2407.20228, UMass-Foundation-Model/FlexAttention", TRAINED),
    ("FlowCut", "arXiv 2505.19536", INSIDE),
    ("HiDrop", "2026", TRAINED),
    ("Honeybee", "arXiv 2312.06742", TRAINED),
    ("Q-Former", "BLIP-2, arXiv 2301.12597", TRAINED),
    ("TokenCorrCompressor", "arXiv 2407.14439, JiuTian-VL/TokenCorrCompressor @0773758", ANNOUNCED),
    ("TokenPacker", "arXiv 2407.02392", TRAINED),
    ("ZOO-Prune", "CVPR 2026", "it runs the projector again on perturbed tokens, which a method here cannot ask for"),
)
"""(name, where it is described, why it is no method here)."""
