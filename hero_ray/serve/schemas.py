"""What may be asked over HTTP. Unknown fields are ignored, as OpenAI does; wrong types are refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

Number = Annotated[float, Field(strict=False)]


class Pruning(BaseModel):
    """How to prune: a method, a budget, and the method's own parameters."""

    model_config = ConfigDict(
        extra="allow", json_schema_extra={"examples": [{"method": "hero", "retention_ratio": 0.2}]}
    )

    method: StrictStr = "full"
    retention_ratio: float | None = Field(default=None, gt=0, le=1)
    tokens: StrictInt | None = Field(default=None, ge=1)
    variant: StrictStr | None = None

    def parameters(self) -> dict[str, Any]:
        """Hyper-parameters of the method, as they arrived."""
        given = dict(self.model_extra or {})
        return given | ({"variant": self.variant} if self.variant else {})


class ImageUrl(BaseModel):
    url: StrictStr
    detail: StrictStr | None = None


class TextPart(BaseModel):
    type: Literal["text"]
    text: StrictStr


class ImagePart(BaseModel):
    type: Literal["image_url"]
    image_url: ImageUrl


class Message(BaseModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: StrictStr | list[Annotated[TextPart | ImagePart, Field(discriminator="type")]]


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

    model: StrictStr
    messages: list[Message] = Field(min_length=1, max_length=64)
    max_tokens: StrictInt | None = Field(default=None, ge=1)
    max_completion_tokens: StrictInt | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=0.0, ge=0, le=2)
    top_p: float | None = Field(default=1.0, gt=0, le=1)
    seed: StrictInt | None = None
    stop: StrictStr | list[StrictStr] | None = None
    stream: StrictBool | None = False
    stream_options: StreamOptions | None = None
    n: StrictInt | None = Field(default=1)
    pruning: Pruning = Pruning()

    @property
    def stops(self) -> tuple[str, ...]:
        """Stop strings, none empty."""
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(filter(None, given))


class ExplainRequest(BaseModel):
    """`POST /v1/explain`: one picture and question under several prunings, encoded once."""

    model: StrictStr
    image: StrictStr = Field(description="data URL")
    question: StrictStr = Field(min_length=1)
    pruning: list[Pruning] = Field(default_factory=lambda: [Pruning()], min_length=1)
    max_tokens: StrictInt = Field(default=32, ge=1)
    scores: StrictBool = True
    overlay: StrictBool = False


class SweepRequest(BaseModel):
    """`POST /v1/sweeps`: the content of a sweep file."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"config": {"tasks": ["synth-exist"], "methods": ["hero"], "limit": 20}}]}
    )

    config: dict[str, Any]
