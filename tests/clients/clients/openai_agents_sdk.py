"""The OpenAI Agents SDK.

```python
import asyncio

from agents import Agent, OpenAIChatCompletionsModel, Runner, set_tracing_disabled
from openai import AsyncOpenAI

set_tracing_disabled(True)
client = AsyncOpenAI(base_url="http://127.0.0.1:8080/v1", api_key="KEY")
model = OpenAIChatCompletionsModel(model="helexa-demo", openai_client=client)
agent = Agent(name="Guide", model=model)
print(asyncio.run(Runner.run(agent, "What is helexa?")).final_output)
```
"""

from __future__ import annotations

from typing import Literal

import openai
from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from checks import (
    ANSWER,
    BASE_URL,
    CITY,
    CITY_QUESTION,
    KEY,
    MODEL,
    PICTURE,
    QUESTION,
    SEEN,
    VISION,
    WEATHER,
    check,
    refused,
    run,
)
from openai import AsyncOpenAI
from pydantic import BaseModel

set_tracing_disabled(True)
SETTINGS = ModelSettings(temperature=0, max_tokens=200, include_usage=True)
asked: list[str] = []


class Node(BaseModel):
    """A node."""

    kind: Literal["neuron", "cortex"]
    ok: bool


@function_tool
def get_weather(city: str) -> str:
    """Get current weather for a location."""
    asked.append(city)
    return WEATHER


def chat(name: str = MODEL, key: str = KEY) -> OpenAIChatCompletionsModel:
    client = AsyncOpenAI(base_url=BASE_URL, api_key=key)
    return OpenAIChatCompletionsModel(model=name, openai_client=client)


def agent(model: object, **more: object) -> Agent:
    return Agent(name="Guide", model=model, model_settings=SETTINGS, **more)


@check("chat", "text", "usage")
async def a_whole_answer() -> None:
    done = await Runner.run(agent(chat()), QUESTION)
    assert done.final_output == ANSWER
    assert done.context_wrapper.usage.output_tokens > 3


@check("chat", "streaming")
async def a_stream() -> None:
    stream = Runner.run_streamed(agent(chat()), QUESTION)
    pieces = [
        event.data.delta
        async for event in stream.stream_events()
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta"
    ]
    assert "".join(pieces) == ANSWER == stream.final_output
    assert len(pieces) > 3


@check("chat", "tools")
async def an_agent_with_a_tool() -> None:
    asked.clear()
    done = await Runner.run(agent(chat(), tools=[get_weather]), CITY_QUESTION)
    assert asked == [CITY]
    assert "17" in done.final_output


@check("chat", "tools", "streaming")
async def an_agent_with_a_tool_streamed() -> None:
    asked.clear()
    stream = Runner.run_streamed(agent(chat(), tools=[get_weather]), CITY_QUESTION)
    async for _ in stream.stream_events():
        pass
    assert asked == [CITY]
    assert "17" in stream.final_output


@check("chat", "structured output")
async def an_output_type() -> None:
    done = await Runner.run(agent(chat(), output_type=Node), QUESTION)
    assert isinstance(done.final_output, Node)


@check("chat", "vision")
async def a_picture() -> None:
    parts = [
        {"type": "input_text", "text": "What is in this picture?"},
        {
            "type": "input_image",
            "image_url": f"data:image/png;base64,{PICTURE}",
            "detail": "auto",
        },
    ]
    done = await Runner.run(agent(chat(VISION)), [{"role": "user", "content": parts}])
    assert done.final_output == SEEN


@check("chat", "errors")
async def refusals_are_exceptions() -> None:
    with refused(openai.AuthenticationError, 401):
        await Runner.run(agent(chat(key="hx_live_nobody")), QUESTION)
    with refused(openai.NotFoundError, 404):
        await Runner.run(agent(chat("nobody-has-this")), QUESTION)


def responses(name: str = MODEL) -> OpenAIResponsesModel:
    client = AsyncOpenAI(base_url=BASE_URL, api_key=KEY)
    return OpenAIResponsesModel(model=name, openai_client=client)


@check("responses", "text", "streaming")
async def a_stream_of_responses() -> None:
    stream = Runner.run_streamed(agent(responses()), QUESTION)
    pieces = [
        event.data.delta
        async for event in stream.stream_events()
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta"
    ]
    assert "".join(pieces) == ANSWER == stream.final_output


@check("responses", "tools")
async def an_agent_with_a_tool_by_responses() -> None:
    asked.clear()
    done = await Runner.run(agent(responses(), tools=[get_weather]), CITY_QUESTION)
    assert asked == [CITY]
    assert "17" in done.final_output


@check("responses", "structured output")
async def an_output_type_by_responses() -> None:
    done = await Runner.run(agent(responses(), output_type=Node), QUESTION)
    assert isinstance(done.final_output, Node)


run("openai-agents")
