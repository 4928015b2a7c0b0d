"""The body of a request for a message, and of one for the number of its tokens."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from helexa.protocol.anthropic.blocks import AnyBlock, CacheControl, Strict, Text

_ABSENT: Final = msgspec.Raw()


class Turn(Strict, frozen=True, kw_only=True):
    role: Literal["user", "assistant", "system"]
    content: str | list[AnyBlock]


class Tool(Strict, frozen=True, kw_only=True):
    """One that the client runs."""

    name: str
    input_schema: msgspec.Raw
    description: str | None = None
    type: Literal["custom"] | None = None
    strict: bool | None = None
    cache_control: CacheControl | None = None
    eager_input_streaming: bool | None = None
    """A hint: input is always streamed as it comes."""
    defer_loading: bool | None = None
    allowed_callers: list[Literal["direct"]] | None = None
    input_examples: list[msgspec.Raw] | None = None


class ToolChoice(Strict, frozen=True, kw_only=True):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class ThinkingWish(Strict, frozen=True, kw_only=True):
    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: int | None = None
    display: Literal["summarized", "omitted"] | None = None


class Format(Strict, frozen=True, kw_only=True):
    type: Literal["json_schema"]
    schema: msgspec.Raw


class OutputConfig(Strict, frozen=True, kw_only=True):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: Format | None = None


class Metadata(Strict, frozen=True, kw_only=True):
    user_id: str | None = None


class Edit(msgspec.Struct, frozen=True):
    """Of a prompt, before the model reads it."""

    type: str
    keep: Any = None

    @property
    def changes_nothing(self) -> bool:
        """Clients say that all thoughts are to be kept; that is what happens anyway."""
        return self.type.startswith("clear_thinking_") and self.keep == "all"


class ContextManagement(Strict, frozen=True, kw_only=True):
    edits: list[Edit] | None = None


class PromptRequest(Strict, frozen=True, kw_only=True):
    """What makes a prompt: all that counting its tokens needs."""

    model: str
    messages: list[Turn]
    system: str | list[Text] | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    thinking: ThinkingWish | None = None
    output_config: OutputConfig | None = None
    output_format: Format | None = None
    """The older name of `output_config.format`."""
    cache_control: CacheControl | None = None
    speed: Literal["standard"] | None = None
    context_management: ContextManagement | None = None
    mcp_servers: Any = None
    models: msgspec.Raw = _ABSENT
    """This and the next four are helexa's: where the request may go."""
    provider: msgspec.Raw = _ABSENT
    route: msgspec.Raw = _ABSENT
    transforms: msgspec.Raw = _ABSENT
    helexa: msgspec.Raw = _ABSENT


class MessageRequest(PromptRequest, frozen=True, kw_only=True):
    max_tokens: int
    stream: bool | None = None
    stop_sequences: list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    metadata: Metadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    container: Any = None
    diagnostics: Any = None
    inference_geo: str | None = None


def given(value: object) -> bool:
    """Whether a field says anything: clients send some with nothing in them."""
    return value not in (None, [], {}, "")
