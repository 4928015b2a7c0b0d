"""The OpenAPI document of the gateway, made of what the files in `endpoints/` say."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Annotated, Any, Final, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from helexa import __version__
from helexa.cortex.gateway import endpoints
from helexa.cortex.gateway.about import GUARDED, About
from helexa.cortex.orchestrator.federation.wish_bodies import Own, Provider
from helexa.protocol.errors import HelexaError, InternalFault, RateLimited, RequestRejected
from helexa.protocol.ids import MODEL_ID_CHARS_MAX
from helexa.protocol.openapi import EVENTS, JSON, VERSION, Schemas, content, phrase, refusals

PATH: Final = "/openapi.json"
_PART: Final = re.compile(r"\{(\w+)\}")
_ABOUT: Final = """\
The gateway of a helexa cortex. Clients of OpenAI and of Anthropic use it as they are.

What an operation's body takes beyond what is written here goes to the model's engine as it came.
A member of a known name and another type is refused. Answers may have members that are their
engine's own. Every path answers 405 to methods that it does not know and names those that it knows
in `Allow`; HEAD is known wherever GET is."""
_IDS: Final[Mapping[str, Any]] = {
    "x-request-id": {
        "description": "The client's own, where it sent a sensible one.",
        "schema": {"type": "string"},
    },
    "x-helexa-request-id": {"schema": {"type": "string"}},
}
_TEXT: Final = {"type": "string"}
_COUNT: Final = {"type": "integer", "minimum": 0}
_SERVED: Final[Mapping[str, Any]] = {
    name: {"description": description, "schema": schema}
    for name, description, schema in (
        ("x-helexa-served-by", "The neuron, its operator, and the cortexes between.", _TEXT),
        ("x-helexa-price", "Nano-credits a token, by kind.", _TEXT),
        ("x-helexa-queue-ms", "How long it waited to be let in.", _COUNT),
        ("x-helexa-model", "The model that served, where another was asked for.", _TEXT),
        ("x-helexa-attempts", "How many nodes were asked, where it was more than one.", _COUNT),
    )
}
_LIMITED: Final[Mapping[str, Any]] = {
    f"x-ratelimit-{word}-{of}": {
        "description": f"{about} of {of} a minute, where the key or its account has one.",
        "schema": _TEXT if word == "reset" else _COUNT,
    }
    for of in ("requests", "tokens")
    for word, about in (
        ("limit", "The limit"),
        ("remaining", "What is left of the limit"),
        ("reset", "How long until nothing is used of the limit"),
    )
}
_SENT: Final[Sequence[Mapping[str, Any]]] = (
    {
        "name": "x-request-id",
        "in": "header",
        "description": "Comes back with the answer.",
        "schema": {"type": "string"},
    },
)
_PARTS: Final[Mapping[str, Any]] = {
    "model": {
        "description": "A model's name. Its slashes may be written as they are.",
        "schema": {"type": "string", "minLength": 1, "maxLength": MODEL_ID_CHARS_MAX},
    },
}
_ANY_PART: Final = {"schema": {"type": "string", "minLength": 1}}
_HEALTH: Final = {"status": {"type": "string"}, "reason": {"type": "string"}}


def everything() -> Iterator[About]:
    """What all endpoints say, in the order of their files."""
    for module in pkgutil.iter_modules(endpoints.__path__):
        found = importlib.import_module(f"{endpoints.__name__}.{module.name}")
        yield from getattr(found, "about", ())


def document(told: Sequence[About]) -> dict[str, Any]:
    """OpenAPI 3.1, as JSON can hold it."""
    shapes = {str(shape): shape for one in told for shape in _shapes(one)}
    schemas = Schemas(list(shapes.values()))
    paths: dict[str, dict[str, Any]] = {}
    for one in told:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, schemas)
    return {
        "openapi": VERSION,
        "info": {"title": "helexa gateway", "version": __version__, "description": _ABOUT},
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}, {"apiKey": []}],
        "paths": {**paths, **_open_paths()},
        "components": {
            "schemas": schemas.components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


def route() -> Route:
    """Open to all, as the API is the same at every gateway."""
    made: list[dict[str, Any]] = []

    async def show(_request: Request) -> Response:
        if not made:
            made.append(document(list(everything())))
        return JSONResponse(made[0])

    return Route(PATH, show, methods=["GET"])


@cache
def spelled(asks: Any) -> Any:
    """A body with types for the members that stay undecoded until somebody has them."""
    if not (isinstance(asks, type) and issubclass(asks, msgspec.Struct)):
        return asks
    fields = msgspec.structs.fields(asks)
    kept = [one.name for one in fields if type(one.default) is msgspec.Raw]
    if not kept:
        return asks
    known = {
        "models": list[str] | None,
        "provider": Provider | None,
        "helexa": Own | None,
        "route": Literal["fallback"] | None,
        "transforms": Annotated[list[str], msgspec.Meta(max_length=0)] | None,
    }
    return msgspec.defstruct(
        asks.__name__.replace("Head", "Request"),
        [(name, known.get(name, Any), None) for name in kept],
        bases=(asks,),
        module=__name__,
        kw_only=True,
        frozen=True,
    )


def _shapes(one: About) -> Iterator[Any]:
    for each in (spelled(one.asks), one.answers, one.events, one.envelope):
        yield from each if isinstance(each, tuple) else () if each is None else (each,)


def _schema(shape: Any, schemas: Schemas) -> dict[str, Any]:
    if isinstance(shape, tuple):
        return {"anyOf": [schemas.of(each) for each in shape]}
    return schemas.of(shape)


def _operation(one: About, schemas: Schemas) -> dict[str, Any]:
    said = {JSON: one.answers, EVENTS: one.events}
    known = {media: _schema(shape, schemas) for media, shape in said.items() if shape is not None}
    kinds: list[type[HelexaError]] = [RequestRejected, InternalFault, *one.refuses]
    if not one.is_open:
        kinds += GUARDED
    operation: dict[str, Any] = {
        "operationId": _operation_id(one),
        "summary": one.does,
        "responses": {
            **({"200": _answer(one, known)} if known else {}),
            **_refused(one, kinds, schemas),
        },
    }
    names = _PART.findall(one.path)
    operation["parameters"] = [
        *(
            {"name": name, "in": "path", "required": True, **_PARTS.get(name, _ANY_PART)}
            for name in names
        ),
        *(
            {"name": name, "in": "query", "required": name in one.needs, "schema": schema}
            for name, schema in one.query.items()
        ),
        *_SENT,
    ]
    if one.asks is not None:
        asked = schemas.of(spelled(one.asks))
        schema = {"allOf": [asked, {"properties": one.also_takes}]} if one.also_takes else asked
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": schema}}}
    if one.is_open:
        operation["security"] = []
    return operation


def _refused(one: About, kinds: Sequence[type[HelexaError]], schemas: Schemas) -> dict[str, Any]:
    found = refusals(kinds, _schema(one.envelope, schemas), headers=_IDS)
    for status, response in found.items():
        if status == str(RateLimited.status):
            response["headers"] = {**response["headers"], **_LIMITED}
    return found


def _answer(one: About, known: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "description": phrase(200),
        "headers": {**_IDS, **({**_SERVED, **_LIMITED} if one.asks is not None else {})},
        "content": {media: content(media, schema) for media, schema in known.items()},
    }


def _operation_id(one: About) -> str:
    words = re.sub(r"[^A-Za-z0-9]+", "_", one.path.removeprefix("/v1/")).strip("_")
    return f"{one.method.lower()}_{words}"


def _open_paths() -> dict[str, Any]:
    """What every socket of a node has, and this document itself."""

    def open_path(does: str, answers: Mapping[str, Any]) -> dict[str, Any]:
        return {"get": {"summary": does, "security": [], "responses": answers}}

    def ok(description: str, media: str, schema: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "description": description,
            "headers": dict(_IDS),
            "content": {media: {"schema": schema}},
        }

    health = {"type": "object", "properties": _HEALTH, "required": ["status"]}
    return {
        "/healthz": open_path("Whether the process serves.", {"200": ok("It does.", JSON, health)}),
        "/readyz": open_path(
            "Whether work would be served now.",
            {"200": ok("It would.", JSON, health), "503": ok("Why not.", JSON, health)},
        ),
        "/metrics": open_path(
            "Numbers for Prometheus.",
            {"200": ok("Its text format.", "text/plain", {"type": "string"})},
        ),
        PATH: open_path("This document.", {"200": ok("It.", JSON, {"type": "object"})}),
    }
