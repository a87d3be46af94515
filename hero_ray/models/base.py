"""What a model adapter does: take one family apart into prepare, encode, ask, assemble, generate.

An adapter holds the stock transformers classes as weight holders; their own `forward` and `generate` are only the
oracle in tests. Nothing here knows a pruning method: adapters receive `Needs`, `Selection` and `LayerPruner` objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from PIL import Image

from hero_ray.core.encoded import Encoded, ImagePlan, Needs, Selection, VisionInfo
from hero_ray.core.layout import Layout, NewlinePolicy
from hero_ray.core.lazy import Tensor, torch


@dataclass(frozen=True)
class LanguageShape:
    """Sizes of the language model, as FLOP and KV formulas need them; a `tied` head is the embeddings' own matrix."""

    num_layers: int
    hidden: int
    intermediate: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab: int
    tied: bool = False


@dataclass(frozen=True)
class VisionShape:
    """Sizes of the vision tower; `layers_run` are the blocks that produce the features.

    Attributes:
        tokens: of one view, CLS among them; of the largest one where views differ in size.
        cls: CLS tokens, 1 or 0.
        whole: the blocks (from 1) in which every patch sees every other, where the others see windows; () where all do.
        window: visual tokens along the edge of such a window. side: (rows, columns) of visual tokens of the view.
        mlp: matrices of a block's MLP, 3 where it is gated. frames: times that a patch embedding reads a pixel.
        projectors: of the projector's size, all in all (DeepStack).
    """

    num_layers: int
    layers_run: int
    hidden: int
    intermediate: int
    num_heads: int
    tokens: int
    patch: int
    projector: tuple[int, ...]
    cls: int = 1
    whole: tuple[int, ...] = ()
    window: int = 0
    side: tuple[int, int] = (0, 0)
    mlp: int = 2
    frames: int = 1
    projectors: int = 1

    @property
    def patches(self) -> int:
        """Patches of one view."""
        return self.tokens - self.cls

    def nearest(self, layer: int) -> int:
        """The block that answers for `layer`: itself, or of those that see the whole view the one nearest to it."""
        if not self.whole or not 1 <= layer <= self.num_layers:
            return layer
        return min(self.whole, key=lambda block: (abs(block - layer), block))


@dataclass(frozen=True)
class ModelInfo:
    """What is known of a loaded model without running it.

    Attributes:
        name: as asked for; `:random` kept.
        family: as in `hero_ray.models.registry.ModelSpec`.
        revision: weight hash, or `random:SEED`.
        random_weights: accuracy is refused for these.
        engine: who answers: `ours`, `vllm`, or `auto` for both.
    """

    name: str
    family: str
    revision: str
    random_weights: bool
    language: LanguageShape
    vision: VisionShape
    dtype: str
    device: str
    attention: str
    context: int
    engine: str = "ours"


@dataclass(frozen=True)
class Prepared:
    """A picture cut into views on the CPU: pixels float [V, 3, H, W] (thumbnail first) and its layout."""

    image_id: str
    pixels: Tensor
    layout: Layout
    size: tuple[int, int]


@dataclass(frozen=True)
class Prompt:
    """Token ids around the picture. The instruction span counts from the start of `suffix`."""

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    instruction: tuple[int, int]

    @property
    def num_text(self) -> int:
        return len(self.prefix) + len(self.suffix)


@dataclass(frozen=True, eq=False)
class PlacedTokens:
    """Visual embeddings with places of their own, for language models that turn time, row and column (M-RoPE).

    Attributes:
        embeds: [n, D].
        places: int64 [n, 3] on the CPU: (time, row, column), counted from the position behind the prefix.
        span: positions the whole picture takes, whatever is left of it; the text behind begins there.
        deep: [n, L, D], what is added to these tokens behind each of the first L blocks (DeepStack), or None.
    """

    embeds: Tensor
    places: Tensor
    span: int
    deep: Tensor | None = None

    @property
    def shape(self) -> torch.Size:
        return self.embeds.shape

    @property
    def device(self) -> torch.device:
        return self.embeds.device


