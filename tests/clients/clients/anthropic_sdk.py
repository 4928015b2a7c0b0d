"""Anthropic's official SDK for Python.

```python
from anthropic import Anthropic

client = Anthropic(base_url="http://127.0.0.1:8080", api_key="KEY")
answer = client.messages.create(
    model="helexa-demo",
    max_tokens=200,
    messages=[{"role": "user", "content": "What is helexa?"}],
)
print(answer.content[0].text)
```
"""

from __future__ import annotations

from typing import Literal

import anthropic
from anthropic import Anthropic, AsyncAnthropic
from checks import (
    ANSWER,
    CITY,
    CITY_QUESTION,
    KEY,
    MODEL,
    PARAMETERS,
    PICTURE,
    QUESTION,
    SEEN,
    TOOL_ABOUT,
    URL,
    VISION,
    WEATHER,
    check,
    refused,
    run,
)
from pydantic import BaseModel

client = Anthropic(base_url=URL, api_key=KEY)
ASKED = {
    "model": MODEL,
    "max_tokens": 200,
    "extra_body": {"temperature": 0},
    "messages": [{"role": "user", "content": QUESTION}],
}
CITY_ASKED = {**ASKED, "messages": [{"role": "user", "content": CITY_QUESTION}]}
TOOLS = [{"name": "get_weather", "description": TOOL_ABOUT, "input_schema": PARAMETERS}]


class Node(BaseModel):
    kind: Literal["neuron", "cortex"]
    ok: bool


@check("messages", "text", "usage")
def a_whole_answer() -> None:
    answer = client.messages.create(**ASKED)
    assert answer.content[0].text == ANSWER
    assert answer.stop_reason == "end_turn"
    # What an earlier client's prompt left in the cache is counted beside it.
    assert answer.usage.input_tokens + answer.usage.cache_read_input_tokens > 3
    assert answer.usage.output_tokens > 3


@check("messages", "streaming", "usage")
def a_stream() -> None:
    with client.messages.stream(**ASKED) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    assert "".join(pieces) == ANSWER == final.content[0].text
    assert len(pieces) > 3
    assert final.usage.output_tokens > 3


@check("messages", "streaming")
async def an_asynchronous_stream_that_is_left_early() -> None:
    async with AsyncAnthropic(base_url=URL, api_key=KEY) as one:
        async with one.messages.stream(**ASKED) as stream:
            async for _ in stream.text_stream:
                break
        assert (await one.messages.create(**ASKED)).content[0].text == ANSWER


@check("messages", "tools")
def a_tool_and_its_result() -> None:
    first = client.messages.create(**CITY_ASKED, tools=TOOLS)
    assert first.stop_reason == "tool_use"
    call = first.content[-1]
    assert call.input == {"city": CITY}
    result = {"type": "tool_result", "tool_use_id": call.id, "content": WEATHER}
    messages = [
        *CITY_ASKED["messages"],
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": [result]},
    ]
    second = client.messages.create(**{**ASKED, "messages": messages}, tools=TOOLS)
    assert "17" in second.content[0].text


@check("messages", "tools")
def the_tool_runner() -> None:
    @anthropic.beta_tool
    def get_weather(city: str) -> str:
        """Get current weather for a location."""
        assert city == CITY
        return WEATHER

    *_, last = client.beta.messages.tool_runner(**CITY_ASKED, tools=[get_weather])
    assert "17" in last.content[0].text


@check("messages", "tools", "streaming")
def a_streamed_tool_call() -> None:
    choice = {"type": "any"}
    with client.messages.stream(**CITY_ASKED, tools=TOOLS, tool_choice=choice) as stream:
        final = stream.get_final_message()
    assert final.content[-1].input == {"city": CITY}


@check("messages", "structured output")
def an_answer_that_is_parsed() -> None:
    answer = client.messages.parse(**ASKED, output_format=Node)
    assert isinstance(answer.parsed_output, Node)


@check("messages", "vision")
def a_picture() -> None:
    source = {"type": "base64", "media_type": "image/png", "data": PICTURE}
    parts = [{"type": "image", "source": source}]
    parts.append({"type": "text", "text": "What is in this picture?"})
    asked = {**ASKED, "model": VISION, "messages": [{"role": "user", "content": parts}]}
    assert client.messages.create(**asked).content[0].text == SEEN


@check("messages", "usage")
def the_tokens_of_a_prompt() -> None:
    counted = client.messages.count_tokens(model=MODEL, messages=ASKED["messages"])
    usage = client.messages.create(**ASKED).usage
    # Anthropic counts what was cached beside the input.
    assert counted.input_tokens == usage.input_tokens + usage.cache_read_input_tokens


@check("messages", "errors")
def refusals_are_the_exceptions_of_the_sdk() -> None:
    stranger = Anthropic(base_url=URL, api_key="hx_live_nobody")
    with refused(anthropic.AuthenticationError, 401):
        stranger.messages.create(**ASKED)
    with refused(anthropic.NotFoundError, 404):
        client.messages.create(**{**ASKED, "model": "nobody-has-this"})
    with refused(anthropic.BadRequestError, 400) as caught:
        client.messages.create(**{**ASKED, "extra_body": {"temperature": 9}})
    assert caught[0].body["error"]["type"] == "invalid_request_error"


@check("models", "models")
def the_list_of_models() -> None:
    assert {MODEL, VISION} <= {one.id for one in client.models.list(limit=1)}
    assert client.models.retrieve(MODEL).id == MODEL


run("anthropic")
