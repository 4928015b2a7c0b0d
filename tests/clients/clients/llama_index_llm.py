"""LlamaIndex.

```python
from llama_index.llms.openai_like import OpenAILike

llm = OpenAILike(
    model="helexa-demo",
    api_base="http://127.0.0.1:8080/v1",
    api_key="KEY",
    is_chat_model=True,
    is_function_calling_model=True,
    context_window=2048,
)
print(llm.complete("What is helexa?"))
```
"""

from __future__ import annotations

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
    PICTURE,
    QUESTION,
    SEEN,
    VISION,
    WEATHER,
    check,
    refused,
    run,
)
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel


class Node(BaseModel):
    """A node."""

    kind: Literal["neuron", "cortex"]
    ok: bool


def llm(**more: object) -> OpenAILike:
    known = {"model": MODEL, "api_base": BASE_URL, "api_key": KEY, "temperature": 0}
    known |= {"is_chat_model": True, "is_function_calling_model": True, "context_window": 2048}
    return OpenAILike(**{**known, "max_tokens": 200, "max_retries": 0, **more})


@check("chat", "text", "usage")
def a_whole_answer() -> None:
    answer = llm().chat([ChatMessage(role="user", content=QUESTION)])
    assert answer.message.content == ANSWER
    assert answer.raw.usage.completion_tokens > 3


@check("chat", "streaming")
def a_stream() -> None:
    pieces = [one.delta for one in llm().stream_complete(QUESTION)]
    assert "".join(piece or "" for piece in pieces) == ANSWER
    assert len(pieces) > 3


@check("chat", "tools", "streaming")
async def an_agent_with_a_tool() -> None:
    asked: list[str] = []

    def get_weather(city: str) -> str:
        """Get current weather for a location."""
        asked.append(city)
        return WEATHER

    agent = FunctionAgent(tools=[get_weather], llm=llm())
    said = await agent.run(CITY_QUESTION)
    assert asked == [CITY]
    assert "17" in str(said)


@check("chat", "structured output")
def a_model_of_ones_own() -> None:
    for native in (True, False):
        model = llm(should_use_structured_outputs=native)
        found = model.as_structured_llm(Node).complete(QUESTION)
        assert isinstance(found.raw, Node), native


@check("chat", "vision")
def a_picture() -> None:
    parts = [TextBlock(text="What is in this picture?")]
    parts.append(ImageBlock(url=f"data:image/png;base64,{PICTURE}"))
    answer = llm(model=VISION).chat([ChatMessage(role="user", blocks=parts)])
    assert answer.message.content == SEEN


@check("chat", "errors")
def refusals_are_exceptions() -> None:
    with refused(openai.AuthenticationError, 401):
        llm(api_key="hx_live_nobody").complete(QUESTION)
    with refused(openai.NotFoundError, 404):
        llm(model="nobody-has-this").complete(QUESTION)


@check("completions", "text")
def an_older_completion() -> None:
    assert llm(is_chat_model=False, max_tokens=16).complete("helexa is").text


@check("embeddings", "embeddings")
def vectors() -> None:
    embedder = OpenAILikeEmbedding(model_name=EMBEDDER, api_base=BASE_URL, api_key=KEY)
    one, other = embedder.get_text_embedding_batch(["one", "two"])
    assert len(one) == len(other) > 8


run("llama-index-llms-openai-like")
