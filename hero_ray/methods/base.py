"""What a pruning method is: one frozen dataclass of typed parameters and one choice.

A method acts at one of three stages:

- `image`: picks a cheaper picture (`choose`), the model then runs unpruned;
- `before-llm`: picks visual tokens from an `Encoded` (`select`);
- `in-llm`: drops tokens between LLM blocks (`pruner`).
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Literal, Protocol

from pydantic import ConfigDict, TypeAdapter, ValidationError

from hero_ray.core.encoded import Budget, Encoded, ImagePlan, Needs, Selection, VisionInfo, keep_all
from hero_ray.core.errors import ParameterError
from hero_ray.core.lazy import Tensor
from hero_ray.core.text import brief

Stage = Literal["image", "before-llm", "in-llm"]

LATER = {"later": True}
"""Metadata of a field that a method gained later and that changes nothing at its default: `field(default=...,
metadata=LATER)`. Cells from before keep their ids."""


class LayerState(Protocol):
    """What an in-LLM method sees at a block boundary. Rows are the left-padded prompts of one batch.

    Attributes:
        layer: 1-based block about to run (`before`) or just run (`after`).
        num_layers: blocks in the LLM.
        hidden: [B, S, D] input of that block.
        valid: bool [B, S]; False is padding.
        visual: bool [B, S] visual tokens alive (patches, newlines, merged).
        instruction: bool [B, S] tokens of the user's question.
        after_image: bool [B, S] every text token behind the image (question and template).
        positions: [B, S] position ids.
        num_visual: int [B] visual tokens that entered the LLM.
    """

    layer: int
    num_layers: int
    hidden: Tensor
    valid: Tensor
    visual: Tensor
    instruction: Tensor
    after_image: Tensor
    positions: Tensor
    num_visual: Tensor

    def attention_rows(self, queries: Tensor) -> Tensor:
        """Post-softmax rows [B, H, R, S] of block `layer` for query indices [B, R] over the live keys, fp32."""
        ...

    def keys(self) -> Tensor:
        """Keys of block `layer` after RoPE: [B, H_kv, S, head_dim]."""
        ...

    def values(self) -> Tensor:
        """Values of block `layer`: [B, H_kv, S, head_dim]."""
        ...

    def unturned_logits(self, queries: Tensor) -> Tensor:
        """Logits [B, H, R, S] of block `layer` before RoPE, of query indices [B, R] over every key, scaled, fp32."""
        ...

    def moved(self, part: Literal["attention", "mlp"]) -> tuple[Tensor, Tensor]:
        """What a part of the block just run was given, after its norm, and what it gave, before it was added.

        Both [B, S, D]; told only in `after`, and only where the pruner `watches` the block.
        """
        ...

    def rope(self) -> tuple[Tensor, Tensor]:
        """Rotary tables (cos, sin) of every position: [B, S, turned width] each."""
        ...

    def rope_bias(self, queries: Tensor) -> Tensor:
        """Logits [B, R, S] that rotary positions alone give: all-ones queries and keys under RoPE, over sqrt(d)."""
        ...

    def final_norm(self, hidden: Tensor) -> Tensor:
        """The LLM's last norm applied to `hidden`."""
        ...


@dataclass(frozen=True)
class Survivors:
    """What lives on past a boundary.

    Attributes:
        keep: bool [B, S].
        recycled: [B, M, D] merged tokens inserted behind the kept visual tokens, or None.
        recycled_valid: bool [B, M]; rows may recycle different numbers.
        everywhere: whether the caches of the blocks already run forget the dropped tokens too, so that decoding never
            sees them. Those blocks have shown them to the prompt all the same. For a first cut without recycling only.
    """

    keep: Tensor
    recycled: Tensor | None = None
    recycled_valid: Tensor | None = None
    everywhere: bool = False


class LayerPruner:
    """State of one in-LLM method over one prefill; made anew for every batch."""

    def watches(self, layer: int, num_layers: int) -> bool:
        """Whether `after` wants to be shown what block `layer` `moved`; keeps those tensors alive meanwhile."""
        return False

    def before(self, state: LayerState) -> Survivors | None:
        """Asked before a block runs; None keeps everything."""
        return None

    def after(self, state: LayerState) -> None:
        """Told after a block ran, to observe its attention; `state.hidden` is still the block's input."""


