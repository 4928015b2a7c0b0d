"""The OpenAPI document of the control API, made of the table that answers.

What a call takes and gives is read from its types, what it refuses from its errors: there is
nothing here that could be forgotten when a call changes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from helexa.cortex.orchestrator.api.calls import BODY_BYTES_MAX, JSON, Asked, Call, Nothing
from helexa.cortex.orchestrator.api.signature import NODE, NONCE, SIGNATURE, TIME, WINDOW_S
from helexa.protocol.errors import (
    AdminTokenInvalid,
    BodyLate,
    BodyMalformed,
    BodyTooLarge,
    Busy,
    ErrorEnvelope,
    HelexaError,
    InternalFault,
    MediaTypeUnsupported,
    NotAllowed,
    RequestRejected,
    SignatureInvalid,
)
from helexa.protocol.ids import MODEL_ID_CHARS_MAX
from helexa.protocol.openapi import REF, VERSION, Schemas, content, phrase, refusals

PATH: Final = "/api/v1/openapi.json"
_PART: Final = re.compile(r"\{(\w+)\}")

_SIGNED: Final[Mapping[str, tuple[str, str]]] = {
    "nodeId": (NODE, "The id of a node of this cortex's own operator, which signs the call."),
    "nodeTime": (TIME, f"Unix seconds, at most {WINDOW_S} off."),
    "nodeNonce": (NONCE, "16 to 64 letters, digits, `-` or `_`; never used again."),
    "nodeSignature": (
        SIGNATURE,
        (
            "128 hexadecimal digits: Ed25519 over `helexa control-call 1`, a zero byte, and, "
            "joined by line feeds, cortex id, node id, method, path with query, SHA-256 of "
            "the body, time and nonce."
        ),
    ),
}
_ALWAYS: Final = (RequestRejected, InternalFault)
_GUARDED: Final = (AdminTokenInvalid, SignatureInvalid, NotAllowed, Busy)
_WITH_BODY: Final = (BodyMalformed, BodyTooLarge, BodyLate, MediaTypeUnsupported)
_PARTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "model": {
        "description": "A model's name. Its slashes may be written as they are.",
        "schema": {
            "type": "string",
            "pattern": r"^[A-Za-z0-9][A-Za-z0-9._:@+\-]*(/[A-Za-z0-9][A-Za-z0-9._:@+\-]*){0,3}$",
            "maxLength": MODEL_ID_CHARS_MAX,
        },
    },
    "node": {
        "description": "A neuron: its id, the head of its id, or its name.",
        "schema": {"type": "string", "minLength": 1},
    },
    "account": {
        "description": "An account's name, as keys name it.",
        "schema": {"type": "string", "pattern": r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$"},
    },
    "key": {
        "description": "A key: its id, its name, or the key itself.",
        "schema": {"type": "string", "minLength": 1},
    },
}

_ABOUT: Final = f"""\
The control API of a helexa cortex, on `--orchestrator-socket`.

