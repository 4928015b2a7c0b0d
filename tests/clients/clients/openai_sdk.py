"""The official SDK for Python.

```python
from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:8080/v1", api_key="KEY")
answer = client.chat.completions.create(
    model="helexa-demo", messages=[{"role": "user", "content": "What is helexa?"}]
)
print(answer.choices[0].message.content)
```
"""

from __future__ import annotations

import json
from typing import Literal

import openai
from checks import (
    ANSWER,
    BASE_URL,
    CITY,
    CITY_QUESTION,
    EMBEDDER,
    KEY,
    MODEL,
    PARAMETERS,
    PICTURE,
    QUESTION,
    SEEN,
    TOOL_ABOUT,
    VISION,
    WEATHER,
    check,
    refused,
    run,
)
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

client = OpenAI(base_url=BASE_URL, api_key=KEY)
ASKED = {"model": MODEL, "messages": [{"role": "user", "content": QUESTION}], "temperature": 0}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": TOOL_ABOUT,
            "parameters": PARAMETERS,
        },
    }
]


class Node(BaseModel):
    kind: Literal["neuron", "cortex"]
    ok: bool


@check("chat", "text", "usage")
def a_whole_answer() -> None:
    answer = client.chat.completions.create(**ASKED)
    assert answer.choices[0].message.content == ANSWER
    assert answer.choices[0].finish_reason == "stop"
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 0


@check("chat", "streaming", "usage")
def a_stream_with_usage() -> None:
    text, usage, pieces = "", None, 0
    for chunk in client.chat.completions.create(
        **ASKED, stream=True, stream_options={"include_usage": True}
    ):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            pieces += 1
    assert text == ANSWER
    assert pieces > 3
    assert usage.completion_tokens > 3


@check("chat", "streaming")
async def an_asynchronous_stream_that_is_left_early() -> None:
    async with AsyncOpenAI(base_url=BASE_URL, api_key=KEY) as one:
        stream = await one.chat.completions.create(**ASKED, stream=True)
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        await stream.close()
        again = await one.chat.completions.create(**ASKED)
        assert again.choices[0].message.content == ANSWER


@check("chat", "tools")
def a_tool_and_its_result() -> None:
    messages: list = [{"role": "user", "content": CITY_QUESTION}]
    asked = {"model": MODEL, "tools": TOOLS, "temperature": 0}
    first = client.chat.completions.create(messages=messages, **asked).choices[0]
    (call,) = first.message.tool_calls
    assert first.finish_reason == "tool_calls"
    assert json.loads(call.function.arguments) == {"city": CITY}
    messages += [first.message, {"role": "tool", "tool_call_id": call.id, "content": WEATHER}]
    second = client.chat.completions.create(messages=messages, **asked).choices[0]
    assert "17" in second.message.content


@check("chat", "tools", "streaming")
def a_streamed_tool_call() -> None:
    with client.chat.completions.stream(
        model=MODEL,
        messages=[{"role": "user", "content": CITY_QUESTION}],
        tools=TOOLS,
        tool_choice="required",
    ) as stream:
        kinds = {event.type for event in stream}
        call = stream.get_final_completion().choices[0].message.tool_calls[0]
    assert "tool_calls.function.arguments.done" in kinds, kinds
    assert json.loads(call.function.arguments) == {"city": CITY}


@check("chat", "structured output")
def an_answer_that_is_parsed() -> None:
    answer = client.chat.completions.parse(**ASKED, response_format=Node, max_tokens=128)
    assert isinstance(answer.choices[0].message.parsed, Node)


@check("chat", "vision")
def a_picture() -> None:
    parts = [
        {"type": "text", "text": "What is in this picture?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}},
    ]
    answer = client.chat.completions.create(
        model=VISION, messages=[{"role": "user", "content": parts}], temperature=0, max_tokens=60
    )
    assert answer.choices[0].message.content == SEEN


@check("chat", "errors")
def refusals_are_the_exceptions_of_the_sdk() -> None:
    stranger = OpenAI(base_url=BASE_URL, api_key="hx_live_nobody")
    with refused(openai.AuthenticationError, 401):
        stranger.chat.completions.create(**ASKED)
    with refused(openai.NotFoundError, 404):
        client.chat.completions.create(**{**ASKED, "model": "nobody-has-this"})
    with refused(openai.BadRequestError, 400) as caught:
        client.chat.completions.create(**{**ASKED, "temperature": 9})
    assert caught[0].param == "temperature", caught[0].body


@check("completions", "text", "streaming")
def an_older_completion() -> None:
    asked = {"model": MODEL, "prompt": "helexa is", "max_tokens": 24, "temperature": 0}
    whole = client.completions.create(**asked).choices[0].text
    pieces = [chunk.choices[0].text for chunk in client.completions.create(**asked, stream=True)]
    assert "".join(pieces) == whole
    assert whole


@check("embeddings", "embeddings", "usage")
def vectors() -> None:
    asked = {"model": EMBEDDER, "input": ["one", "two"]}
    packed = client.embeddings.create(**asked)
    plain = client.embeddings.create(**asked, encoding_format="float")
    assert len(packed.data) == 2
    for one, other in zip(packed.data, plain.data, strict=True):
        pairs = zip(one.embedding, other.embedding, strict=True)
        assert max(abs(a - b) for a, b in pairs) < 1e-6
    assert packed.usage.prompt_tokens > 0


@check("models", "models")
def the_list_of_models() -> None:
    assert {MODEL, VISION, EMBEDDER} <= {one.id for one in client.models.list()}
    assert client.models.retrieve(MODEL).id == MODEL
    with refused(openai.NotFoundError, 404):
        client.models.retrieve("nobody-has-this")


run("openai")
