"""A client's body, judged as far as every engine needs it judged, and made a child's request.

Refused here is what engines misunderstand, crash on, leave out in silence or act upon
outside the machine; everything else is the engine's own business to judge.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from helexa.protocol.errors import BodyMalformed, ModalityUnsupported, RequestRejected
from helexa.protocol.openai import body as bodies
from helexa.protocol.work import Modality
from helexa.runtime.contract import (
    Ability,
    Capabilities,
    ChildRequest,
    Endpoint,
    ReplicaSpec,
    Rewrite,
)
from helexa.runtime.openai import abilities, efforts, limits, tools


class _Url(msgspec.Struct):
    url: str


class _Part(msgspec.Struct):
    type: str
    text: str | None = None
    image_url: _Url | None = None


class _Function(msgspec.Struct):
    name: str
    arguments: str | dict[str, msgspec.Raw] | None = None


class _Call(msgspec.Struct):
    function: _Function | None = None


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Part] | None = None
    tool_calls: list[_Call] | None = None


class _Chat(msgspec.Struct):
    messages: list[_Message]


class _Completion(msgspec.Struct):
    prompt: str | list[str | int | list[int]]


class _Embedding(msgspec.Struct):
    input: str | list[str | int | list[int]]


class _Rerank(msgspec.Struct):
    query: str
    documents: list[str]
    top_n: int | None = None


_chat: Final = msgspec.json.Decoder(_Chat)
_completion: Final = msgspec.json.Decoder(_Completion)
_embedding: Final = msgspec.json.Decoder(_Embedding)
_rerank: Final = msgspec.json.Decoder(_Rerank)

_MODALITIES: Final = {
    "image_url": Modality.IMAGE.value,
    "input_image": Modality.IMAGE.value,
    "input_audio": Modality.AUDIO.value,
    # Some engines fetch these themselves, or unpack objects from them.
    "audio_url": "audio URL",
    "video_url": "video",
    "image_embeds": "image embedding",
    "audio_embeds": "audio embedding",
}


def chat(body: bytes, spec: ReplicaSpec, offered: Capabilities, *, runtime: str) -> bodies.Fields:
    """The members of a sound chat request. Raises a 400."""
    raw = bodies.fields(body)
    messages = bodies.typed(_chat, body).messages
    if not messages:
        raise BodyMalformed(reason="`messages` is empty.", field="messages")
    _check_messages(messages)
    if runtime != abilities.ELSEWHERE:
        _check_arguments(messages)
    _check_parts(messages, spec, offered)
    abilities.check(raw, spec, offered, runtime=runtime)
    return raw


def text(body: bytes, spec: ReplicaSpec, offered: Capabilities, *, runtime: str) -> bodies.Fields:
    """The members of a sound completion request. Raises a 400."""
    raw = bodies.fields(body)
    prompt = bodies.typed(_completion, body).prompt
    if prompt == []:
        raise BodyMalformed(reason="`prompt` is empty.", field="prompt")
    is_words = isinstance(prompt, str) or all(isinstance(each, str) for each in prompt)
    if not is_words and Ability.CONTINUE_IDS not in offered.abilities:
        raise abilities.missing("going on with token ids", "prompt", spec, runtime)
    abilities.check(raw, spec, offered, runtime=runtime)
    efforts.not_of_texts(raw, spec, runtime=runtime)
    return raw


def embedding(
    body: bytes, spec: ReplicaSpec, offered: Capabilities, *, runtime: str
) -> bodies.Fields:
    """The members of a sound embedding request. Raises a 400."""
    raw = bodies.fields(body)
    if bodies.typed(_embedding, body).input == []:
        raise BodyMalformed(reason="`input` is empty.", field="input")
    abilities.check(raw, spec, offered, runtime=runtime)
    return raw


def rerank(body: bytes, spec: ReplicaSpec, offered: Capabilities, *, runtime: str) -> bodies.Fields:
    """The members of a sound rerank request. Raises a 400."""
    raw = bodies.fields(body)
    asked = bodies.typed(_rerank, body)
    if not asked.documents:
        raise BodyMalformed(reason="`documents` is empty.", field="documents")
    if asked.top_n is not None and asked.top_n < 1:
        raise BodyMalformed(reason="`top_n` is 1 or more.", field="top_n")
    abilities.check(raw, spec, offered, runtime=runtime)
    return raw


def generation(raw: bodies.Fields, spec: ReplicaSpec) -> dict[str, Any]:
    """What is changed in every request for text; taken out of `raw` is what engines read apart."""
    limit = limits.taken_out(raw)
    abilities.without_idle(raw)
    options = bodies.value(raw, "stream_options", dict[str, msgspec.Raw]) or {}
    changes: dict[str, Any] = {
        # A request that is not streamed goes on decoding for nobody when its client leaves.
        "stream": True,
        "stream_options": {**options, "include_usage": True},
        "max_tokens": min(limit or spec.context_tokens, spec.context_tokens),
    }
    return {**changes, **_allowed_tools(raw)}


def _allowed_tools(raw: bodies.Fields) -> dict[str, Any]:
    """Those that `tool_choice` allows, as a choice among fewer: engines do not know that form."""
    wish = tools.read(raw) if "tool_choice" in raw else None
    if wish is None or not wish.allows_some:
        return {}
    return {"tools": [tool.raw for tool in wish.tools], "tool_choice": wish.choice}


def streamed(
    endpoint: Endpoint,
    raw: bodies.Fields,
    changes: Mapping[str, Any],
    *,
    rewrite: Callable[[], Rewrite] | None = None,
) -> ChildRequest:
    body = bodies.with_changes(raw, changes)
    return ChildRequest(path=endpoint.value, body=body, streamed=True, rewrite=rewrite)


def whole(endpoint: Endpoint, body: bytes) -> ChildRequest:
    """For work that is one step of the engine, which nobody can leave in the middle."""
    return ChildRequest(path=endpoint.value, body=body, streamed=False)


_ROLES: Final = frozenset(("system", "developer", "user", "assistant", "tool", "function"))
_arguments: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def _check_messages(messages: list[_Message]) -> None:
    """What engines, and templates in them, refuse in words of their own without the place."""
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if message.role not in _ROLES:
            raise BodyMalformed(
                reason=f"`{where}.role` is one of {', '.join(sorted(_ROLES))}.",
                field=f"{where}.role",
            )
        if message.content is None and message.role in ("user", "tool"):
            raise BodyMalformed(reason=f"`{where}.content` is missing.", field=f"{where}.content")
        if isinstance(message.content, list):
            for at, part in enumerate(message.content):
                if part.type == "text" and part.text is None:
                    field = f"{where}.content[{at}].text"
                    raise BodyMalformed(reason=f"`{field}` is missing.", field=field)
        for at, call in enumerate(message.tool_calls or ()):
            if call.function is None:
                field = f"{where}.tool_calls[{at}].function"
                raise BodyMalformed(reason=f"`{field}` is missing.", field=field)


def _check_arguments(messages: list[_Message]) -> None:
    """A template gets them as an object, whatever text OpenAI would take."""
    for index, message in enumerate(messages):
        for at, call in enumerate(message.tool_calls or ()):
            arguments = call.function.arguments if call.function is not None else None
            if not isinstance(arguments, str) or not arguments:
                continue
            try:
                _arguments.decode(arguments)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                field = f"messages[{index}].tool_calls[{at}].function.arguments"
                raise BodyMalformed(
                    reason=f"`{field}` is not a JSON object, and this model's template reads "
                    "nothing else.",
                    field=field,
                ) from None


def _check_parts(messages: list[_Message], spec: ReplicaSpec, offered: Capabilities) -> None:
    for index, message in enumerate(messages):
        if not isinstance(message.content, list):
            continue
        for at, part in enumerate(message.content):
            modality = _MODALITIES.get(part.type)
            if modality is None:
                continue
            if modality not in [one.value for one in offered.modalities]:
                raise ModalityUnsupported(model=spec.files.model, modality=modality)
            if part.type == "image_url" and part.image_url is None:
                where = f"messages[{index}].content[{at}].image_url"
                raise BodyMalformed(reason=f"`{where}` is missing.", field=where)
            # The engine would fetch any other URL itself, from inside the operator's network.
            if part.image_url is not None and not part.image_url.url.startswith("data:"):
                raise RequestRejected(
                    reason="Pictures are not fetched from URLs here; send a `data:` URL.",
                    field=f"messages[{index}].content[{at}].image_url.url",
                )
