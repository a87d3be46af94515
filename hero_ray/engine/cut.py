"""From a picture, a question and a pruning to the tokens a model reads: written once, for everyone who asks a model.

The way of a picture: `prepare` cuts it into views, the budget turns a share into a count, `encode` runs the vision
tower, `ask` scores the question, `select` is the method's choice, `assemble` puts what is kept in the LLM's order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial, reduce
from operator import or_
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from hero_ray.core.encoded import Budget, BudgetBase, Encoded, ImagePlan, Needs, Selection, VisionInfo, keep_all
from hero_ray.core.errors import SelectionError
from hero_ray.core.layout import Layout, NewlinePolicy
from hero_ray.core.looks import Looks, ensure
from hero_ray.core.plan import digest
from hero_ray.core.types import Cell, TokenCount
from hero_ray.methods import create
from hero_ray.methods.base import LayerPruner, Method
from hero_ray.models.base import Adapter, Generation, Prepared, Prompt, Request, Visual
from hero_ray.models.finite import refuse_features


@dataclass(frozen=True)
class Pruning:
    """A method at one budget; the cells that differ in nothing but the benchmark share it.

    Attributes:
        ratio: share of visual tokens kept, in (0, 1]; `tokens` is an absolute count instead. Neither keeps all.
        base: what the ratio is a share of. policy: newline tokens that follow the survivors.
    """

    method: Method
    ratio: float | None = None
    tokens: int | None = None
    base: BudgetBase = "real"
    policy: NewlinePolicy = "unpadded_rows"

    @classmethod
    def of(cls, cell: Cell, base: BudgetBase = "real", policy: NewlinePolicy = "unpadded_rows") -> Pruning:
        method = create(cell.method, variant=cell.variant, **cell.params)
        return cls(method, None if cell.tokens is not None else cell.retention_ratio, cell.tokens, base, policy)

    @cached_property
    def key(self) -> str:
        """Equal for equal methods and budgets; orders the answers of a batch."""
        method = self.method
        return digest([method.name, method.variant, method.parameters(), self.ratio, self.tokens])

    def budget(self, layout: Layout) -> Budget:
        """How many tokens of a picture may stay: the one place where a share becomes a count.

        Raises:
            BudgetError: both a ratio and a count, or out of range.
        """
        ratio = 1.0 if self.ratio is None and self.tokens is None else self.ratio
        return Budget.of(layout, ratio=ratio, tokens=self.tokens, base=self.base)

    def needs(self, vision: VisionInfo, budget: Budget) -> Needs:
        """What the method reads of a picture; nothing where it is bypassed or picks a smaller picture instead."""
        return Needs() if budget.is_full or self.method.stage == "image" else self.method.needs(vision)

    def prunes_inside(self, budget: Budget) -> bool:
        """Whether tokens are dropped between the LLM's blocks; such a batch has one method and one budget."""
        return self.method.stage == "in-llm" and not budget.is_full

    def pruner(self, budget: Budget, selections: Sequence[Selection]) -> LayerPruner | None:
        """What drops tokens inside the LLM, fresh for one batch whose row i was selected as `selections[i]`."""
        return None if budget.is_full else self.method.pruner_for(budget, selections)

    def select(self, encoded: Encoded, budget: Budget) -> Selection:
        """The tokens that enter the LLM; R = 1 bypasses the method, since floors would drop tokens."""
        if budget.is_full or self.method.stage == "image":
            return keep_all(encoded.layout)
        return self.method.select(encoded, budget)


def needs_of(prunings: Iterable[Pruning], vision: VisionInfo) -> Needs:
    """Everything any of them reads, to be captured in one pass."""
    return reduce(or_, (pruning.method.needs(vision) for pruning in prunings), Needs())


@dataclass
class Counters:
    """Work done, for the proof that a picture is encoded once."""

    encodes: int = 0
    resized_encodes: int = 0
    selections: int = 0
    answers: int = 0


