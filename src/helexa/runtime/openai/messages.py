"""The messages of a chat, judged by their places before any engine reads them.

Engines, and the templates in them, refuse such messages in words of their own that name no
place, or pass over what is wrong with them.
"""

from __future__ import annotations

from typing import Final

import msgspec

from helexa.protocol.errors import BodyMalformed, ModalityUnsupported, RequestRejected
from helexa.protocol.openai import body as bodies
from helexa.protocol.work import Modality
from helexa.runtime.contract import Capabilities, ReplicaSpec
from helexa.runtime.openai import abilities, results


class _Url(msgspec.Struct):
    url: str


class _Part(msgspec.Struct):
    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: _Url | None = None


class _Function(msgspec.Struct):
    name: str
    arguments: str | dict[str, msgspec.Raw] | None = None


class _Call(msgspec.Struct):
    id: str | None = None
    function: _Function | None = None


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Part] | None = None
    tool_calls: list[_Call] | None = None
    tool_call_id: str | None = None


class _Chat(msgspec.Struct):
    messages: list[_Message]


_chat: Final = msgspec.json.Decoder(_Chat)
_arguments: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])

_ROLES: Final = frozenset(("system", "developer", "user", "assistant", "tool", "function"))
_MODALITIES: Final = {
    "image_url": Modality.IMAGE.value,
    "input_image": Modality.IMAGE.value,
    "input_audio": Modality.AUDIO.value,
    "file": "file",
    # Some engines fetch these themselves, or unpack objects from them.
    "audio_url": "audio URL",
    "video_url": "video",
    "image_embeds": "image embedding",
    "audio_embeds": "audio embedding",
}
_TEXTS: Final = frozenset(("text", "refusal"))
_MORE_TEXTS: Final = {
    "vllm": frozenset(("thinking", "input_text", "output_text", "tool_reference")),
}
"""Types of parts that only some engines read."""


def check(body: bytes, spec: ReplicaSpec, offered: Capabilities, *, runtime: str) -> None:
    """Raises a 400 that names the message, and the part or the call of it."""
    messages = bodies.typed(_chat, body).messages
    if not messages:
        raise BodyMalformed(reason="`messages` is empty.", field="messages")
    for index, message in enumerate(messages):
        _check_message(message, f"messages[{index}]")
    results.check(messages)
    is_here = runtime != abilities.ELSEWHERE
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if is_here:
            _check_arguments(message, where)
        for at, part in enumerate(message.content if isinstance(message.content, list) else ()):
            if is_here:
                _check_type(part, message, runtime, f"{where}.content[{at}].type")
            if is_here or part.type != "file":
                _check_part(part, spec, offered, f"{where}.content[{at}]")


def _check_message(message: _Message, where: str) -> None:
    if message.role not in _ROLES:
        raise BodyMalformed(
            reason=f"`{where}.role` is one of {', '.join(sorted(_ROLES))}.",
            field=f"{where}.role",
        )
    if message.content is None and message.role in ("user", "tool"):
        raise _absent(f"{where}.content")
    if isinstance(message.content, list):
        for at, part in enumerate(message.content):
            if part.type == "text" and part.text is None:
                raise _absent(f"{where}.content[{at}].text")
            if part.type == "refusal" and part.refusal is None:
                raise _absent(f"{where}.content[{at}].refusal")
    for at, call in enumerate(message.tool_calls or ()):
        if call.function is None:
            raise _absent(f"{where}.tool_calls[{at}].function")


def _absent(field: str) -> BodyMalformed:
    return BodyMalformed(reason=f"`{field}` is missing.", field=field)


def _check_arguments(message: _Message, where: str) -> None:
    """A template gets them as an object, whatever text OpenAI would take."""
    for at, call in enumerate(message.tool_calls or ()):
        arguments = call.function.arguments if call.function is not None else None
        if not isinstance(arguments, str) or not arguments:
            continue
        try:
            _arguments.decode(arguments)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            field = f"{where}.tool_calls[{at}].function.arguments"
            raise BodyMalformed(
                reason=f"`{field}` is not a JSON object, and this model's template reads "
                "nothing else.",
                field=field,
            ) from None


def _check_type(part: _Part, message: _Message, runtime: str, field: str) -> None:
    if part.type == "refusal" and message.role != "assistant":
        raise BodyMalformed(
            reason=f"`{field}` is 'refusal', and only an assistant refuses.", field=field
        )
    if part.type in _TEXTS or part.type in _MODALITIES:
        return
    if part.type not in _MORE_TEXTS.get(runtime, ()):
        raise BodyMalformed(
            reason=f"`{field}` is {part.type[:40]!r}, which {runtime} does not read.", field=field
        )


def _check_part(part: _Part, spec: ReplicaSpec, offered: Capabilities, where: str) -> None:
    modality = _MODALITIES.get(part.type)
    if modality is None:
        return
    if modality not in [one.value for one in offered.modalities]:
        raise ModalityUnsupported(model=spec.files.model, modality=modality, field=where)
    if part.type == "image_url" and part.image_url is None:
        raise _absent(f"{where}.image_url")
    # The engine would fetch any other URL itself, from inside the operator's network.
    if part.image_url is not None and not part.image_url.url.startswith("data:"):
        raise RequestRejected(
            reason="Pictures are not fetched from URLs here; send a `data:` URL.",
            field=f"{where}.image_url.url",
        )
