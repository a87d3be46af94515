"""Vectors that the authors' own code gave on inputs anyone can draw again: tests/golden/official_vectors.json.

Inputs are uniform numbers of numpy's frozen legacy generator, float64: `uniform(seed, *shape)`. A vector's `inputs`
say which, and what is made of them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

_PATH = Path(__file__).parent / "golden" / "official_vectors.json"
OFFICIAL: dict[str, dict[str, Any]] = json.loads(_PATH.read_text())


def uniform(seed: int, *shape: int) -> Tensor:
    """Numbers in [0, 1), the same on every machine: float64."""
    return torch.from_numpy(np.random.RandomState(seed).random_sample(shape))


def attention(seed: int, *shape: int) -> Tensor:
    """Rows of attention: softmax of 4 times uniform numbers over the last dimension."""
    return torch.softmax(4 * uniform(seed, *shape), -1)
