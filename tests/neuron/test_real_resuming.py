"""The real engine goes on with a stream that another one began, to the byte."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.neuron.resuming import (
    CHAT,
    COMPLETIONS,
    Node,
    continued,
    node,
    resumed_of,
    said,
    streamed,
)

from helexa.neuron.models.store import DEMO_FOLDER
from helexa.neuron.settings import ModelSettings
from helexa.testing import gguf_copies, tiny_gguf

pytestmark = pytest.mark.anyio

EXACT = ModelSettings(slots=8, context_tokens=1024, deterministic=True)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    gguf_copies.write(DEMO_FOLDER / "helexa-demo.gguf", folder / "demo.gguf", {})
    # Any byte may be its next: most characters of more than one byte are divided among tokens.
    tiny_gguf.write(folder / "wild.gguf", context_tokens=2048)
    return folder


@asynccontextmanager
async def two(
    tmp_path: Path, models: Path, served: dict[str, ModelSettings] | None = None
) -> AsyncIterator[tuple[Node, Node]]:
    served = served or {"demo": EXACT, "wild": EXACT}
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(node(tmp_path / "a", models, served))
        second = await stack.enter_async_context(node(tmp_path / "b", models, served))
        yield first, second


def chat(model: str, content: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": content}]
    return {"model": model, "messages": messages, "max_tokens": 60, "temperature": 0, **more}


def text(model: str, prompt: Any, **more: Any) -> dict[str, Any]:
    return {"model": model, "prompt": prompt, "max_tokens": 40, "temperature": 0, **more}


async def cut_everywhere(
    first: Node, second: Node, path: str, body: dict[str, Any], *, at_once: int = 1, step: int = 1
) -> int:
    """Each cut of the stream, finished elsewhere, is the undisturbed stream. How many cuts."""
    events = await streamed(first, path, body)
    whole = said(events)
    cuts = list(range(1, len(events) - 1, step))
    limit = anyio.CapacityLimiter(at_once)

    async def one(at: int) -> None:
        async with limit:
            reply = await continued(second, path, body, events[:at])
        assert reply.status == 200, (at, events[:at], reply.content)
        assert said([*events[:at], *reply.events]) == whole, (at, body)
        assert 0 <= resumed_of(reply) <= whole["usage"]["completion_tokens"]

    async with anyio.create_task_group() as tasks:
        for at in cuts:
            tasks.start_soon(one, at)
    return len(cuts)


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "a chat": (CHAT, chat("demo", "What is helexa?")),
    "a chat to its limit": (CHAT, chat("demo", "What is helexa?", max_tokens=11)),
    "a chat with a stop string": (CHAT, chat("demo", "What is helexa?", stop=["AI fab", "zz"])),
    "a chat with penalties": (
        CHAT,
        chat("demo", "What is helexa?", frequency_penalty=0.7, logit_bias={"300": -5}),
    ),
    "a text": (COMPLETIONS, text("demo", "helexa is")),
    "a text of tokens": (COMPLETIONS, text("demo", [527, 220, 300])),
    "a text with a stop string": (COMPLETIONS, text("demo", "helexa is", stop="a fed")),
    "by lot with a seed": (CHAT, chat("demo", "Hello!", temperature=0.8, seed=11)),
    "a text by lot with a seed": (COMPLETIONS, text("demo", "hel", temperature=0.8, seed=3)),
    "characters in pieces": (CHAT, chat("wild", "\u4e16\u754c \U0001f642", max_tokens=80)),
    "characters in pieces by lot": (
        CHAT,
        chat("wild", "\u4e16", max_tokens=80, temperature=1.0, seed=5),
    ),
}


async def test_a_stream_that_is_cut_anywhere_goes_on_as_if_it_was_not(
    tmp_path: Path, models: Path
) -> None:
    async with two(tmp_path, models) as (first, second):
        for path, body in CASES.values():
            assert await cut_everywhere(first, second, path, body) > 5


async def test_eight_at_a_time_go_on_as_if_each_was_alone(tmp_path: Path, models: Path) -> None:
    async with two(tmp_path, models) as (first, second):
        for more in ({}, {"temperature": 0.8, "seed": 4}):
            body = chat("demo", "What is helexa?", **more)
            assert await cut_everywhere(first, second, CHAT, body, at_once=8) > 5
