"""A Responses request, read and held against what can be done here, by the client's names.

Fields that are not known are an engine's own and stay as they came. What only OpenAI's servers
do, or only chat completions have, is refused by name, unless it says what is so anyway.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from helexa.cortex.gateway.translation.items import refused
from helexa.protocol.errors import BodyMalformed
from helexa.protocol.openai import body as bodies
from helexa.protocol.openai.responses import ResponsesRequest, ToolAsked, ToolKind

METADATA_MAX: Final = 16
METADATA_KEY_CHARS_MAX: Final = 64
METADATA_CHARS_MAX: Final = 512
LOGPROBS: Final = "message.output_text.logprobs"
INCLUDES: Final = frozenset(
    (
        LOGPROBS, "reasoning.encrypted_content", "message.input_image.image_url",
        "file_search_call.results", "web_search_call.results", "web_search_call.action.sources",
        "computer_call_output.output.image_url", "code_interpreter_call.outputs",
    )
)  # fmt: skip
"""All but the first ask for parts of items that are always whole, or that there never are."""
SUMMARIES: Final = ("auto", "detailed")

REFUSED: Final = {
    "access_programs": "there are no access programs here",
    "background_options": "nothing runs in the background here",
    "context_management": "helexa takes nothing out of a prompt",
    "conversation": "there are no conversations here; use `previous_response_id`",
    "image": "a picture goes to the model as it is",
    "moderation": "nothing is moderated here",
    "prompt": "there are no stored prompts here; send `instructions` and `input`",
    "prompt_cache_options": "engines keep their caches by themselves",
}
"""OpenAI's fields that ask for what nobody does here."""
OF_CHAT: Final = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
    "verbosity": "text.verbosity",
    "logprobs": "include",
    "functions": "tools",
    "function_call": "tool_choice",
    "n": "",
    "modalities": "",
    "audio": "",
    "prediction": "",
    "web_search_options": "",
}
"""Fields of chat completions that Responses has not, and where it has the same."""
UNDERSTOOD: Final = frozenset(ResponsesRequest.__struct_fields__)

_request: Final = msgspec.json.Decoder(ResponsesRequest)
_kind: Final = msgspec.json.Decoder(ToolKind)
_tool: Final = msgspec.json.Decoder(ToolAsked)
_string: Final = msgspec.json.Decoder(str)


@dataclass(slots=True)
class Asked:
    """A request that was read and found good."""

    request: ResponsesRequest
    fields: bodies.Fields
    tools: Sequence[ToolAsked]
    is_resolved: bool = False
    """Whether the items that it refers to stand in `request` now."""

    @property
    def refers(self) -> Iterator[tuple[int, str]]:
        """The items that are named and not given: where they stand, and their ids."""
        if isinstance(self.request.input, list):
            for index, item in enumerate(self.request.input):
                if item.kind == "item_reference" and item.id is not None:
                    yield index, item.id

    @property
    def wants_logprobs(self) -> bool:
        return LOGPROBS in (self.request.include or ()) or bool(self.request.top_logprobs)

    @property
    def others(self) -> bodies.Fields:
        """What no surface knows, for the engine."""
        return {
            name: raw
            for name, raw in self.fields.items()
            if name not in UNDERSTOOD and bytes(raw) != b"null"
        }

    @property
    def summarises(self) -> bool:
        """Whether thoughts stand in the place of a summary."""
        wish = self.request.reasoning
        return wish is not None and (wish.summary or wish.generate_summary) in SUMMARIES


def read(body: bytes) -> Asked:
    """Raises BodyMalformed and RequestRejected with the client's names."""
    request = bodies.typed(_request, body)
    fields = bodies.fields(body)
    for name in fields:
        if name in UNDERSTOOD or bytes(fields[name]) == b"null":
            continue
        if name in REFUSED:
            raise refused(name, f"`{name}` is not taken: {REFUSED[name]}.")
        if name in OF_CHAT:
            here = f", which is `{OF_CHAT[name]}` here" if OF_CHAT[name] else ""
            raise refused(name, f"`{name}` is a field of chat completions{here}.")
    _check(request)
    return Asked(request, fields, _tools(request.tools or ()))


def _check(request: ResponsesRequest) -> None:
    if request.input is None and request.previous_response_id is None:
        raise BodyMalformed("`input` is a text or a list of items.", "input")
    if request.background:
        raise refused("background", "`background` is not taken: an answer is given while you wait.")
    if request.truncation not in (None, "disabled"):
        raise refused(
            "truncation", "`truncation` is `disabled`: helexa takes nothing out of a prompt."
        )
    if request.stream_options is not None and request.stream_options.include_obfuscation:
        raise refused(
            "stream_options.include_obfuscation",
            "`stream_options.include_obfuscation` is not taken: nothing is added to events.",
        )
    if request.max_tool_calls is not None and request.max_tool_calls < 1:
        raise refused("max_tool_calls", "`max_tool_calls` is 1 or more.")
    for index, one in enumerate(request.include or ()):
        if one not in INCLUDES:
            raise refused(
                f"include[{index}]", f"`include[{index}]` is {one[:60]!r}, which is unknown."
            )
    _check_reasoning(request)
    _check_metadata(request.metadata or {})


def _check_reasoning(request: ResponsesRequest) -> None:
    wish = request.reasoning
    if wish is None:
        return
    for name in ("summary", "generate_summary"):
        value = getattr(wish, name)
        if value is not None and value not in SUMMARIES:
            raise refused(
                f"reasoning.{name}",
                f"`reasoning.{name}` is `auto` or `detailed`: nobody shortens thoughts here.",
            )
    if wish.context not in (None, "auto"):
        raise refused(
            "reasoning.context", "`reasoning.context` is `auto`: the model's template decides."
        )
    if wish.mode not in (None, "standard"):
        raise refused("reasoning.mode", "`reasoning.mode` is `standard`.")


def _check_metadata(metadata: Mapping[str, msgspec.Raw]) -> None:
    if len(metadata) > METADATA_MAX:
        raise refused("metadata", f"`metadata` has at most {METADATA_MAX} pairs.")
    for key, raw in metadata.items():
        field = f"metadata.{key[:METADATA_KEY_CHARS_MAX]}"
        if len(key) > METADATA_KEY_CHARS_MAX:
            raise refused(
                field, f"A key of `metadata` has at most {METADATA_KEY_CHARS_MAX} characters."
            )
        if len(bodies.typed(_string, raw, field)) > METADATA_CHARS_MAX:
            raise refused(field, f"`{field}` has more than {METADATA_CHARS_MAX} characters.")


def _tools(given: Sequence[msgspec.Raw]) -> Sequence[ToolAsked]:
    tools = []
    for index, raw in enumerate(given):
        at = f"tools[{index}]"
        kind = bodies.typed(_kind, raw, at).type
        if kind != "function":
            raise refused(
                f"{at}.type", f"`{at}.type` is {kind[:60]!r}; tools here are `function` alone."
            )
        tool = bodies.typed(_tool, raw, at)
        if tool.defer_loading:
            raise refused(
                f"{at}.defer_loading", f"`{at}.defer_loading`: all tools are shown at once."
            )
        if tool.is_async:
            raise refused(f"{at}.async", f"`{at}.async` is not taken.")
        if tool.output_schema is not None:
            raise refused(
                f"{at}.output_schema", f"`{at}.output_schema`: a chat has no place for it."
            )
        if tool.allowed_callers not in (None, ["direct"]):
            raise refused(f"{at}.allowed_callers", f"`{at}.allowed_callers` is `direct` alone.")
        tools.append(tool)
    return tools
