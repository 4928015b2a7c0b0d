"""Where a chat completion's fields stand in the Messages request that it was made of.

A neuron names a wrong field as it saw it; the client is told its own name for it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from helexa.protocol.anthropic.reading import place_of


class Place(NamedTuple):
    """Of one chat message."""

    message: str
    parts: tuple[str, ...] = ()
    """Of the parts of its content, where that is a list."""


_MESSAGE: Final = re.compile(r"messages\[(\d+)\](?:\.content\[(\d+)\])?(.*)", re.DOTALL)
_TOOL: Final = re.compile(r"tools\[(\d+)\](?:\.function)?(.*)", re.DOTALL)
_FORMAT: Final = "response_format"
_NAMES: Final = {
    "stop": "stop_sequences",
    "user": "metadata.user_id",
    "reasoning_effort": "output_config.effort",
    "chat_template_kwargs": "thinking",
    "thinking_budget_tokens": "thinking.budget_tokens",
    "continue_final_message": "messages",
    "add_generation_prompt": "messages",
    "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
    "max_completion_tokens": "max_tokens",
}


def named(field: str, places: Sequence[Place], *, thinks: bool = True) -> str:
    """The client's name of a chat field; `thinks` is False where `thinking` was disabled."""
    if found := _MESSAGE.match(field):
        return _of_message(found, places)
    if found := _TOOL.match(field):
        rest = found[2].replace(".parameters", ".input_schema", 1)
        return place_of(f"tools[{found[1]}]{rest}")
    if field.startswith(_FORMAT):
        rest = field.removeprefix(_FORMAT).replace(".json_schema.schema", ".schema", 1)
        return place_of(f"output_config.format{rest}")
    if field == "reasoning_effort" and not thinks:
        return "thinking.type"
    return _NAMES.get(field) or place_of(field)


def _of_message(found: re.Match[str], places: Sequence[Place]) -> str:
    number, part, rest = int(found[1]), found[2], found[3]
    if number >= len(places):
        return "messages"
    place = places[number]
    if part is None or int(part) >= len(place.parts):
        return place.message
    rest = rest.replace(".image_url.url", ".source").replace(".image_url", ".source")
    return place.parts[int(part)] + rest
