"""A client's request as llama.cpp's server has to see it.

Refused here is what that server would misunderstand, crash on, or act upon
outside the machine; everything else is its own business to judge.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from helexa.protocol.errors import BodyMalformed, ModalityUnsupported, RequestRejected
from helexa.protocol.openai import body as bodies
from helexa.protocol.work import Modality
from helexa.runtime.contract import Capabilities, ChildRequest, Endpoint, ReplicaSpec
from helexa.runtime.llama_cpp import steering


class _Url(msgspec.Struct):
    url: str


class _Part(msgspec.Struct):
    type: str
    image_url: _Url | None = None


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Part] | None = None


class _Chat(msgspec.Struct):
    messages: list[_Message]


class _Completion(msgspec.Struct):
    prompt: str | list[str | int | list[int]]


class _Embedding(msgspec.Struct):
    input: str | list[str | int | list[int]]


_chat: Final = msgspec.json.Decoder(_Chat)
_completion: Final = msgspec.json.Decoder(_Completion)
_embedding: Final = msgspec.json.Decoder(_Embedding)

_MODALITIES: Final = {
    "image_url": Modality.IMAGE,
    "input_image": Modality.IMAGE,
    "input_audio": Modality.AUDIO,
}
_OUTPUT_LIMITS: Final = ("max_tokens", "max_completion_tokens", "n_predict")


def chat(body: bytes, spec: ReplicaSpec, offered: Capabilities) -> ChildRequest:
    raw = bodies.fields(body)
    messages = bodies.typed(_chat, body).messages
    if not messages:
        raise BodyMalformed(reason="`messages` is empty.", field="messages")
    _check_parts(messages, spec, offered)
    changes = _generation(raw, spec)
    changes.update(steering.changes(raw, spec))
    return _request(Endpoint.CHAT, raw, changes)


def completion(body: bytes, spec: ReplicaSpec) -> ChildRequest:
    raw = bodies.fields(body)
    if bodies.typed(_completion, body).prompt == []:
        raise BodyMalformed(reason="`prompt` is empty.", field="prompt")
    return _request(Endpoint.COMPLETIONS, raw, _generation(raw, spec))


def embedding(body: bytes) -> ChildRequest:
    if bodies.typed(_embedding, body).input == []:
        raise BodyMalformed(reason="`input` is empty.", field="input")
    return ChildRequest(path=Endpoint.EMBEDDINGS.value, body=body, streamed=False)


def _request(endpoint: Endpoint, raw: bodies.Fields, changes: dict[str, Any]) -> ChildRequest:
    return ChildRequest(path=endpoint.value, body=bodies.with_changes(raw, changes), streamed=True)


def _generation(raw: bodies.Fields, spec: ReplicaSpec) -> dict[str, Any]:
    options = bodies.value(raw, "stream_options", dict[str, msgspec.Raw]) or {}
    changes: dict[str, Any] = {
        # A request that is not streamed goes on decoding for nobody when its client leaves.
        "stream": True,
        "stream_options": {**options, "include_usage": True},
    }
    if all(bodies.value(raw, name, int) is None for name in _OUTPUT_LIMITS):
        changes["max_tokens"] = spec.context_tokens
    return changes


def _check_parts(messages: list[_Message], spec: ReplicaSpec, offered: Capabilities) -> None:
    for index, message in enumerate(messages):
        if not isinstance(message.content, list):
            continue
        for at, part in enumerate(message.content):
            modality = _MODALITIES.get(part.type)
            if modality is None:
                continue
            if modality not in offered.modalities:
                raise ModalityUnsupported(model=spec.files.model, modality=modality.value)
            # The server would fetch any other URL itself, from inside the operator's network.
            if part.image_url is not None and not part.image_url.url.startswith("data:"):
                raise RequestRejected(
                    reason="Pictures are not fetched from URLs here; send a `data:` URL.",
                    field=f"messages[{index}].content[{at}].image_url",
                )
