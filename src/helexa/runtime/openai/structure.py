"""`response_format` as a client wrote it: the schema that its answer is to follow."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from helexa.protocol.errors import BodyMalformed
from helexa.protocol.openai import body as bodies
from helexa.runtime.openai import schemas

FORMATS: Final = ("text", "json_object", "json_schema")
_OUTER: Final = "response_format.json_schema"
_WHERE: Final = f"{_OUTER}.schema"


class _Schema(msgspec.Struct):
    name: str | None = None
    schema: Any = None
    strict: bool | None = None


class _Format(msgspec.Struct):
    type: str
    json_schema: _Schema | None = None
    schema: Any = None


class Form(msgspec.Struct, frozen=True):
    """What an answer has to be."""

    kind: str
    schema: dict[str, Any] | None = None
    """Of a JSON answer; None is any object."""
    is_strict: bool = False
    where: str = _WHERE
    """Of the schema in the body."""


def read(raw: bodies.Fields) -> Form | None:
    """None for plain text. Raises BodyMalformed or RequestRejected."""
    wanted = bodies.value(raw, "response_format", _Format)
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type not in FORMATS:
        raise BodyMalformed(
            reason=f"`response_format.type` is one of {', '.join(FORMATS)}.",
            field="response_format.type",
        )
    if wanted.type == "json_object":
        if wanted.schema is None:
            return Form("json_object")
        schemas.check(wanted.schema, "response_format.schema")
        return Form("json_schema", wanted.schema, where="response_format.schema")
    named = wanted.json_schema
    if named is None:
        raise _absent(_OUTER)
    if not named.name:
        raise _absent(f"{_OUTER}.name")
    if named.schema is None:
        raise _absent(_WHERE)
    schemas.check(named.schema, _WHERE)
    return Form("json_schema", named.schema, bool(named.strict))


def _absent(field: str) -> BodyMalformed:
    return BodyMalformed(reason=f"`{field}` is missing.", field=field)
