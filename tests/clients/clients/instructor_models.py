"""Instructor: answers as Pydantic models.

```python
from typing import Literal

import instructor
from openai import OpenAI
from pydantic import BaseModel


class Node(BaseModel):
    kind: Literal["neuron", "cortex"]
    ok: bool


openai = OpenAI(base_url="http://127.0.0.1:8080/v1", api_key="KEY")
client = instructor.from_openai(openai, mode=instructor.Mode.JSON_SCHEMA)
node = client.create(
    model="helexa-demo",
    response_model=Node,
    messages=[{"role": "user", "content": "What is helexa?"}],
)
print(node)
```
"""

from __future__ import annotations

from typing import Literal

import instructor
from anthropic import Anthropic
from checks import BASE_URL, CITY_QUESTION, KEY, MODEL, QUESTION, URL, check, refused, run
from instructor.core import InstructorRetryException
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel, Field

openai_client = OpenAI(base_url=BASE_URL, api_key=KEY)


class Node(BaseModel):
    """A node."""

    kind: Literal["neuron", "cortex"]
    ok: bool


class Weather(BaseModel):
    """Get current weather for a location."""

    city: Literal["Paris", "Rome"]
    degrees: Literal[17, 18, 19]


def asked(question: str, **more: object) -> dict:
    messages = [{"role": "user", "content": question}]
    return {"model": MODEL, "messages": messages, "temperature": 0, "max_tokens": 200, **more}


@check("chat", "structured output", "usage")
def by_a_schema() -> None:
    client = instructor.from_openai(openai_client, mode=instructor.Mode.JSON_SCHEMA)
    node, completion = client.create_with_completion(response_model=Node, **asked(QUESTION))
    assert isinstance(node, Node)
    assert completion.usage.total_tokens > 0


@check("chat", "structured output", "tools")
def by_a_tool_that_has_to_be_called() -> None:
    for mode in (instructor.Mode.TOOLS, instructor.Mode.TOOLS_STRICT):
        client = instructor.from_openai(openai_client, mode=mode)
        found = client.create(response_model=Weather, max_retries=0, **asked(CITY_QUESTION))
        assert isinstance(found, Weather), mode


@check("chat", "structured output", "streaming")
def a_model_that_fills_as_it_comes() -> None:
    client = instructor.from_openai(openai_client, mode=instructor.Mode.JSON_SCHEMA)
    seen = list(client.create_partial(response_model=Node, **asked(QUESTION)))
    assert seen[-1].kind in ("neuron", "cortex")
    assert len(seen) > 1


@check("chat", "structured output")
async def asynchronously() -> None:
    async with AsyncOpenAI(base_url=BASE_URL, api_key=KEY) as one:
        client = instructor.from_openai(one, mode=instructor.Mode.JSON_SCHEMA)
        assert isinstance(await client.create(response_model=Node, **asked(QUESTION)), Node)


@check("messages", "structured output", "tools")
def by_messages() -> None:
    one = Anthropic(base_url=URL, api_key=KEY)
    client = instructor.from_anthropic(one, mode=instructor.Mode.ANTHROPIC_TOOLS)
    found = client.create(response_model=Weather, max_retries=0, **asked(CITY_QUESTION))
    assert isinstance(found, Weather)


@check("chat", "errors")
def what_cannot_be_is_told_after_the_retries() -> None:
    class Never(BaseModel):
        ok: bool = Field(strict=True)

        def model_post_init(self, _context: object) -> None:
            raise ValueError("never good enough")

    client = instructor.from_openai(openai_client, mode=instructor.Mode.JSON_SCHEMA)
    with refused(InstructorRetryException, 200):
        client.create(response_model=Never, max_retries=1, **asked(QUESTION))
    stranger = OpenAI(base_url=BASE_URL, api_key="hx_live_nobody")
    client = instructor.from_openai(stranger, mode=instructor.Mode.JSON_SCHEMA)
    with refused(InstructorRetryException, 401):
        client.create(response_model=Node, max_retries=0, **asked(QUESTION))


run("instructor")
