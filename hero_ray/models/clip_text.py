"""The CLIP side of text-aware methods: a text tower, both projections, and how long questions are cut.

CLIP sees 77 positions, begin and end token included; a longer question is truncated or cut into pieces on purpose and
never silently. Shape letters: P width of the shared space.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from hero_ray.core.errors import ParameterError
from hero_ray.models.taps import normalised

log = logging.getLogger(__name__)

TextPolicy = Literal["truncate", "tail", "chunk_mean", "chunk_max"]


@dataclass
class ClipSide:
    """Text tower and projections that pair with a vision tower.

    Attributes:
        text_model: transformers' `CLIPTextModelWithProjection`.
        visual_projection: [P, C] weight applied to the tower's normed CLS embedding.
        encode: text -> ids with begin and end token.
        positions: positions of the text tower (77).
        policy: what happens to a longer text.
        vision_model: CLIP's own vision tower where the model's is not to be trusted (`clip_vision="openai"`), or None.
    """

    text_model: Any
    visual_projection: Tensor
    encode: Callable[[str], list[int]]
    positions: int
    policy: TextPolicy = "truncate"
    vision_model: Any = None
    _known: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.policy not in get_args(TextPolicy):
            raise ParameterError(f"clip_text={self.policy!r} is unknown; use one of {', '.join(get_args(TextPolicy))}")

    @torch.no_grad()
    def text(self, text: str) -> Tensor:
        """Unit text embeddings [pieces, P]; one piece unless the policy is `chunk_max` and the text is long."""
        if text not in self._known:
            if len(self._known) >= 4096:
                self._known.clear()
            self._known[text] = self._embed(text)
        return self._known[text]

    def forget(self) -> None:
        """Drop remembered texts: a request that is timed must pay for its own."""
        self._known.clear()

    def score(self, embeddings: Tensor, text: str) -> Tensor:
        """Cosine of image-side embeddings [..., P] with a text, the best piece counts; fp32, no logit scale."""
        return (normalised(embeddings) @ self.text(text).to(embeddings.device).T).amax(-1)

    @torch.no_grad()
    def words(self, text: str) -> Tensor:
        """Every token of a text in the shared space, [Q, P], fp32; pieces of a long one after another."""
        tower = self.text_model
        states = [tower.text_model(input_ids=ids).last_hidden_state[0] for ids in self._pieces(text)]
        return tower.text_projection(torch.cat(states)).float()

    def project(self, cls: Tensor, norm: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """CLIP's image side from CLS (or patch) states: post-norm, then projection; [..., P] in fp32."""
        return (norm(cls) if norm else cls).float() @ self.visual_projection.to(cls.device).float().T

    def _embed(self, text: str) -> Tensor:
        embeddings = normalised(torch.cat([self.text_model(input_ids=ids).text_embeds for ids in self._pieces(text)]))
        if self.policy == "chunk_mean":
            embeddings = normalised(embeddings.mean(0, keepdim=True))
        return embeddings

    def _pieces(self, text: str) -> list[Tensor]:
        """Token ids [1, length] of the pieces that the policy makes of a text."""
        begin, *body, end = self.encode(text)
        room = self.positions - 2
        if len(body) <= room:
            pieces = [body]
        elif self.policy in ("truncate", "tail"):
            log.info("question of %d CLIP tokens cut to %d (%s)", len(body), room, self.policy)
            pieces = [body[:room] if self.policy == "truncate" else body[-room:]]
        else:
            pieces = [body[start : start + room] for start in range(0, len(body), room)]
        device = next(self.text_model.parameters()).device
        return [torch.tensor([[begin, *piece, end]], device=device) for piece in pieces]
