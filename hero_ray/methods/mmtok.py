"""MMTok: tokens that cover the question's words and the picture together (arXiv 2508.18264).

Per view, one after another, the token j with the largest gain in coverage: the sum over all words and tokens i of
max(0, s_ij - m_i), with m_i the largest s_ij of those chosen. For a word s is the softmax over the view's tokens of its
cosines with projected tokens (temperature .02), over the number of words; for a token the softmax of its cosines with
the others before the projector (.2), over the number of tokens, times alpha = .5. Words are input embeddings of the
LLM. Follows Ironieser/MMTok @d1522cd (`mmtok/core/semantic_selector.py`).

Differs: the budget is split evenly over views under their real token count and padding takes no part; newlines follow
the sweep's policy. Words are all tokens of the question as the prompt has them, where the code drops stop words and
tokenises the others one by one.
"""

from __future__ import annotations

from dataclasses import dataclass

from hero_ray.core.encoded import Budget, Encoded, Needs, Selection, VisionInfo, keep_all
from hero_ray.core.errors import SelectionError
from hero_ray.core.lazy import Tensor, torch
from hero_ray.core.looks import on_host
from hero_ray.methods.base import Method
from hero_ray.methods.kit.allocation import equal
from hero_ray.methods.kit.covering import covering
from hero_ray.methods.kit.scores import caps, finite
from hero_ray.methods.kit.similarity import cosines


@dataclass(frozen=True)
class MMTok(Method):
    """Multimodal coverage."""

    alpha: float = 0.5
    word_temperature: float = 0.02
    token_temperature: float = 0.2

    name = "mmtok"
    reads = "projected tokens"
    paper = "MMTok, arXiv 2508.18264"
    text_aware = True

    def check(self) -> None:
        self.require(0.0 <= self.alpha <= 1e6, "alpha", "a weight in [0, 1e6]")
        for field in ("word_temperature", "token_temperature"):
            self.require(getattr(self, field) > 0.0, field, "a positive temperature")

    def needs(self, vision: VisionInfo) -> Needs:
        return Needs(projector_input=True, llm_words=True)

    def select(self, encoded: Encoded, budget: Budget) -> Selection:
        layout, question = encoded.layout, encoded.question
        if budget.is_full:
            return keep_all(layout)
        if encoded.projector_input is None or question is None or question.llm_words is None:
            raise SelectionError("mmtok reads the projector's input and the question's words, which were not captured")
        source = finite(encoded.projector_input, self.name, "the projector's input")
        features = finite(encoded.features, self.name, "projected features")
        words = finite(question.llm_words, self.name, "the question's words").to(features.device)
        words = torch.nn.functional.normalize(words, dim=-1)
        counts = equal(budget.total, caps(layout.valid))
        keep = torch.zeros(layout.valid.shape, dtype=torch.bool)
        places = {view: layout.valid[view].nonzero()[:, 0] for view, count in enumerate(counts) if count}
        shares = []
        for view, place in places.items():
            whole = len(place) == layout.tokens_per_view  # then nothing has to be copied
            real = slice(None) if whole else place.to(features.device)
            shares.append(self.coverage(features[view][real], source[view][real], words))
        for (view, real), seen in zip(places.items(), on_host(shares), strict=True):
            keep[view, real[covering(seen.T, torch.ones_like(seen[0]), counts[view])]] = True
        return Selection(keep, view_budgets=tuple(counts))

    def coverage(self, features: Tensor, source: Tensor, words: Tensor) -> Tensor:
        """How much each of n tokens covers words and tokens: [Q + n, n].

        Args:
            features: [n, D] projected; source: [n, C] the same before; words: [Q, D], of length 1.
        """
        to_words = words @ torch.nn.functional.normalize(features, dim=-1).to(words.dtype).T
        by_words = to_words.div_(self.word_temperature).softmax(1).div_(len(words))
        by_tokens = cosines(source).div_(self.token_temperature).softmax(1).div_(len(source)).mul_(self.alpha)
        return torch.cat([by_words.to(by_tokens.dtype), by_tokens])
