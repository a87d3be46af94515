"""What may be asked over HTTP. Unknown fields are ignored, as OpenAI does; wrong types are refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, model_validator
from pydantic_core import PydanticCustomError


def _encodable(text: str) -> str:
    """JSON can spell half a surrogate pair, which is no text and which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("half a surrogate pair is not text") from None
    return text


Text = Annotated[StrictStr, AfterValidator(_encodable)]
ShortText = Annotated[StrictStr, Field(max_length=256), AfterValidator(_encodable)]
"""A name, which is compared with all that are known, or a stop string, which is looked for at every token."""
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]  # a JSON number, not a string that looks like one


MOST_CHOICES, MOST_LOGPROBS = 8, 20
"""Answers to one request, and alternatives told of each token."""


class PruningRequest(BaseModel):
    """How to prune: a method, a budget, and the method's own parameters."""

    model_config = ConfigDict(
        extra="allow", json_schema_extra={"examples": [{"method": "hero", "retention_ratio": 0.2}]}
    )

    method: ShortText = "full"
    retention_ratio: Number | None = Field(default=None, gt=0, le=1)
    tokens: StrictInt | None = Field(default=None, ge=1)
    variant: ShortText | None = None
    by_question: Literal["first", "each"] = Field(
        default="first", description="of a conversation: the question that text-aware methods choose tokens by"
    )

    @model_validator(mode="after")
    def _one_budget(self) -> PruningRequest:
        if self.retention_ratio is not None and self.tokens is not None:
            raise ValueError("give retention_ratio or tokens, not both")
        return self

    def parameters(self) -> dict[str, Any]:
        """Hyper-parameters of the method, as they arrived."""
        given = dict(self.model_extra or {})
        return given | ({"variant": self.variant} if self.variant else {})


class ImageUrl(BaseModel):
    url: Text
    detail: Text | None = None


UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "response_format": ({"type": "text"},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "logit_bias": ({},),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "reasoning_effort": (),
    "web_search_options": (),
}
"""OpenAI's fields that would change the answer and that nothing here obeys, with the values that ask for nothing."""


def _nothing_unsupported(document: Any) -> Any:
    for name, idle in UNSUPPORTED.items() if isinstance(document, dict) else ():
        given = document.get(name)
        if given is not None and given not in idle:
            raise PydanticCustomError("unsupported", "this service has none; leave it out", {"param": name})
    return document


class TextPart(BaseModel):
    type: Literal["text"]
    text: Text


class ImagePart(BaseModel):
    type: Literal["image_url"]
    image_url: ImageUrl | Text

    @property
    def url(self) -> str:
        """However it was given."""
        return self.image_url if isinstance(self.image_url, str) else self.image_url.url


class Message(BaseModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: (
        Text
        | Annotated[
            list[Annotated[TextPart | ImagePart, Field(discriminator="type")]], Field(max_length=64, fail_fast=True)
        ]
    )


class StreamOptions(BaseModel):
    include_usage: StrictBool = False


class ChatRequest(BaseModel):
    """`POST /v1/chat/completions`, with `pruning` beside OpenAI's own fields."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "hero-tiny",
                    "messages": [
                        {
                            "role": "user",
                            "content": [
                                {"type": "text", "text": "What color is the star?"},
                                {"type": "image_url", "image_url": {"url": "data:image/png;base64,..."}},
                            ],
                        }
                    ],
                    "pruning": {"method": "hero", "retention_ratio": 0.2},
                    "max_tokens": 16,
                }
            ]
        }
    )

    model: ShortText
    messages: list[Message] = Field(min_length=1, max_length=64, fail_fast=True)
    max_tokens: StrictInt | None = Field(default=None, ge=1)
    max_completion_tokens: StrictInt | None = Field(default=None, ge=1)
    temperature: Number | None = Field(default=0.0, ge=0, le=2)
    top_p: Number | None = Field(default=1.0, ge=0, le=1)
    seed: StrictInt | None = None
    stop: ShortText | Annotated[list[ShortText], Field(max_length=4, fail_fast=True)] | None = None
    stream: StrictBool | None = False
    stream_options: StreamOptions | None = None
    n: StrictInt | None = Field(default=1, ge=1, le=MOST_CHOICES)
    logprobs: StrictBool | None = False
    top_logprobs: StrictInt | None = Field(default=None, ge=0, le=MOST_LOGPROBS)
    pruning: PruningRequest | None = None

    @model_validator(mode="before")
    @classmethod
    def _supported(cls, document: Any) -> Any:
        return _nothing_unsupported(document)

    @property
    def stops(self) -> tuple[str, ...]:
        """Stop strings, none empty."""
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(filter(None, given))


class ExplainRequest(BaseModel):
    """`POST /v1/explain`: one picture and question under several prunings, encoded once."""

    model: ShortText
    image: Text = Field(description="data URL")
    question: Text = Field(min_length=1)
    pruning: list[PruningRequest] = Field(
        default_factory=lambda: [PruningRequest()], min_length=1, max_length=64, fail_fast=True
    )
    max_tokens: StrictInt = Field(default=32, ge=1)
    scores: StrictBool = True
    overlay: StrictBool = False


class SweepRequest(BaseModel):
    """`POST /v1/sweeps`: the content of a sweep file."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"config": {"tasks": ["synth-exist"], "methods": ["hero"], "limit": 20}}]}
    )

    config: dict[str, Any]


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """Every error, in OpenAI's shape."""

    error: ErrorDetail


class ChatAnswer(BaseModel):
    role: Literal["assistant"]
    content: str
    refusal: None = None


class OtherToken(BaseModel):
    """A token's text, natural log-probability and bytes; no bytes of what is a part of a character alone."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(OtherToken):
    top_logprobs: list[OtherToken]


class ChoiceLogprobs(BaseModel):
    content: list[TokenLogprob]
    refusal: None = None


class ChatChoice(BaseModel):
    index: int
    message: ChatAnswer
    finish_reason: Literal["stop", "length"]
    logprobs: ChoiceLogprobs | None = None


class VisualTokens(BaseModel):
    """`kept` of `full` visual tokens reached the language model; `selected` without newlines and thumbnails."""

    full: int
    kept: int
    selected: int
    retention_ratio: float
    kv_bytes: int


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    visual_tokens: VisualTokens | None


class Completion(BaseModel):
    """OpenAI's `chat.completion`, with the visual tokens in `usage`."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class Model(BaseModel):
    """OpenAI's `model`."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(BaseModel):
    object: Literal["list"]
    data: list[Model]
