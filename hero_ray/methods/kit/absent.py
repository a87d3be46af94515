"""What readers look for here and do not find, with the reason: the last section of docs/methods.md."""

from __future__ import annotations

TRAINED = "trained: it is nothing without weights of its own, and a method here changes none"
UNREAD = "neither its code nor its paper could be read, and nothing here is rebuilt from memory"
INSIDE = "it prunes inside the vision tower, where methods here only look"

ABSENT: tuple[tuple[str, str, str], ...] = (
    ("DynamicViT", "arXiv 2106.02034", TRAINED),
    ("EViT", "arXiv 2202.07800", TRAINED),
    ("EvoPrune", "2025", INSIDE),
    (
        "FEATHER",
        "arXiv 2412.13180, markendo/FEATHER @c2a09b2",
        "not built yet: it reads q and k before RoPE, and the grid of one square view",
    ),
    (
        "FitPrune",
        "arXiv 2409.10197, ywh187/FitPrune @d28e418",
        "not built yet: a calibrated schedule, which needs a search of its own beside G-Search's",
    ),
    ("FlexAttention", "arXiv 2407.20228, UMass-Foundation-Model/FlexAttention", TRAINED),
    ("FlowCut", "arXiv 2505.19536", INSIDE),
    ("HiDrop", "2026", TRAINED),
    ("Honeybee", "arXiv 2312.06742", TRAINED),
    (
        "IVC-Prune",
        "arXiv 2602.03060, FireRedTeam/IVC-Prune @03afd9c",
        "not built yet: it reads the LLM's values, which in-LLM methods are not shown",
    ),
    ("Q-Former", "BLIP-2, arXiv 2301.12597", TRAINED),
    ("TokenCorrCompressor", "for documents, training-free", UNREAD),
    ("TokenPacker", "arXiv 2407.02392", TRAINED),
    (
        "TransPrune",
        "arXiv 2507.20630, liaolea/TransPrune @c9e8284",
        "not built yet: it reads what attention and MLP make of a token inside a block",
    ),
    ("ZOO-Prune", "CVPR 2026", "it runs the projector again on perturbed tokens, which a method here cannot ask for"),
)
"""(name, where it is described, why it is no method here)."""