Bodies are JSON objects of at most {BODY_BYTES_MAX} bytes. A field, or a parameter of the query,
that a call does not know is refused, and so is a parameter that comes twice. Every refusal has
the same envelope. Whatever can be asked with GET can be asked with HEAD; a path that does not know
a method answers 405 and names in `Allow` those that it knows."""


def document(calls: Sequence[Call], version: str) -> dict[str, Any]:
    """OpenAPI 3.1, as JSON can hold it."""
    shapes = [shape for call in calls for shape in _shapes(call)]
    schemas = Schemas([ErrorEnvelope, *shapes])
    paths: dict[str, dict[str, Any]] = {}
    for call in calls:
        paths.setdefault(call.path, {})[call.method.lower()] = _operation(call, schemas)
    return {
        "openapi": VERSION,
        "info": {"title": "helexa control API", "version": version, "description": _ABOUT},
        "servers": [{"url": "/"}],
        "security": [{"adminToken": []}, {name: [] for name in _SIGNED}],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "securitySchemes": {
                "adminToken": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The token in `HOME/cortex/admin.token`.",
                },
                **{
                    name: {"type": "apiKey", "in": "header", "name": header, "description": about}
                    for name, (header, about) in _SIGNED.items()
                },
            },
        },
    }


def call_for(calls: Sequence[Call], version: str) -> Call:
    """The call that answers the document of `calls` and of itself."""
    made: list[dict[str, Any]] = []

    async def show(asked: Asked[Nothing, Nothing]) -> dict[str, Any]:  # noqa: ARG001 - a call's shape
        if not made:
            made.append(document([*calls, call], version))
        return made[0]

    call = Call("GET", PATH, "This document.", show)
    return call


def _shapes(call: Call) -> Iterable[Any]:
    """Types of what is said: they become components."""
    _, body, answers = call.shapes
    if call.has_body and body is not Nothing:
        yield body
    yield from call.also.values()
    if answers is not type(None):
        yield from call.media.values() if call.media else (answers,)


def _operation(call: Call, schemas: Schemas) -> dict[str, Any]:
    query, body, answers = call.shapes
    said = call.media or ({} if answers is type(None) else {JSON: answers})
    operation: dict[str, Any] = {
        "operationId": _operation_id(call),
        "summary": call.does,
        "tags": [_tag(call.path)],
        "responses": {
            str(call.status): {
                "description": phrase(call.status),
                **({"content": _content(said, schemas)} if said else {}),
            },
            **{
                str(status): {
                    "description": phrase(status),
                    "content": {JSON: {"schema": schemas.of(shape)}},
                }
                for status, shape in call.also.items()
            },
            **refusals(_kinds(call), schemas.of(ErrorEnvelope), besides=call.also),
        },
    }
    if parameters := [*_path_parameters(call.path), *_query_parameters(query)]:
        operation["parameters"] = parameters
    if call.has_body and body is not Nothing:
        operation["requestBody"] = {
            "required": _has_required(body),
            "content": {JSON: {"schema": schemas.of(body)}},
        }
    if call.is_open:
        operation["security"] = []
    return operation


def _content(said: Mapping[str, Any], schemas: Schemas) -> dict[str, Any]:
    return {media: content(media, schemas.of(shape)) for media, shape in said.items()}


def _kinds(call: Call) -> list[type[HelexaError]]:
    kinds: list[type[HelexaError]] = [*_ALWAYS, *call.refuses]
    if not call.is_open:
        kinds += _GUARDED
    if call.has_body:
        kinds += _WITH_BODY
    return kinds


def _path_parameters(path: str) -> Iterable[dict[str, Any]]:
    for name in _PART.findall(path):
        yield {"name": name, "in": "path", "required": True, **_PARTS[name]}


def _query_parameters(query: type[msgspec.Struct]) -> Iterable[dict[str, Any]]:
    _, components = msgspec.json.schema_components([query], ref_template=REF)
    found = components[query.__name__]
    for name, schema in found["properties"].items():
        yield {
            "name": name,
            "in": "query",
            "required": name in found.get("required", ()),
            "schema": _inlined(schema, components),
        }


def _inlined(schema: Mapping[str, Any], components: Mapping[str, Any]) -> Mapping[str, Any]:
    """An enum of the query is spelled out: nothing else refers to it."""
    if "$ref" in schema:
        return dict(components[schema["$ref"].rpartition("/")[2]])
    return schema


def _has_required(body: type[msgspec.Struct]) -> bool:
    return any(field.required for field in msgspec.structs.fields(body))


def _operation_id(call: Call) -> str:
    words = re.sub(r"[^A-Za-z0-9]+", "_", "_".join(_own_parts(call.path))).strip("_")
    return f"{call.method.lower()}_{words}"


def _tag(path: str) -> str:
    return _own_parts(path)[0].partition(".")[0]


def _own_parts(path: str) -> Sequence[str]:
    """Without what all paths begin with."""
    parts = path.strip("/").split("/")
    return parts[2:] if parts[0] == "api" else parts
