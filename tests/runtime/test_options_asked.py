"""Options that OpenAI refuses are refused here by their field, alike on every runtime."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.runtime.test_adapters_conform import ADAPTERS
from tests.runtime.test_asked import BODIES, ENDPOINTS, sent, spec

from helexa.protocol.errors import BodyMalformed, HelexaError
from helexa.runtime.contract import Endpoint, RuntimeAdapter
from helexa.runtime.shaping import shaped

COUNTED = {"include_usage": True}
SCHEMA = {"type": "object"}


@ADAPTERS
@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"logprobs": 0}, "logprobs"),
        ({"logprobs": 1}, "logprobs"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}},
            "response_format.json_schema.name",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}},
            "response_format.json_schema.schema",
        ),
    ],
)
def test_a_chats_options_are_those_of_chats(
    adapter: RuntimeAdapter, said: dict[str, Any], field: str
) -> None:
    with pytest.raises(BodyMalformed) as refused:
        sent(adapter, Endpoint.CHAT, **said)
    assert refused.value.field == field


@ADAPTERS
@pytest.mark.parametrize("value", [True, False, "2", 1.5, -1, 21])
def test_the_logprobs_of_a_text_are_a_number(adapter: RuntimeAdapter, value: Any) -> None:
    with pytest.raises(BodyMalformed) as refused:
        sent(adapter, Endpoint.COMPLETIONS, logprobs=value)
    assert refused.value.field == "logprobs"


@ADAPTERS
@ENDPOINTS
@pytest.mark.parametrize(
    "said", [{"best_of": -1}, {"best_of": 0}, {"best_of": 1.5}, {"best_of": 1, "n": 2}]
)
def test_the_best_is_one_of_as_many_as_are_shown(
    adapter: RuntimeAdapter, endpoint: Endpoint, said: dict[str, Any]
) -> None:
    with pytest.raises(HelexaError) as refused:
        sent(adapter, endpoint, **said)
    # Without more choices than one, that is what is wrong with two of them.
    assert (refused.value.status, refused.value.param) in ((400, "best_of"), (400, "n"))
    assert sent(adapter, endpoint, best_of=1)


@ADAPTERS
@ENDPOINTS
def test_options_of_a_stream_need_one(adapter: RuntimeAdapter, endpoint: Endpoint) -> None:
    for said in ({}, {"stream": False}, {"stream": None}):
        with pytest.raises(BodyMalformed) as refused:
            sent(adapter, endpoint, stream_options=COUNTED, **said)
        assert refused.value.field == "stream_options"
        assert sent(adapter, endpoint, stream_options=None, **said)
    assert sent(adapter, endpoint, stream_options=COUNTED, stream=True)["stream_options"] == COUNTED


@ADAPTERS
@ENDPOINTS
@pytest.mark.parametrize("number", ["1e400", "-1e400"])
@pytest.mark.parametrize(
    "name", ["temperature", "min_p", "mirostat_tau", "dry_base", "xtc_threshold", "repeat_last_n"]
)
def test_a_number_that_nothing_holds_is_refused_by_its_field(
    adapter: RuntimeAdapter, endpoint: Endpoint, name: str, number: str
) -> None:
    body = json.dumps({**BODIES[endpoint], name: 0}).replace(f'"{name}": 0', f'"{name}": {number}')
    with pytest.raises(BodyMalformed) as refused:
        shaped(adapter, endpoint, body.encode(), spec(adapter))
    assert refused.value.field == name


@ADAPTERS
@pytest.mark.parametrize(
    ("said", "field"),
    [
        ('"logit_bias": {"1": 5, "2": 1e400}', "logit_bias.2"),
        ('"logit_bias": {"1": "much"}', "logit_bias"),
        (
            (
                '"tools": [{"type": "function", "function": {"name": "f", "parameters":'
                ' {"properties": {"x": {"maximum": 1e400}}}}}]'
            ),
            "tools[0].function.parameters.properties.x.maximum",
        ),
        (
            (
                '"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema":'
                ' {"anyOf": [{"minimum": -1e400}]}}}'
            ),
            "response_format.json_schema.schema.anyOf[0].minimum",
        ),
    ],
)
def test_so_is_one_inside_a_field_by_its_place(
    adapter: RuntimeAdapter, said: str, field: str
) -> None:
    body = json.dumps(BODIES[Endpoint.CHAT])[:-1] + f", {said}}}"
    with pytest.raises(BodyMalformed) as refused:
        shaped(adapter, Endpoint.CHAT, body.encode(), spec(adapter))
    assert refused.value.field == field