@dataclass
class Picture:
    """One picture before one model: every look at it is encoded once, however many prunings cut it.

    Attributes:
        key: stable id; seeded methods draw by it.
        needs: what the encoding of the whole picture captures.
    """

    adapter: Adapter
    image: Image.Image
    key: str
    needs: Needs = field(default_factory=Needs)
    counters: Counters = field(default_factory=Counters)
    _looks: dict[ImagePlan | None, Encoded] = field(default_factory=dict)
    _sound: dict[ImagePlan | None, Tensor] = field(default_factory=dict)
    _asked: dict[str, Encoded] = field(default_factory=dict)

    @cached_property
    def layout(self) -> Layout:
        """Of the whole picture. Budgets are shares of it, also for a method that never has it encoded."""
        return self.prepared.layout

    @cached_property
    def prepared(self) -> Prepared:
        """The whole picture cut into views, on the CPU."""
        return self.adapter.prepare(self.image, self.key)

    def plan(self, pruning: Pruning, budget: Budget) -> ImagePlan | None:
        """The cheaper look at the picture that an image-stage method takes; None for the whole picture."""
        if budget.is_full or pruning.method.stage != "image":
            return None
        return pruning.method.choose(self.adapter.plans(self.image.size), budget)

    def look(self, plan: ImagePlan | None = None) -> Prepared:
        """The views of one look."""
        return self.prepared if plan is None else self.adapter.prepare(self.image, self.key, plan)

    def encoded(self, plan: ImagePlan | None = None) -> Encoded:
        """One look through the vision tower; a smaller one is only kept, never scored, so it captures nothing."""
        if plan not in self._looks:
            encoded = self.adapter.encode(self.look(plan), self.needs if plan is None else Needs())
            self._looks[plan], self._sound[plan] = encoded, encoded.features.isfinite().all()
            self.counters.encodes += plan is None
            self.counters.resized_encodes += plan is not None
            if plan is None:
                # Pixels outweigh an encoding, and nobody looks at them again; the layout is kept for later budgets.
                self.layout, _ = self.prepared.layout, vars(self).pop("prepared")
        # Some methods would fail on what overflowed and others answer nonsense; so everyone who asks is told.
        ensure(self._sound[plan], partial(refuse_features, self._looks[plan].features.dtype))
        return self._looks[plan]

    def asked(self, question: str, prompt: Prompt | None = None) -> Encoded:
        """The whole picture with a question's scores, as far as `needs` names any."""
        encoded = self.encoded()
        if not self.needs.question:
            return encoded
        if question not in self._asked:
            prompt = prompt or self.adapter.prompt(question, question)
            self._asked[question] = self.adapter.ask(encoded, question, self.needs, prompt)
        return self._asked[question]


@dataclass(frozen=True)
class Cut:
    """What is left of a picture, and how it came about.

    Attributes:
        encoded: the picture as the method saw it.
        selection: the method's choice, mask and order on the CPU.
        visual: [n_visual_llm, D] embeddings in LLM order. Requests with the very same object share its cache.
    """

    pruning: Pruning
    encoded: Encoded
    selection: Selection
    budget: Budget
    visual: Visual

    @cached_property
    def mask(self) -> bytes:
        """The kept patch tokens as packed bits over (views, tokens), thumbnail first."""
        return np.packbits(self.selection.keep.numpy().reshape(-1)).tobytes()

    @cached_property
    def needs(self) -> Needs:
        """What the method read of the picture."""
        return self.pruning.needs(self.encoded.vision, self.budget)

    @cached_property
    def num_selected(self) -> int:
        """Patch tokens kept; counted once for all answers that share the cut."""
        return self.selection.n_selected

    def count(self, prompt: Prompt, generation: Generation) -> TokenCount:
        """Token figures of one answer."""
        return TokenCount(
            budget_nominal=self.budget.total,
            n_selected=self.num_selected,
            # What a method drops before the first block (`dart:variant=embeddings`) never reached the LLM.
            n_visual_llm=(generation.visual_per_layer or self.visual.shape[:1])[0],
            n_text=prompt.num_text,
            visual_per_layer=generation.visual_per_layer,
        )


