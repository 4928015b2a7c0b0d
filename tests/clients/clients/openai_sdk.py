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


@check("responses", "text", "usage")
def a_response_and_the_next_one() -> None:
    answer = client.responses.create(model=MODEL, input=QUESTION, temperature=0)
    assert answer.output_text == ANSWER
    assert answer.status == "completed"
    assert answer.usage.output_tokens > 3
    again = client.responses.create(
        model=MODEL, input=QUESTION, temperature=0, previous_response_id=answer.id
    )
    assert again.usage.input_tokens > answer.usage.input_tokens
    assert client.responses.retrieve(answer.id).output_text == ANSWER
    client.responses.delete(answer.id)
    with refused(openai.NotFoundError, 404):
        client.responses.retrieve(answer.id)


@check("responses", "streaming", "usage")
def a_streamed_response() -> None:
    with client.responses.stream(model=MODEL, input=QUESTION, temperature=0) as stream:
        pieces = [one.delta for one in stream if one.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert "".join(pieces) == ANSWER == final.output_text
    assert len(pieces) > 3
    assert final.usage.output_tokens > 3


@check("responses", "tools", "streaming")
def a_tool_of_a_response() -> None:
    tools = [{"type": "function", **TOOLS[0]["function"], "strict": False}]
    asked = {"model": MODEL, "tools": tools, "temperature": 0}
    with client.responses.stream(input=CITY_QUESTION, **asked) as stream:
        first = stream.get_final_response()
    (call,) = (one for one in first.output if one.type == "function_call")
    assert json.loads(call.arguments) == {"city": CITY}
    result = {"type": "function_call_output", "call_id": call.call_id, "output": WEATHER}
    second = client.responses.create(input=[result], previous_response_id=first.id, **asked)
    assert "17" in second.output_text


@check("responses", "structured output")
def a_response_that_is_parsed() -> None:
    answer = client.responses.parse(
        model=MODEL, input=QUESTION, text_format=Node, max_output_tokens=128, temperature=0
    )
    assert isinstance(answer.output_parsed, Node)


@check("responses", "vision")
def a_picture_in_a_response() -> None:
    parts = [
        {"type": "input_text", "text": "What is in this picture?"},
        {"type": "input_image", "image_url": f"data:image/png;base64,{PICTURE}"},
    ]
    answer = client.responses.create(
        model=VISION, input=[{"role": "user", "content": parts}], temperature=0
    )
    assert answer.output_text == SEEN


@check("responses", "errors")
def refusals_of_responses() -> None:
    with refused(openai.NotFoundError, 404):
        client.responses.create(model="nobody-has-this", input=QUESTION)
    with refused(openai.BadRequestError, 400) as caught:
        client.responses.create(model=MODEL, input=QUESTION, truncation="auto")
    assert caught[0].param == "truncation"


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
