"""Thoughts, from an engine that has some to Anthropic's clients and back.

No small model thinks by itself, so the engine is a scripted server; the neuron, the cortex
and the clients are the real ones.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anthropic
import pytest
from tests.e2e.processes import ANY_PORTS, Node, started
from tests.e2e.test_compliance import run_suite

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

MODEL = "claude-sonnet-4-like"
"""By this name llm-comply takes it for a model that thinks."""
THOUGHT, ANSWER = "15 times 37 is 555.", "It is 555."


class Engine(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    asked: list[dict[str, Any]]

    def do_GET(self) -> None:
        self.reply(json.dumps({"object": "list", "data": [{"id": MODEL}]}).encode())

    def do_POST(self) -> None:
        length = int(self.headers["content-length"])
        self.asked.append(json.loads(self.rfile.read(length)))
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None}]
        deltas += [{"reasoning_content": word + " "} for word in THOUGHT.split()]
        deltas += [{"content": word + " "} for word in ANSWER.split()]
        chunks: list[dict[str, Any]] = [
            {"choices": [{"index": 0, "delta": one, "finish_reason": None}]} for one in deltas
        ]
        chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        usage = {
            "prompt_tokens": 9,
            "completion_tokens": 8,
            "completion_tokens_details": {"reasoning_tokens": 5},
        }
        chunks.append({"choices": [], "usage": usage})
        head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
        lines = [f"data: {json.dumps({**head, **one})}\n\n" for one in chunks]
        self.reply("".join([*lines, "data: [DONE]\n\n"]).encode(), "text/event-stream")

    def reply(self, body: bytes, kind: str = "application/json") -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name
        """Nothing: pytest's output is for pytest."""


@contextmanager
def engine() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Its URL, and the requests that it got."""
    asked: list[dict[str, Any]] = []
    handler = type("Handler", (Engine,), {"asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1", asked
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, list[dict[str, Any]]]]:
    folder: Path = tmp_path_factory.mktemp("thoughts")
    with engine() as (url, requests):
        config = folder / "helexa.toml"
        config.write_text(
            f'[neuron.servers.thinker]\nurl = "{url}"\noffers = ["chat", "reasoning"]\n'
        )
        where = ("--home", str(folder / "home"), "--config", str(config))
        with started("up", *where, *ANY_PORTS, cwd=folder) as node:
            yield node, requests


def test_thoughts_come_as_blocks_and_go_back_as_thoughts(
    asked: tuple[Node, list[dict[str, Any]]],
) -> None:
    node, requests = asked
    turns: Any = [{"role": "user", "content": "What is 15 * 37?"}]
    thinking: Any = {"type": "enabled", "budget_tokens": 1024}
    with anthropic.Anthropic(
        base_url=node.ready["base_url"].removesuffix("/v1"),
        api_key=node.ready["api_key"],
        max_retries=0,
    ) as client:
        whole = client.messages.create(
            model=MODEL, max_tokens=2000, messages=turns, thinking=thinking
        )
        with client.messages.stream(
            model=MODEL, max_tokens=2000, messages=turns, thinking=thinking
        ) as stream:
            kinds = [event.type for event in stream if event.type in ("thinking", "text")]
            streamed = stream.get_final_message()
        hidden = client.messages.create(
            model=MODEL,
            max_tokens=2000,
            messages=turns,
            thinking={"type": "adaptive", "display": "omitted"},
        )
        again = [*turns, {"role": "assistant", "content": whole.content}, turns[0]]
        client.messages.create(model=MODEL, max_tokens=2000, messages=again)
    thought, text = whole.content
    assert thought.type == "thinking"
    assert (thought.thinking.strip(), thought.signature) == (THOUGHT, "unsigned")
    assert text.type == "text"
    assert text.text.strip() == ANSWER
    assert streamed.content[0].to_dict() == thought.to_dict()
    assert streamed.content[1].text == text.text
    assert kinds == ["thinking"] * 5 + ["text"] * 3
    assert [one.type for one in hidden.content] == ["thinking", "text"]
    assert hidden.content[0].thinking == ""
    for message in (whole, streamed):
        assert message.usage.output_tokens == 8
        assert message.usage.output_tokens_details.thinking_tokens == 5
    assert requests[0]["chat_template_kwargs"] == {"enable_thinking": True}
    assert requests[-1]["messages"][1] == {
        "role": "assistant",
        "content": text.text,
        "reasoning_content": thought.thinking,
    }


def test_the_suite_finds_thoughts(asked: tuple[Node, list[dict[str, Any]]]) -> None:
    """The one test of llm-comply's that is skipped for models which do not think."""
    results = run_suite(asked[0], MODEL, "-f", "anth-thinking-display", form="anthropic")
    assert results == {"anth-thinking-display": "passed"}