Visual = Tensor | PlacedTokens
"""What `assemble` makes of a picture: embeddings [n, D], or such with their places."""


def embeddings(visual: Visual) -> Tensor:
    """The embeddings [n, D] alone."""
    return visual.embeds if isinstance(visual, PlacedTokens) else visual


@dataclass(frozen=True)
class Request:
    """One answer to generate.

    Requests whose `visual` is the very same object share the key-value cache of prefix and picture.

    Attributes:
        kept: where the keys and values of the prompt are found, as far as it begins like the one that was run last with
            this `visual`, and left for the next one; None to run it all. vLLM, which keeps its own, does not look.
    """

    prompt: Prompt
    visual: Visual
    max_new_tokens: int
    kept: Any = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Generation:
    """One answer.

    Attributes:
        text: decoded, special tokens removed, stripped.
        token_ids: generated ids, end token excluded.
        visual_per_layer: visual tokens alive in each block after prefill.
        kv_bytes: bytes of the live cache of this request right after prefill.
        finish: `stop` (end token) or `length`.
        chances: of each token, where log-probabilities were asked for (`hero_ray.models.draws.TokenChance`).
    """

    text: str
    token_ids: tuple[int, ...]
    visual_per_layer: tuple[int, ...]
    kv_bytes: int
    finish: Literal["stop", "length"]
    chances: tuple[Any, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)


class Adapter(Protocol):
    """One loaded model. Every family implements this.

    Attributes:
        tokenizer: `decode(ids)`, for answers that are shown as they grow.
        runner: the block loop (`hero_ray.models.runner.Runner`).
        decoder: batches over it (`hero_ray.models.generation.Decoder`); timings are put around `prefill` and `decode`.
            None where the answers are not made by blocks of ours.
        clip: CLIP's text side, or None where the model has no paired text tower; reading it loads it.
    """

    tokenizer: Any
    runner: Any
    decoder: Any

    @property
    def clip(self) -> Any: ...

    info: ModelInfo
    vision: VisionInfo

    def prepare(self, image: Image.Image, image_id: str = "", plan: ImagePlan | None = None) -> Prepared:
        """Cut a picture into views; CPU only. Equal to the stock processor when `plan` is None."""
        ...

    def plans(self, size: tuple[int, int]) -> tuple[ImagePlan, ...]:
        """Cheaper looks at a picture of (width, height), most tokens first; the stock look is the first."""
        ...

    def encode(self, prepared: Prepared, needs: Needs) -> Encoded:
        """One pass of the vision tower and projector, capturing what `needs` names."""
        ...

    def encode_many(self, prepared: Sequence[Prepared], needs: Needs) -> list[Encoded]:
        """Several pictures in one pass per view size; what `encode` gives for each, within rounding."""
        ...

    def ask(self, encoded: Encoded, question: str, needs: Needs, prompt: Prompt) -> Encoded:
        """Attach a question: CLIP text scores, LLM rows; only what `needs` names."""
        ...

    def prompt(self, text: str, question: str | None = None, history: Sequence[tuple[str, str]] = ()) -> Prompt:
        """Token ids of the chat template around a user text; `question` marks the instruction span inside it.

        `history` are the turns before it: what the user said, and what was answered.
        """
        ...

    def assemble(self, encoded: Encoded, selection: Selection, policy: NewlinePolicy) -> Visual:
        """Visual embeddings [n_visual_llm, D] in LLM order, with their places where the model has such."""
        ...

    def generate(
        self,
        requests: Sequence[Request],
        pruner: Any = None,
        positions: Literal["compact", "keep"] = "compact",
        **options: Any,
    ) -> list[Generation]:
        """Greedy answers, batched; `pruner` is a fresh `LayerPruner` used for the whole batch."""
        ...


def torch_dtype(name: str) -> torch.dtype:
    """`float32`, `bfloat16` or `float16` as a torch dtype."""
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]
