"""OpenAI's own SDK on the Responses API, against a real cortex, neuron and model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from openai import BadRequestError, NotFoundError, OpenAI
from openai.types.responses import FunctionToolParam
from pydantic import BaseModel
from tests.e2e.processes import ANY_PORTS, Node, started

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

MODEL = "helexa-demo"
WEATHER: FunctionToolParam = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather of a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Oslo", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}


def client_of(up: Node) -> OpenAI:
    return OpenAI(base_url=up.ready["base_url"], api_key=up.ready["api_key"], max_retries=0)


@pytest.fixture
def client(up: Node) -> Iterator[OpenAI]:
    with client_of(up) as client:
        yield client


def test_a_question_is_answered_whole_and_streamed_alike(client: OpenAI) -> None:
    asked = {"model": MODEL, "input": "What is helexa?", "temperature": 0}
    whole = client.responses.create(**asked)  # type: ignore[call-overload]
    assert "fabric" in whole.output_text
    assert whole.usage.output_tokens > 0
    counted = client.responses.input_tokens.count(model=MODEL, input="What is helexa?")
    assert counted.input_tokens == whole.usage.input_tokens
    with client.responses.stream(**asked) as stream:  # type: ignore[arg-type]
        deltas = [one.delta for one in stream if one.type == "response.output_text.delta"]
        last = stream.get_final_response()
    assert len(deltas) > 1
    assert "".join(deltas) == last.output_text == whole.output_text
    assert last.usage is not None
    assert last.usage.output_tokens == whole.usage.output_tokens
    assert last.status == "completed"


def test_tools_are_called_and_their_outputs_are_heard(client: OpenAI) -> None:
    first = client.responses.create(
        model=MODEL, input="What is the weather in Oslo?", tools=[WEATHER], tool_choice="required"
    )
    (call,) = [one for one in first.output if one.type == "function_call"]
    assert call.name == "get_weather"
    assert json.loads(call.arguments)["city"] in ("Oslo", "Rome")
    second = client.responses.create(
        model=MODEL,
        previous_response_id=first.id,
        input=[{"type": "function_call_output", "call_id": call.call_id, "output": "Rain."}],
        tools=[WEATHER],
        max_output_tokens=16,
    )
    assert second.output_text or second.output
    with client.responses.stream(
        model=MODEL,
        input="What is the weather in Rome?",
        tools=[WEATHER],
        tool_choice={"type": "function", "name": "get_weather"},
    ) as stream:
        done = [one for one in stream if one.type == "response.function_call_arguments.done"]
        response = stream.get_final_response()
    assert [one.type for one in response.output] == ["function_call"]
    assert json.loads(done[0].arguments)["city"] in ("Oslo", "Rome")


def test_a_refusal_can_be_sent_back(client: OpenAI) -> None:
    refusal = {"type": "refusal", "refusal": "I will not."}
    question = {"role": "user", "content": "What is helexa?"}
    turns: Any = [question, {"role": "assistant", "content": [refusal]}, question]
    assert client.responses.create(model=MODEL, input=turns, max_output_tokens=5).output_text
    chat = client.chat.completions.create(model=MODEL, messages=turns, max_tokens=5)
    assert chat.choices[0].message.content


class City(BaseModel):
    name: str
    is_large: bool


def test_an_answer_has_the_shape_that_was_asked_for(client: OpenAI) -> None:
    # An unbounded text may run on: a model of this size does not always find its end.
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "enum": ["Oslo", "Rome"]},
            "is_large": {"type": "boolean"},
        },
        "required": ["name", "is_large"],
        "additionalProperties": False,
    }
    response = client.responses.create(
        model=MODEL,
        input="Name a city.",
        text={"format": {"type": "json_schema", "name": "city", "schema": schema, "strict": True}},
    )
    assert City.model_validate_json(response.output_text).name in ("Oslo", "Rome")
    parsed = client.responses.parse(
        model=MODEL, input="Is it?", text_format=Truth, max_output_tokens=64
    )
    assert parsed.output_parsed is not None
    assert parsed.output_parsed.is_so in (True, False)


class Truth(BaseModel):
    is_so: bool


def test_a_limit_makes_a_response_incomplete(client: OpenAI) -> None:
    response = client.responses.create(model=MODEL, input="What is helexa?", max_output_tokens=3)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.usage is not None
    assert response.usage.output_tokens == 3


def test_log_probabilities_come_where_they_are_asked_for(client: OpenAI) -> None:
    response = client.responses.create(
        model=MODEL,
        input="What is helexa?",
        include=["message.output_text.logprobs"],
        top_logprobs=2,
        max_output_tokens=4,
    )
    part = response.output[0].content[0]  # type: ignore[union-attr, index]
    assert "".join(one.token for one in part.logprobs) == part.text  # type: ignore[union-attr]
    assert all(len(one.top_logprobs) == 2 for one in part.logprobs)  # type: ignore[union-attr]


def test_what_the_model_cannot_do_is_told_in_the_words_of_this_api(client: OpenAI) -> None:
    picture = {"type": "input_image", "image_url": "data:image/png;base64,xx", "detail": "auto"}
    for asked, param in [
        ({"max_output_tokens": -1}, "max_output_tokens"),
        ({"reasoning": {"effort": "high"}}, "reasoning.effort"),
        ({"text": {"verbosity": "low"}}, "text.verbosity"),
        ({"tools": [{**WEATHER, "parameters": {"type": 5}}]}, "tools[0].parameters.type"),
        ({"input": [{"role": "user", "content": [picture]}]}, "input"),
    ]:
        with pytest.raises(BadRequestError) as refused:
            client.responses.create(**{"model": MODEL, "input": "hi", **asked})  # type: ignore[call-overload]
        assert refused.value.param is not None
        assert refused.value.param.startswith(param), (asked, refused.value.param)


def test_a_conversation_survives_a_restart_of_the_cortex(tmp_path: Path) -> None:
    arguments = ("up", "--home", str(tmp_path / "home"), *ANY_PORTS)
    with started(*arguments, cwd=tmp_path) as up, client_of(up) as client:
        first = client.responses.create(model=MODEL, input="What is helexa?")
        gone = client.responses.create(model=MODEL, input="What is helexa?")
        client.responses.delete(gone.id)
        with urlopen(up.ready["base_url"].removesuffix("v1") + "metrics") as metrics:
            lines = metrics.read().decode().splitlines()
        kept = len(first.model_dump_json())
        (shown,) = [one for one in lines if one.startswith("helexa_responses_bytes ")]
        assert kept / 2 < float(shown.split()[1]) < kept * 2
        assert "helexa_responses_not_kept_total 0.0" in lines
        assert up.stop() == 0
    with started(*arguments, cwd=tmp_path) as up, client_of(up) as client:
        assert client.responses.retrieve(first.id) == first
        second = client.responses.create(
            model=MODEL, input="And?", previous_response_id=first.id, max_output_tokens=8
        )
        assert second.previous_response_id == first.id
        items = client.responses.input_items.list(second.id, order="asc").data
        assert [one.type for one in items] == ["message", "message", "message"]
        assert items[1].id == first.output[0].id
        with pytest.raises(NotFoundError):
            client.responses.retrieve(gone.id)
        with pytest.raises(BadRequestError) as refused:
            client.responses.create(model=MODEL, input="x", previous_response_id=gone.id)
        assert refused.value.code == "previous_response_not_found"
