"""LiteLLM, as a library.

```python
import litellm

answer = litellm.completion(
    model="openai/helexa-demo",
    api_base="http://127.0.0.1:8080/v1",
    api_key="KEY",
    messages=[{"role": "user", "content": "What is helexa?"}],
)
print(answer.choices[0].message.content)
```
"""

from __future__ import annotations

import json
from typing import Literal

import litellm
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
    URL,
    VISION,
    WEATHER,
    check,
    refused,
    run,
)
from pydantic import BaseModel

TOOLS = [
    {
        "type": "function",
        "function": {"name": "get_weather", "description": TOOL_ABOUT, "parameters": PARAMETERS},
    }
]


class Node(BaseModel):
    """A node."""

    kind: Literal["neuron", "cortex"]
    ok: bool


def asked(messages: object = QUESTION, **more: object) -> dict:
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    known = {"model": f"openai/{MODEL}", "api_base": BASE_URL, "api_key": KEY, "temperature": 0}
    return {**known, "messages": messages, "num_retries": 0, "max_tokens": 200, **more}


@check("chat", "text", "usage")
def a_whole_answer() -> None:
    answer = litellm.completion(**asked())
    assert answer.choices[0].message.content == ANSWER
    assert answer.usage.completion_tokens > 3


@check("chat", "streaming", "usage")
async def a_stream() -> None:
    options = {"stream": True, "stream_options": {"include_usage": True}}
    text, usage = "", None
    async for chunk in await litellm.acompletion(**asked(**options)):
        usage = getattr(chunk, "usage", None) or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
    assert text == ANSWER
    assert usage.completion_tokens > 3


@check("chat", "tools")
def a_tool_and_its_result() -> None:
    messages: list = [{"role": "user", "content": CITY_QUESTION}]
    first = litellm.completion(**asked(messages, tools=TOOLS)).choices[0]
    (call,) = first.message.tool_calls
    assert json.loads(call.function.arguments) == {"city": CITY}
    messages += [first.message, {"role": "tool", "tool_call_id": call.id, "content": WEATHER}]
    second = litellm.completion(**asked(messages, tools=TOOLS)).choices[0]
    assert "17" in second.message.content


@check("chat", "tools", "streaming")
def a_streamed_tool_call() -> None:
    more = {"tools": TOOLS, "tool_choice": "required", "stream": True}
    chunks = list(litellm.completion(**asked(CITY_QUESTION, **more)))
    (call,) = litellm.stream_chunk_builder(chunks).choices[0].message.tool_calls
    assert json.loads(call.function.arguments) == {"city": CITY}


@check("chat", "structured output")
def a_model_of_ones_own() -> None:
    answer = litellm.completion(**asked(response_format=Node))
    Node.model_validate_json(answer.choices[0].message.content)


@check("chat", "vision")
def a_picture() -> None:
    url = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}
    content = [{"type": "text", "text": "What is in this picture?"}, url]
    messages = [{"role": "user", "content": content}]
    answer = litellm.completion(**asked(messages, model=f"openai/{VISION}"))
    assert answer.choices[0].message.content == SEEN


@check("chat", "errors")
def refusals_are_exceptions() -> None:
    with refused(litellm.AuthenticationError, 401):
        litellm.completion(**asked(api_key="hx_live_nobody"))
    with refused(litellm.NotFoundError, 404):
        litellm.completion(**asked(model="openai/nobody-has-this"))
    with refused(litellm.BadRequestError, 400):
        litellm.completion(**asked(temperature=9))


@check("messages", "text", "streaming", "tools")
def by_messages() -> None:
    known = {"model": f"anthropic/{MODEL}", "api_base": URL}
    answer = litellm.completion(**asked(**known))
    assert answer.choices[0].message.content == ANSWER
    pieces = litellm.completion(**asked(**known, stream=True))
    assert "".join(one.choices[0].delta.content or "" for one in pieces) == ANSWER
    (call,) = (
        litellm.completion(**asked(CITY_QUESTION, tools=TOOLS, **known))
        .choices[0]
        .message.tool_calls
    )
    assert json.loads(call.function.arguments) == {"city": CITY}


@check("responses", "text", "streaming")
def by_responses() -> None:
    known = {"model": f"openai/{MODEL}", "api_base": BASE_URL, "api_key": KEY, "temperature": 0}
    answer = litellm.responses(input=QUESTION, **known)
    assert answer.output[0].content[0].text == ANSWER
    events = list(litellm.responses(input=QUESTION, stream=True, **known))
    assert events[-1].type == "response.completed"


@check("embeddings", "embeddings", "usage")
def vectors() -> None:
    answer = litellm.embedding(
        model=f"openai/{EMBEDDER}", input=["one", "two"], api_base=BASE_URL, api_key=KEY
    )
    assert len(answer.data) == 2
    assert answer.usage.prompt_tokens > 0


run("litellm")