@dataclass(frozen=True)
class Method:
    """Base of all methods. Fields are hyper-parameters, defaults come from the paper.

    Class attributes describe the method for catalogues and reports.
    """

    variant: str = "exact"

    name: ClassVar[str] = ""
    stage: ClassVar[Stage] = "before-llm"
    text_aware: ClassVar[bool] = False
    paper: ClassVar[str] = ""
    variants: ClassVar[tuple[str, ...]] = ("exact",)
    straw_man: ClassVar[bool] = False
    """A baseline anyone could write: every other method is tested against it, charts mute it. Stored with the cell."""
    code_version: ClassVar[int] = 1
    """Raised when an answer may change, so that stored cells are not reused."""
    code_versions: ClassVar[Mapping[str, int]] = {}
    """The same for single variants, where only theirs may change."""
    positions: ClassVar[Literal["compact", "keep"]] = "compact"
    """Position ids of survivors inside the LLM (in-llm stage): renumbered, or the original ones."""
    reads: ClassVar[str] = ""
    """What it looks at beyond its `needs`, in words: projected tokens, or anything inside the LLM."""

    def __post_init__(self) -> None:
        kind: Any = type(self)
        for field, checker in _checkers(kind).items():
            value = getattr(self, field)
            try:
                object.__setattr__(self, field, checker.validate_python(value))
            except ValidationError as error:
                wrong = dict.fromkeys(one["msg"] for one in error.errors(include_url=False))
                expected = "; ".join(wrong).replace("Input should be", "expected")
                raise ParameterError(f"{self.name}: {field} = {brief(value)}: {expected}") from None
        if self.variant not in self.variants:
            raise ParameterError(f"{self.name} has no variant {brief(self.variant)}; it has {', '.join(self.variants)}")
        self.check()

    @property
    def fixed_budget(self) -> bool:
        """Whether the ratio asked for decides how much survives.

        False where the picture, a schedule or the paper's constants do, whatever the ratio below 1 says: such a method
        is one cell, shown at its true token count, not one per budget with the same answers.
        """
        return True

    @property
    def version(self) -> int:
        """Declared code version of this variant; `methods.code_of` is what enters a cell's id."""
        return self.code_versions.get(self.variant, self.code_version)

    def check(self) -> None:
        """Check parameter ranges.

        Raises:
            ParameterError: a value out of range.
        """

    def require(self, holds: bool, field: str, expected: str) -> None:
        """Refuse a parameter value unless `holds`.

        Raises:
            ParameterError: it does not; the message shows the value and what was `expected`.
        """
        if not holds:
            raise ParameterError(f"{self.name}: {field} = {brief(getattr(self, field))}; expected {expected}")

    def needs(self, vision: VisionInfo) -> Needs:
        """What to capture while encoding."""
        return Needs()

    def select(self, encoded: Encoded, budget: Budget) -> Selection:
        """Choose the tokens of one image that survive. In-LLM methods let everything in."""
        return keep_all(encoded.layout)

    def pruner(self, budget: Budget) -> LayerPruner | None:
        """In-LLM stage: the object that drops tokens between blocks during one prefill."""
        return None

    def pruner_for(self, budget: Budget, selections: Sequence[Selection]) -> LayerPruner | None:
        """The pruner of one batch, row i of which was selected as `selections[i]`.

        Only a method that decides before the LLM and drops inside it needs more than `pruner`.
        """
        return self.pruner(budget)

    def choose(self, options: tuple[ImagePlan, ...], budget: Budget) -> ImagePlan | None:
        """Image stage: the cheaper look at the picture, or None to leave it as it is."""
        return None

    def parameters(self) -> dict[str, Any]:
        """Every hyper-parameter but the variant, as recorded with a cell; one that came `LATER` off default only."""
        values = dataclasses.asdict(self)
        values.pop("variant")
        for field in dataclasses.fields(self):
            if field.metadata.get("later") and values[field.name] == field.default:
                del values[field.name]
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def field_types(method: type[Method]) -> dict[str, Any]:
    """Resolved type of every hyper-parameter of a method class."""
    hints = typing.get_type_hints(method)
    return {field.name: hints[field.name] for field in dataclasses.fields(method)}


@cache
def _checkers(method: Any) -> dict[str, TypeAdapter[Any]]:
    # Strict: "0.5" is no number and a list no tuple, but 1 becomes 1.0, so that both give the same cell.
    config = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
    return {field: TypeAdapter(expected, config=config) for field, expected in field_types(method).items()}