def cut(
    picture: Picture,
    pruning: Pruning,
    question: str = "",
    prompt: Prompt | None = None,
    visuals: dict[Any, Visual] | None = None,
) -> Cut:
    """One picture cut by one method at one budget.

    Args:
        question: read by text-aware methods only.
        prompt: the question as the model is asked it; None asks it as it is.
        visuals: tokens assembled of this picture so far: who brings the very same ones gets the very same object.

    Raises:
        BudgetError: a budget out of range.
        SelectionError: the method kept padding or nothing at all.
    """
    adapter, budget = picture.adapter, pruning.budget(picture.layout)
    needs, plan = pruning.needs(adapter.vision, budget), picture.plan(pruning, budget)
    looks = Looks()
    with looks.shared():
        # A method that does not read the question gets the encoding without one: its cut serves all questions.
        encoded = picture.asked(question, prompt) if needs.question else picture.encoded(plan)
        selection = pruning.select(encoded, budget)
    selection = settled(selection, looks)
    if not (budget.is_full or pruning.method.stage == "image"):
        picture.counters.selections += 1
        check_selection(selection, encoded, pruning.method.name)
    known = {} if visuals is None else visuals
    if (entering := _entering(encoded, selection, pruning.policy)) not in known:
        known[entering] = adapter.assemble(encoded, selection, pruning.policy)
    return Cut(pruning, encoded, selection, budget, known[entering])


def _entering(encoded: Encoded, selection: Selection, policy: NewlinePolicy) -> Any:
    """Equal for selections of a picture that bring the same tokens before the LLM; what is made anew is its own."""
    if selection.edited is not None or selection.extra is not None:
        return object()
    order = None if selection.order is None else selection.order.numpy().tobytes()
    return id(encoded.features), selection.newline_policy or policy, selection.keep.numpy().tobytes(), order


def settled(selection: Selection, looks: Looks) -> Selection:
    """The same selection with mask and order on the CPU, where the order for the LLM and all figures are made of them.

    One transfer brings them and every check of the scores: whatever a selection takes, the host waits for it once.

    Raises:
        NonFiniteScoreError: a check does not hold.
    """
    keep, *order = looks.fetch(selection.keep, *(() if selection.order is None else (selection.order,)))
    return replace(selection, keep=keep, order=order[0] if order else None)


def generate(adapter: Adapter, requests: Sequence[Request], cuts: Sequence[Cut], **options: Any) -> list[Generation]:
    """One batch of answers, row i from `cuts[i]`; without cuts from text alone.

    Cuts that prune inside the LLM share one method and one budget: the pruner's state belongs to the whole batch.
    """
    if not cuts:
        return adapter.generate(requests, **options)
    first = cuts[0].pruning
    pruner = first.pruner(cuts[0].budget, [cut.selection for cut in cuts])
    return adapter.generate(requests, pruner=pruner, positions=first.method.positions, **options)


def check_selection(selection: Selection, encoded: Encoded, method: str) -> None:
    """Refuse a selection that would put padding, or nothing, before the LLM.

    Raises:
        SelectionError: naming the method.
    """
    valid = encoded.layout.valid
    if selection.keep.shape != valid.shape:
        raise SelectionError(
            f"{method} returned a mask of {tuple(selection.keep.shape)}, expected {tuple(valid.shape)}"
        )
    if bool((selection.keep & ~valid).any()):
        raise SelectionError(f"{method} kept padding tokens; only tokens of the picture may survive")
    if selection.n_selected == 0 and selection.extra is None:
        raise SelectionError(f"{method} kept no visual token at all")


def picture_id(image: Image.Image) -> str:
    """Hash of size and pixels; the same picture gets the same seeded draws wherever it comes from."""
    named = hashlib.sha256(f"{image.width}x{image.height}".encode())
    named.update(image.tobytes())
    return named.hexdigest()
