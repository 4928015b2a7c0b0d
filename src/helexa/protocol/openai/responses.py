"""OpenAI's Responses: what is asked, what is answered, and what is kept of both.

An item of a conversation is read loosely, because clients send back what servers of many
ages gave them; what may stand in which kind of item is checked by who translates it.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec


class Part(msgspec.Struct, omit_defaults=True):
    """Of a message, of thoughts, or of a function's output."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | None = None
    detail: str | None = None
    file_id: str | None = None
    input_audio: dict[str, msgspec.Raw] | None = None


class Item(msgspec.Struct, omit_defaults=True):
    """One of a conversation; a message may leave its `type` out."""

    type: str | None = None
    id: str | None = None
    role: str | None = None
    content: str | list[Part] | None = None
    summary: list[Part] | None = None
    encrypted_content: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | list[Part] | None = None

    @property
    def kind(self) -> str:
        return self.type or ("message" if self.role is not None else "item_reference")


class ToolKind(msgspec.Struct):
    type: str


class ToolAsked(msgspec.Struct, forbid_unknown_fields=True, rename={"is_async": "async"}):
    """Of the type `function`."""

    type: str
    name: str
    description: str | None = None
    parameters: dict[str, msgspec.Raw] | None = None
    strict: bool | None = None
    defer_loading: bool | None = None
    output_schema: dict[str, msgspec.Raw] | None = None
    allowed_callers: list[str] | None = None
    is_async: bool | None = None


class AllowedTool(msgspec.Struct):
    type: str
    name: str | None = None


class ToolChoice(msgspec.Struct, forbid_unknown_fields=True):
    type: str
    name: str | None = None
    mode: str | None = None
    tools: list[AllowedTool] | None = None


class Format(msgspec.Struct, forbid_unknown_fields=True):
    type: str
    name: str | None = None
    description: str | None = None
    schema: dict[str, msgspec.Raw] | None = None
    strict: bool | None = None


class Text(msgspec.Struct, forbid_unknown_fields=True):
    format: Format | None = None
    verbosity: str | None = None


class ReasoningWish(msgspec.Struct, forbid_unknown_fields=True):
    effort: str | None = None
    summary: str | None = None
    generate_summary: str | None = None
    context: str | None = None
    mode: str | None = None


class Streaming(msgspec.Struct, forbid_unknown_fields=True):
    include_usage: bool | None = None
    """Of chat completions, and sent by some; here usage is always told."""
    include_obfuscation: bool | None = None


class ResponsesRequest(msgspec.Struct, kw_only=True):
    """The fields that are understood here; null is as absent."""

    model: str = ""
    """Empty only beside `models`, which says where to go."""
    input: str | list[Item] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    tools: list[msgspec.Raw] | None = None
    tool_choice: str | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    text: Text | None = None
    reasoning: ReasoningWish | None = None
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    include: list[str] | None = None
    metadata: dict[str, msgspec.Raw] | None = None
    truncation: str | None = None
    stream: bool | None = None
    stream_options: Streaming | None = None
    store: bool | None = None
    background: bool | None = None
    service_tier: str | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None


# What is answered.


class TopLogprobSaid(msgspec.Struct):
    token: str
    bytes: list[int]
    logprob: float


class LogprobSaid(TopLogprobSaid):
    top_logprobs: list[TopLogprobSaid]


class OutputText(msgspec.Struct, tag_field="type", tag="output_text"):
    annotations: list[msgspec.Raw] = []
    logprobs: list[LogprobSaid] = []
    text: str = ""


class Refusal(msgspec.Struct, tag_field="type", tag="refusal"):
    refusal: str = ""


class ReasoningText(msgspec.Struct, tag_field="type", tag="reasoning_text"):
    text: str = ""


class SummaryText(msgspec.Struct, tag_field="type", tag="summary_text"):
    text: str = ""


class Message(msgspec.Struct, tag_field="type", tag="message", kw_only=True):
    id: str
    status: str = "in_progress"
    role: str = "assistant"
    content: list[OutputText | Refusal] = []


class FunctionCall(msgspec.Struct, tag_field="type", tag="function_call", kw_only=True):
    id: str
    status: str = "in_progress"
    call_id: str
    name: str
    arguments: str = ""


class Reasoning(msgspec.Struct, tag_field="type", tag="reasoning", kw_only=True):
    id: str
    status: str = "in_progress"
    summary: list[SummaryText] = []
    content: list[ReasoningText] = []


OutputItem: TypeAlias = Message | FunctionCall | Reasoning


class InputDetails(msgspec.Struct):
    cached_tokens: int
    cache_write_tokens: int = 0


class OutputDetails(msgspec.Struct):
    reasoning_tokens: int


class ResponseUsage(msgspec.Struct):
    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class IncompleteDetails(msgspec.Struct):
    reason: str


class ResponseError(msgspec.Struct):
    code: str
    message: str


class ReasoningSaid(msgspec.Struct):
    effort: str | None = None
    summary: str | None = None


class TextFormat(msgspec.Struct, tag_field="type", tag="text"):
    pass


class JsonObjectFormat(msgspec.Struct, tag_field="type", tag="json_object"):
    pass


class JsonSchemaFormat(msgspec.Struct, tag_field="type", tag="json_schema"):
    name: str
    description: str | None
    schema: dict[str, msgspec.Raw]
    strict: bool


class TextSaid(msgspec.Struct):
    format: TextFormat | JsonObjectFormat | JsonSchemaFormat
    verbosity: str = "medium"


class FunctionTool(msgspec.Struct, tag_field="type", tag="function"):
    name: str
    description: str | None
    parameters: dict[str, msgspec.Raw] | None
    strict: bool


class Response(msgspec.Struct, kw_only=True):
    """The answer, with all that was asked; times are Unix seconds."""

    id: str
    object: str = "response"
    created_at: int
    status: str = "in_progress"
    background: bool = False
    completed_at: int | None = None
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    model: str
    output: list[OutputItem] = []
    parallel_tool_calls: bool = True
    previous_response_id: str | None = None
    prompt_cache_key: str | None = None
    reasoning: ReasoningSaid
    safety_identifier: str | None = None
    service_tier: str = "default"
    store: bool = True
    temperature: float = 1.0
    text: TextSaid
    tool_choice: str | msgspec.Raw = "auto"
    tools: list[FunctionTool] = []
    top_logprobs: int = 0
    top_p: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    truncation: str = "disabled"
    usage: ResponseUsage | None = None
    user: str | None = None
    metadata: dict[str, msgspec.Raw] = {}


class ItemList(msgspec.Struct, kw_only=True):
    """The answer of `GET /v1/responses/{id}/input_items`."""

    object: str = "list"
    data: list[msgspec.Raw]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Deleted(msgspec.Struct, kw_only=True):
    id: str
    object: str = "response"
    deleted: bool = True


class InputTokens(msgspec.Struct, kw_only=True):
    object: str = "response.input_tokens"
    input_tokens: int


ID_START: Final = "resp_"
