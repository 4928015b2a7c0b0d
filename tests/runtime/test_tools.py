"""Tools, schemas and forms of an answer as clients write them, right and wrong."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from helexa.protocol.errors import HelexaError, RequestRejected
from helexa.runtime.openai import schemas, structure, tools

A = {"type": "function", "function": {"name": "a"}}
B = {"type": "function", "function": {"name": "b", "parameters": {"type": "object"}}}


def fields(**body: Any) -> dict[str, msgspec.Raw]:
    return {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in body.items()}


def wish(**body: Any) -> tools.Wish | None:
    return tools.read(fields(**body))


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def allowed(mode: str, *names: str) -> dict[str, Any]:
    return {
        "type": "allowed_tools",
        "allowed_tools": {"mode": mode, "tools": [named(name) for name in names]},
    }


def function(**more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "a", **more}}


@pytest.mark.parametrize(
    ("body", "choice", "names", "some", "one"),
    [
        ({"tools": [A, B]}, "auto", "ab", False, False),
        ({"tools": [A, B], "parallel_tool_calls": False}, "auto", "ab", False, True),
        ({"tools": [A, B], "tool_choice": "required"}, "required", "ab", False, False),
        ({"tools": [A, B], "tool_choice": "none"}, "none", "ab", False, False),
        ({"tools": [A, B], "tool_choice": named("b")}, "required", "b", False, True),
        ({"tools": [A, B], "tool_choice": allowed("auto", "a")}, "auto", "a", True, False),
        ({"tools": [A, B], "tool_choice": allowed("required", "b")}, "required", "b", True, False),
        ({"tool_choice": "auto"}, "auto", "", False, False),
    ],
)
def test_what_may_and_what_must_be_called(
    body: Any, choice: str, names: str, some: bool, one: bool
) -> None:
    found = wish(**body)
    assert found is not None
    assert (found.choice, "".join(tool.name for tool in found.tools)) == (choice, names)
    assert (found.allows_some, found.is_one) == (some, one)


def test_nothing_said_is_nothing_wished() -> None:
    assert wish() is None
    assert wish(tools=None, tool_choice=None) is None


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"tools": []}, "tools"),
        ({"tools": 5}, "tools"),
        ({"tools": [5]}, "tools[0]"),
        ({"tools": [{"type": "custom", "custom": {"name": "a"}}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].type"),
        ({"tools": [A, {"type": "function", "function": {}}]}, "tools[1].function.name"),
        ({"tools": [function(name="")]}, "tools[0].function.name"),
        ({"tools": [function(name='x"y')]}, "tools[0].function.name"),
        ({"tools": [A, A]}, "tools[1].function.name"),
        ({"tools": [function(parameters=[])]}, "tools[0].function.parameters"),
        ({"tools": [function(parameters={"type": "array"})]}, "tools[0].function.parameters.type"),
        (
            {"tools": [function(parameters={"properties": {"x": {"type": "foo"}}})]},
            "tools[0].function.parameters.properties.x.type",
        ),
        ({"tools": [A], "tool_choice": "must"}, "tool_choice"),
        ({"tools": [A], "tool_choice": {"type": "custom"}}, "tool_choice"),
        ({"tools": [A], "tool_choice": named("b")}, "tool_choice"),
        ({"tools": [A], "tool_choice": allowed("auto")}, "tool_choice"),
        ({"tools": [A], "tool_choice": allowed("must", "a")}, "tool_choice.allowed_tools.mode"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [A], "parallel_tool_calls": "no"}, "parallel_tool_calls"),
    ],
)
def test_what_is_wrong_with_tools_is_named(body: Any, field: str) -> None:
    with pytest.raises(HelexaError) as caught:
        wish(**body)
    assert (caught.value.status, caught.value.param) == (400, field)


@pytest.mark.parametrize(
    ("schema", "where"),
    [
        ("text", "s"),
        (True, "s"),
        ({"type": []}, "s.type"),
        ({"type": ["string", "text"]}, "s.type"),
        ({"properties": []}, "s.properties"),
        ({"properties": {"a": 5}}, "s.properties.a"),
        ({"anyOf": []}, "s.anyOf"),
        ({"allOf": [{}, {"items": 5}]}, "s.allOf[1].items"),
        ({"items": [{"enum": []}]}, "s.items[0].enum"),
        ({"required": "a"}, "s.required"),
        ({"$defs": {"x": {"$ref": 5}}}, "s.$defs.x.$ref"),
        ({"additionalProperties": {"pattern": 5}}, "s.additionalProperties.pattern"),
    ],
)
def test_the_first_thing_that_is_no_schema_is_named(schema: Any, where: str) -> None:
    with pytest.raises(RequestRejected) as caught:
        schemas.check(schema, "s")
    assert caught.value.param == where


def test_schemas_that_are_ones_pass_and_end() -> None:
    schemas.check({}, "s")
    schemas.check(
        {
            "type": ["object", "null"],
            "properties": {"type": {"type": "string"}, "a": True, "b": {"$ref": "#"}},
            "additionalProperties": False,
        },
        "s",
    )
    deep: dict[str, Any] = {}
    for _ in range(schemas.DEPTH_MAX + 2):
        deep = {"items": deep}
    wide = {"anyOf": [{}] * (schemas.NODES_MAX + 1)}
    for large in (deep, wide):
        with pytest.raises(RequestRejected, match="too large"):
            schemas.check(large, "s")


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"type": "yaml"}, "response_format.type"),
        ({}, "response_format.type"),
        ({"type": "json_schema"}, "response_format.json_schema"),
        ({"type": "json_schema", "json_schema": {}}, "response_format.json_schema.name"),
        (
            {"type": "json_schema", "json_schema": {"name": "", "schema": {}}},
            "response_format.json_schema.name",
        ),
        (
            {"type": "json_schema", "json_schema": {"name": 5, "schema": {}}},
            "response_format.json_schema.name",
        ),
        (
            {"type": "json_schema", "json_schema": {"name": "n"}},
            "response_format.json_schema.schema",
        ),
        (
            {"type": "json_schema", "json_schema": {"name": "n", "schema": "x"}},
            "response_format.json_schema.schema",
        ),
        ({"type": "json_object", "schema": {"type": 5}}, "response_format.schema.type"),
    ],
)  # fmt: skip
def test_a_form_that_is_none_is_named(form: Any, field: str) -> None:
    with pytest.raises(RequestRejected) as caught:
        structure.read(fields(response_format=form))
    assert caught.value.param == field


def test_forms() -> None:
    assert structure.read(fields(response_format={"type": "text"})) is None
    anything = structure.read(fields(response_format={"type": "json_object"}))
    assert anything == structure.Form("json_object")
    named = {"name": "n", "schema": {"type": "null"}, "strict": True}
    schema = {"type": "json_schema", "json_schema": named}
    strict = structure.read(fields(response_format=schema))
    assert strict == structure.Form("json_schema", {"type": "null"}, is_strict=True)
