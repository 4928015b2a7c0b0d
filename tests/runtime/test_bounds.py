"""Ranges with nothing in them, and counts beyond all measure, in all that becomes a grammar."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from helexa.protocol.errors import RequestRejected
from helexa.runtime.openai import bounds, schemas, structure, tools

LONG = {"type": "string", "minLength": 5, "maxLength": 2}

JSON = r"""
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws ::= | " " | "\n" [ \t]{0,20} # space
"""
DOUBLED: dict[str, Any] = {
    "$ref": "#/$defs/0",
    "$defs": {
        str(at): {"anyOf": [{"$ref": f"#/$defs/{at + 1}"}, {"$ref": f"#/$defs/{at + 1}"}]}
        for at in range(30)
    }
    | {"30": {"type": "null"}},
}


def fields(**body: Any) -> dict[str, msgspec.Raw]:
    return {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in body.items()}


@pytest.mark.parametrize(
    ("schema", "where"),
    [
        (LONG, "s.minLength"),
        ({"type": "array", "minItems": 5, "maxItems": 2}, "s.minItems"),
        ({"type": "object", "minProperties": 2, "maxProperties": 1}, "s.minProperties"),
        ({"type": "integer", "minimum": 5, "maximum": 2}, "s.minimum"),
        ({"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 2}, "s.exclusiveMinimum"),
        ({"type": "integer", "minimum": 1.2, "maximum": 1.8}, "s.minimum"),
        ({"type": "number", "minimum": 1, "exclusiveMaximum": 1}, "s.minimum"),
        ({"type": "string", "minLength": -1}, "s.minLength"),
        ({"type": "string", "maxLength": 2.5}, "s.maxLength"),
        ({"type": "array", "minItems": 10**8}, "s.minItems"),
        ({"type": "string", "pattern": "^a{5,2}$"}, "s.pattern"),
        ({"type": "string", "pattern": "^a{ 5, +2}$"}, "s.pattern"),
        ({"type": "string", "pattern": "^a{1,1000000000}$"}, "s.pattern"),
        ({"type": "string", "pattern": "^a{1000000000}$"}, "s.pattern"),
        ({"type": "string", "maxLength": 10**12}, "s.maxLength"),
        ({"type": "integer", "maximum": 10**30}, "s.maximum"),
        ({"properties": {str(at): {} for at in range(1001)}}, "s.properties"),
        ({"$ref": "#"}, "s"),
        ({"anyOf": [{"$ref": "#"}, {"type": "null"}]}, "s"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, "s"),
        (
            {"$ref": "#/x", "x": {"items": {"$ref": "#/y"}}, "y": {"$ref": "#/y"}},
            "s.$ref.items",
        ),
        ({"$ref": "#/none"}, "s.$ref"),
        ({"items": {"$ref": "http://x/"}}, "s.items.$ref"),
        ({"$ref": "#/type", "type": "object"}, "s.$ref"),
        (DOUBLED, "s"),
        ({"pattern": "^(((a{0,9}){0,9}){0,9}){0,9}$"}, "s.pattern"),
        ({"pattern": "(" * 5000 + "a" + ")" * 5000}, "s.pattern"),
        ({"properties": {"a": LONG}}, "s.properties.a.minLength"),
        ({"$defs": {"a": LONG}, "$ref": "#/$defs/a"}, "s.$defs.a.minLength"),
        ({"$ref": "#/hidden/0", "hidden": [LONG]}, "s.hidden[0].minLength"),
        ({"anyOf": [{}, {"items": LONG}]}, "s.anyOf[1].items.minLength"),
        ({"prefixItems": [{}, LONG]}, "s.prefixItems[1].minLength"),
        ({"additionalProperties": LONG}, "s.additionalProperties.minLength"),
    ],
)
def test_a_range_with_nothing_in_it_is_named(schema: Any, where: str) -> None:
    with pytest.raises(RequestRejected) as caught:
        schemas.check(schema, "s")
    assert caught.value.param == where


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "minLength": 2, "maxLength": 2},
        {"type": "string", "minLength": 2.0, "maxLength": 100_000},
        {"type": "integer", "minimum": 2, "maximum": 2},
        {"type": "number", "exclusiveMinimum": 1, "exclusiveMaximum": 2},
        {"type": "number", "minimum": 1.2, "maximum": 1.8},
        {"type": "number", "minimum": 1, "maximum": 2, "exclusiveMinimum": True},
        {"type": "string", "pattern": r"^\{5,2\}[a-z]{2,5}x{3}y{0,}z{,4}$"},
        {"properties": {"minLength": {"type": "integer"}, "maxLength": {"type": "integer"}}},
        {
            "$ref": "#/$defs/tree",
            "$defs": {"tree": {"items": {"anyOf": [{"$ref": "#/$defs/tree"}, {"$ref": "#"}]}}},
        },
        {"pattern": r"^([a-z]{1,63}\.){1,10}[a-z]{2,63}(:[0-9]{1,5})?(?:/[^/?#]*)*(\?.*)?$"},
        {"$ref": "#/a~1b", "a/b": {"type": "null"}},
        {"properties": {"pattern": {"type": "string"}, "minimum": True, "maximum": False}},
    ],
)
def test_what_an_answer_can_keep_passes(schema: Any) -> None:
    schemas.check(schema, "s")


@pytest.mark.parametrize(
    "grammar",
    [
        'root ::= "a"{5,2}',
        'root ::= "a"{ 5 ,\n 2 }',
        'root ::= "a"{5,# }\n2}',
        'root ::= [^"]{5,2}',
        'root ::= "\\""{5,2}',
        'root ::= <a"b>{5,2}',
        'root ::= "a"{1000000000}',
        'root ::= "a"{99999999999999999999999999}',
        'root ::= "' + "a" * bounds.GRAMMAR_CHARS_MAX + '"',
    ],
)
def test_a_grammar_that_would_grow_without_end_is_refused(grammar: str) -> None:
    for name in ("grammar", "guided_grammar"):
        with pytest.raises(RequestRejected) as caught:
            bounds.check_fields(fields(**{name: grammar}))
        assert caught.value.param == name


def chained(rule: str, last: str) -> str:
    rules = [f"r{at} ::= {rule.replace('X', f'r{at + 1}')}" for at in range(30)]
    return "\n".join(["root ::= r0", *rules, f"r30 ::= {last}"])


@pytest.mark.parametrize(
    ("grammar", "words"),
    [
        (chained("X X", '"a" | ""'), "alternatives"),
        (chained("X | X", '"a"'), "alternatives"),
        (chained("X{0,30}", '"a"?'), "alternatives"),
        ("root ::= " + '"a"? ' * 3000, "alternatives"),
        ('root ::= root "a" | "b"', "back to itself"),
        ('root ::= x "a"\nx ::= ("c"?) root | "b"', "back to itself"),
        ("root ::= " + "(" * 5000 + '"a"' + ")" * 5000, "nested"),
        ("root ::= " + '"a"{0,1900} ' * 300, "repeats too much"),
    ],
)
def test_a_grammar_that_the_engine_would_read_for_ever_is_refused(grammar: str, words: str) -> None:
    with pytest.raises(RequestRejected, match=words):
        bounds.check_grammar(grammar, "grammar")


def test_a_grammar_of_json_and_one_in_another_notation_pass() -> None:
    bounds.check_grammar(JSON, "grammar")
    bounds.check_grammar('start: "a" (b | "c")*\nb: /x{1,3}/', "grammar")


@pytest.mark.parametrize(
    "grammar", ['root ::= "{5,2}" [{5,2}] "a"{2,5} # {5,2}', 'root ::= "a"{3} "b"{2,} "c"*']
)
def test_braces_that_repeat_nothing_are_text(grammar: str) -> None:
    bounds.check_fields(fields(grammar=grammar))


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"json_schema": LONG}, "json_schema.minLength"),
        ({"guided_json": {"items": LONG}}, "guided_json.items.minLength"),
        ({"guided_regex": "a{5,2}"}, "guided_regex"),
        ({"structured_outputs": {"json": LONG}}, "structured_outputs.json.minLength"),
        ({"structured_outputs": {"regex": "a{5,2}"}}, "structured_outputs.regex"),
        ({"structured_outputs": {"grammar": "root ::= a{5,2}"}}, "structured_outputs.grammar"),
    ],
)
def test_an_engines_own_fields_are_no_way_around(body: Any, where: str) -> None:
    with pytest.raises(RequestRejected) as caught:
        bounds.check_fields(fields(**body))
    assert caught.value.param == where


def test_forms_and_tools_say_where_it_stands_in_the_body() -> None:
    form = {"type": "json_object", "schema": LONG}
    with pytest.raises(RequestRejected) as caught:
        structure.read(fields(response_format=form))
    assert caught.value.param == "response_format.schema.minLength"
    tool = {
        "type": "function",
        "function": {"name": "a", "parameters": {"properties": {"b": LONG}}},
    }
    with pytest.raises(RequestRejected) as caught:
        tools.read(fields(tools=[tool]))
    assert caught.value.param == "tools[0].function.parameters.properties.b.minLength"


def test_a_document_of_too_many_parts_is_refused() -> None:
    with pytest.raises(RequestRejected, match="too large"):
        bounds.check({"enum": [[]] * (bounds.CONTAINERS_MAX + 1)}, "s")
