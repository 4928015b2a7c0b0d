"""Answers by a JSON schema on llama.cpp's server.

It obeys `response_format` by the parser of the model's template, and some of those
parsers leave it out. The schema as a field of its own is obeyed by all of them.
"""

from __future__ import annotations

from typing import Any, Final

from helexa.protocol.errors import BodyMalformed
from helexa.protocol.openai import body as bodies
from helexa.runtime.openai import schemas, structure

ENFORCED: Final = frozenset({
    "type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref", "$defs", "definitions",
    "properties", "required", "additionalProperties", "items", "prefixItems", "minItems",
    "maxItems", "minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum",
    "exclusiveMaximum", "pattern", "format",
})  # fmt: skip
"""Words of JSON schema that its grammars say; it leaves others out without a word."""
_FORMATS: Final = frozenset({
    "date", "time", "date-time", "uuid", "uuid1", "uuid2", "uuid3", "uuid4", "uuid5",
})  # fmt: skip
_BOUNDS: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")


def changes(raw: bodies.Fields) -> dict[str, Any]:
    """Raises BodyMalformed, RequestRejected."""
    form = structure.read(raw)
    if bodies.value(raw, "grammar", str):
        for other in ("response_format", "json_schema"):
            if form is not None if other == "response_format" else _is_said(raw, other):
                raise BodyMalformed(
                    reason=f"`grammar` and `{other}` exclude one another.", field="grammar"
                )
    if form is None or _is_said(raw, "json_schema"):
        return {}
    if form.schema is None:
        return {"json_schema": {"type": "object"}}
    if form.is_strict:
        check_strict(form.schema, form.where)
    return {"json_schema": form.schema}


def _is_said(raw: bodies.Fields, name: str) -> bool:
    return bodies.value(raw, name, Any) is not None


def check_strict(schema: dict[str, Any], where: str) -> None:
    """Raises RequestRejected for what the engine would leave out."""
    schemas.check_strict(schema, where, _enforced, runtime="llama_cpp")


def _enforced(node: dict[str, Any], word: str) -> bool:
    if word in _BOUNDS:
        return node.get("type") == "integer"
    if word == "format":
        return node["format"] in _FORMATS
    if word == "pattern":
        pattern = node["pattern"]
        # Others are taken for any text at all, and so is what looks around.
        return pattern.startswith("^") and pattern.endswith("$") and "(?" not in pattern
    return word in ENFORCED
