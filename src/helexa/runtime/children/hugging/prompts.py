"""What a client said, as the model's own template writes it, and the pictures that go with it."""

from __future__ import annotations

import base64
import binascii
import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..server.engine import Refused

_LISTS = re.compile(r"for\s+\w+\s+in\s+message(\.content|\[['\"]content['\"]\])")
"""Templates that go through the parts of a message; a plain text would vanish in some."""
_OWN = frozenset({"messages", "tools", "conversation", "tokenize", "chat_template", "documents"})
_PICTURES_MAX = 64
_PIXELS_MAX = 64_000_000


def conversation(messages: Sequence[Mapping[str, Any]], template: str, *, sees: bool) -> list[Any]:
    """As templates want it: arguments of calls as objects, texts in one piece or all in lists."""
    lists = sees and bool(_LISTS.search(template)) and "is string" not in template
    return [_message(one, sees=sees, lists=lists) for one in messages]


def _message(said: Mapping[str, Any], *, sees: bool, lists: bool) -> dict[str, Any]:
    message = dict(said)
    content = said.get("content")
    if isinstance(content, str):
        message["content"] = [{"type": "text", "text": content}] if lists else content
    elif isinstance(content, list):
        parts = [_part(one) for one in content]
        is_plain = all(one["type"] == "text" for one in parts)
        if is_plain and not lists:
            message["content"] = "\n".join(one["text"] for one in parts)
        elif not is_plain and not sees:
            raise Refused("This model reads text alone.", param="messages", code="unsupported")
        else:
            message["content"] = parts
    elif "tool_calls" not in said:
        message["content"] = ""
    if isinstance(calls := said.get("tool_calls"), list):
        message["tool_calls"] = [_call(one) for one in calls]
    return message


def _part(said: Mapping[str, Any]) -> dict[str, Any]:
    kind = said["type"]
    if kind in ("text", "input_text", "refusal"):
        return {"type": "text", "text": str(said.get("text", said.get("refusal", "")))}
    if kind in ("image_url", "input_image"):
        return {"type": "image"}
    raise Refused(f"Parts of the type {kind[:40]!r} are not read.", param="messages")


def _call(said: Any) -> Any:
    """Clients send arguments as a text; templates write objects as JSON, and a text twice."""
    if not isinstance(said, dict) or not isinstance(function := said.get("function"), dict):
        raise Refused("`tool_calls` is a list of functions that were called.", param="messages")
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            raise Refused("The `arguments` of a call are not JSON.", param="messages") from None
    return {**said, "function": {**function, "arguments": arguments}}


def rendered(tokenizer: Any, talk: list[Any], said: Mapping[str, Any]) -> str:
    """By the tokenizer's template, or the processor's. Raises Refused with its own words."""
    more = dict(said.get("chat_template_kwargs", {}))
    if taken := _OWN & more.keys():
        raise Refused(f"`chat_template_kwargs` cannot set {min(taken)}.", param="messages")
    if "reasoning_effort" in said:
        more["reasoning_effort"] = said["reasoning_effort"]
    continues = bool(said.get("continue_final_message"))
    begins = bool(said.get("add_generation_prompt", not continues))
    if continues and begins:
        why = "`continue_final_message` needs `add_generation_prompt` to be false."
        raise Refused(why, param="add_generation_prompt")
    if continues and talk[-1].get("role") != "assistant":
        raise Refused("The last message is not the assistant's.", param="continue_final_message")
    try:
        text = tokenizer.apply_chat_template(
            talk,
            **more,
            tools=tools(said) or None,
            add_generation_prompt=begins,
            continue_final_message=continues,
            tokenize=False,
        )
    except Exception as error:
        words = f"The model's chat template refuses this: {error}"
        raise Refused(words[:400], param="messages") from error
    return str(text)


def tools(said: Mapping[str, Any]) -> list[Any]:
    return [] if said.get("tool_choice") == "none" else list(said.get("tools", ()))


def pictures(messages: Sequence[Mapping[str, Any]]) -> list[Any]:
    """In their order. Raises Refused for what is no picture."""
    found = []
    for at, message in enumerate(messages):
        content = message.get("content")
        for number, part in enumerate(content if isinstance(content, list) else ()):
            if part["type"] in ("image_url", "input_image"):
                found.append(_picture(part, f"messages[{at}].content[{number}]"))
    if len(found) > _PICTURES_MAX:
        raise Refused(f"More than {_PICTURES_MAX} pictures.", param="messages")
    return found


def _picture(part: Mapping[str, Any], where: str) -> Any:
    from PIL import Image  # only models that see need it

    url = part.get("image_url")
    url = url.get("url") if isinstance(url, dict) else url
    head, comma, data = url.partition(",") if isinstance(url, str) else ("", "", "")
    if not comma or not head.startswith("data:image/") or not head.endswith(";base64"):
        raise Refused("A picture is a `data:image/...;base64,` URL.", param=where)
    try:
        picture = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
        if picture.width * picture.height > _PIXELS_MAX:
            raise Refused(f"A picture has at most {_PIXELS_MAX} pixels.", param=where)
        return picture.convert("RGB")
    except (
        binascii.Error,
        ValueError,
        OSError,
        SyntaxError,
        Image.DecompressionBombError,
    ) as error:
        raise Refused("The picture cannot be read.", param=where) from error
