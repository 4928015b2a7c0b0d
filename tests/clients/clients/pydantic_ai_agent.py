"""Pydantic AI.

```python
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

provider = OpenAIProvider(base_url="http://127.0.0.1:8080/v1", api_key="KEY")
agent = Agent(OpenAIChatModel("helexa-demo", provider=provider))
print(agent.run_sync("What is helexa?").output)
```
"""

from __future__ import annotations

from typing import Literal

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
    URL,
    VISION,
    WEATHER,
    check,
    refused,
    run,
)
from pydantic import BaseModel
from pydantic_ai import Agent, BinaryContent, NativeOutput, ToolOutput
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

SETTINGS = {"temperature": 0, "max_tokens": 200}


class Node(BaseModel):
    """A node."""

    kind: Literal["neuron", "cortex"]
    ok: bool


def model(name: str = MODEL, key: str = KEY) -> OpenAIChatModel:
    return OpenAIChatModel(name, provider=OpenAIProvider(base_url=BASE_URL, api_key=key))


@check("chat", "text", "usage")
async def a_whole_answer() -> None:
    done = await Agent(model(), model_settings=SETTINGS).run(QUESTION)
    assert done.output == ANSWER
    usage = done.usage() if callable(done.usage) else done.usage
    assert usage.output_tokens > 3


@check("chat", "streaming")
async def a_stream() -> None:
    async with Agent(model(), model_settings=SETTINGS).run_stream(QUESTION) as stream:
        pieces = [piece async for piece in stream.stream_text(delta=True, debounce_by=None)]
    assert "".join(pieces) == ANSWER
    assert len(pieces) > 3


@check("chat", "tools")
async def an_agent_with_a_tool() -> None:
    agent = Agent(model(), model_settings=SETTINGS)
    asked: list[str] = []

    @agent.tool_plain
    def get_weather(city: str) -> str:
        """Get current weather for a location."""
        asked.append(city)
        return WEATHER

    done = await agent.run(CITY_QUESTION)
    assert asked == [CITY]
    assert "17" in done.output


@check("chat", "structured output")
async def an_output_type() -> None:
    for output in (NativeOutput(Node), ToolOutput(Node)):
        agent = Agent(model(), output_type=output, model_settings=SETTINGS)
        assert isinstance((await agent.run(QUESTION)).output, Node)


@check("chat", "vision")
async def a_picture() -> None:
    import base64

    picture = BinaryContent(base64.b64decode(PICTURE), media_type="image/png")
    agent = Agent(model(VISION), model_settings={"temperature": 0, "max_tokens": 60})
    assert (await agent.run(["What is in this picture?", picture])).output == SEEN


@check("chat", "errors")
async def refusals_are_exceptions() -> None:
    with refused(ModelHTTPError, 401):
        await Agent(model(key="hx_live_nobody")).run(QUESTION)
    with refused(ModelHTTPError, 404):
        await Agent(model("nobody-has-this")).run(QUESTION)


async def with_a_tool(other: object) -> None:
    agent = Agent(other, model_settings=SETTINGS)
    asked: list[str] = []

    @agent.tool_plain
    def get_weather(city: str) -> str:
        """Get current weather for a location."""
        asked.append(city)
        return WEATHER

    assert "17" in (await agent.run(CITY_QUESTION)).output
    assert asked == [CITY]
    async with agent.run_stream(QUESTION) as stream:
        pieces = [piece async for piece in stream.stream_text(delta=True, debounce_by=None)]
    assert "".join(pieces) == ANSWER


@check("responses", "tools", "text", "streaming")
async def by_responses() -> None:
    provider = OpenAIProvider(base_url=BASE_URL, api_key=KEY)
    await with_a_tool(OpenAIResponsesModel(MODEL, provider=provider))


@check("messages", "tools", "text", "streaming")
async def by_messages() -> None:
    provider = AnthropicProvider(base_url=URL, api_key=KEY)
    await with_a_tool(AnthropicModel(MODEL, provider=provider))


run("pydantic-ai-slim")
