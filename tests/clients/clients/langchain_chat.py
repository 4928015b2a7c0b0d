"""LangChain, with its packages for OpenAI and for Anthropic.

```python
from langchain_openai import ChatOpenAI

model = ChatOpenAI(model="helexa-demo", base_url="http://127.0.0.1:8080/v1", api_key="KEY")
print(model.invoke("What is helexa?").text)
```
"""

from __future__ import annotations

import asyncio
from typing import Literal

import anthropic
import openai
from checks import (
    ANSWER,
    BASE_URL,
    CITY,
    CITY_QUESTION,
    EMBEDDER,
    KEY,
    MODEL,
    PICTURE,
    QUESTION,
    SEEN,
    URL,
    VISION,
    WEATHER,
    check,
    refused,
    run,
)
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel


def chat(**more: object) -> ChatOpenAI:
    known = {"model": MODEL, "base_url": BASE_URL, "api_key": KEY, "temperature": 0}
    return ChatOpenAI(**{**known, **more})


@tool
def get_weather(city: str) -> str:
    """Get current weather for a location."""
    return WEATHER


class Node(BaseModel):
    """A node."""

    kind: Literal["neuron", "cortex"]
    ok: bool


@check("chat", "text", "usage")
def a_whole_answer() -> None:
    answer = chat().invoke(QUESTION)
    assert answer.text == ANSWER
    assert answer.usage_metadata["output_tokens"] > 3


@check("chat", "streaming", "usage")
def a_stream() -> None:
    whole = None
    for chunk in chat(stream_usage=True).stream(QUESTION):
        whole = chunk if whole is None else whole + chunk
    assert whole.text == ANSWER
    assert whole.usage_metadata["total_tokens"] > 3


@check("chat", "streaming")
async def streams_at_once() -> None:
    async def one() -> str:
        return "".join([chunk.text async for chunk in chat().astream(QUESTION)])

    assert await asyncio.gather(one(), one(), one()) == [ANSWER] * 3


@check("chat", "tools")
def a_tool_and_its_result() -> None:
    model = chat().bind_tools([get_weather])
    said: list = [HumanMessage(CITY_QUESTION)]
    said.append(model.invoke(said))
    (call,) = said[-1].tool_calls
    assert call["args"] == {"city": CITY}
    result = get_weather.invoke(call)
    assert isinstance(result, ToolMessage)
    assert "17" in model.invoke([*said, result]).text


@check("chat", "tools", "streaming")
def a_streamed_tool_call() -> None:
    whole = None
    for chunk in chat().bind_tools([get_weather], tool_choice="any").stream(CITY_QUESTION):
        whole = chunk if whole is None else whole + chunk
    assert whole.tool_calls[0]["args"] == {"city": CITY}


@check("chat", "structured output")
def a_model_of_ones_own() -> None:
    for method in ("json_schema", "function_calling"):
        found = chat(max_tokens=128).with_structured_output(Node, method=method).invoke(QUESTION)
        assert isinstance(found, Node), method


@check("chat", "vision")
def a_picture() -> None:
    parts = [
        {"type": "text", "text": "What is in this picture?"},
        {"type": "image", "base64": PICTURE, "mime_type": "image/png"},
    ]
    answer = chat(model=VISION, max_tokens=60).invoke([HumanMessage(content=parts)])
    assert answer.text == SEEN


@check("chat", "errors")
def refusals_are_exceptions() -> None:
    with refused(openai.AuthenticationError, 401):
        chat(api_key="hx_live_nobody").invoke(QUESTION)
    with refused(openai.NotFoundError, 404):
        chat(model="nobody-has-this").invoke(QUESTION)


@check("embeddings", "embeddings")
def vectors() -> None:
    # By default it sends token ids of OpenAI's own vocabulary, which mean nothing to other models.
    embedder = OpenAIEmbeddings(
        model=EMBEDDER, base_url=BASE_URL, api_key=KEY, check_embedding_ctx_length=False
    )
    one, other = embedder.embed_documents(["one", "two"])
    assert len(one) == len(other) > 8
    assert (
        one == embedder.embed_query("one")
        or max(abs(a - b) for a, b in zip(one, embedder.embed_query("one"), strict=True)) < 1e-5
    )


def others(**more: object) -> list[tuple[str, object]]:
    """The other two APIs, by the same class of LangChain's."""
    known = {"model": MODEL, "api_key": KEY, "temperature": 0, "max_tokens": 200}
    messages = ChatAnthropic(**{**known, "base_url": URL, **more})
    responses = ChatOpenAI(**{**known, "base_url": BASE_URL, **more}, use_responses_api=True)
    return [("messages", messages), ("responses", responses)]


@check("messages", "text", "streaming", "usage")
def by_messages() -> None:
    by(dict(others())["messages"])


@check("responses", "text", "streaming", "usage")
def by_responses() -> None:
    by(dict(others())["responses"])


def by(model: object) -> None:
    answer = model.invoke(QUESTION)
    assert answer.text == ANSWER
    assert answer.usage_metadata["output_tokens"] > 3
    assert "".join(chunk.text for chunk in model.stream(QUESTION)) == ANSWER


@check("messages", "tools")
def a_tool_by_messages() -> None:
    a_tool_by(dict(others())["messages"])


@check("responses", "tools")
def a_tool_by_responses() -> None:
    a_tool_by(dict(others())["responses"])


def a_tool_by(plain: object) -> None:
    model = plain.bind_tools([get_weather])
    said: list = [HumanMessage(CITY_QUESTION)]
    said.append(model.invoke(said))
    (call,) = said[-1].tool_calls
    assert call["args"] == {"city": CITY}
    assert "17" in model.invoke([*said, get_weather.invoke(call)]).text


@check("messages", "structured output")
def a_model_of_ones_own_by_messages() -> None:
    model = dict(others())["messages"].with_structured_output(Node)
    assert isinstance(model.invoke(QUESTION), Node)


@check("messages", "errors")
def refusals_of_messages() -> None:
    with refused(anthropic.NotFoundError, 404):
        dict(others(model="nobody-has-this"))["messages"].invoke(QUESTION)


run("langchain-openai", "langchain-anthropic")
