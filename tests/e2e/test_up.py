"""`helexa up`: from one command to an answer, with the official client and the real runtime."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest
from tests.e2e.processes import ANY_PORTS, Node, started, wait_gone

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

QUESTION = [{"role": "user", "content": "What is helexa?"}]


@pytest.fixture
def client(up: Node) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=up.ready["base_url"], api_key=up.ready["api_key"], max_retries=0
    ) as made:
        yield made


def test_it_says_all_that_a_client_needs(up: Node) -> None:
    ready = up.ready
    for field in ("base_url", "portal_url", "api_key", "admin_token", "curl"):
        assert isinstance(ready[field], str), field
        assert ready[field], field
    assert "helexa-demo" in ready["models"]
    assert "helexa-demo-vision" in ready["models"]


def test_the_official_client_lists_the_models(client: openai.OpenAI) -> None:
    listed = {model.id: model for model in client.models.list()}
    assert {"helexa-demo", "helexa-demo-vision"} <= listed.keys()
    assert client.models.retrieve("helexa-demo").object == "model"


def test_it_chats_and_ends_its_answer(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="helexa-demo", messages=QUESTION, temperature=0)
    assert answer.choices[0].finish_reason == "stop"
    assert "helexa" in (answer.choices[0].message.content or "").lower()
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_streamed_answer_is_the_plain_one_in_pieces(client: openai.OpenAI) -> None:
    plain = client.chat.completions.create(model="helexa-demo", messages=QUESTION, temperature=0)
    chunks = list(
        client.chat.completions.create(
            model="helexa-demo", messages=QUESTION, temperature=0, stream=True
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == plain.choices[0].message.content
    assert sum(bool(chunk.choices and chunk.choices[0].delta.content) for chunk in chunks) > 3
    assert all(chunk.usage is None for chunk in chunks)


def test_usage_ends_a_stream_when_it_is_asked_for(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="helexa-demo",
            messages=QUESTION,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0


def test_it_completes_plain_text_streamed_and_not(client: openai.OpenAI) -> None:
    plain = client.completions.create(
        model="helexa-demo", prompt="helexa is", temperature=0, max_tokens=16
    )
    assert plain.choices[0].text
    assert plain.choices[0].finish_reason in ("stop", "length")
    chunks = client.completions.create(
        model="helexa-demo", prompt="helexa is", temperature=0, max_tokens=16, stream=True
    )
    streamed = "".join(chunk.choices[0].text for chunk in chunks if chunk.choices)
    assert streamed == plain.choices[0].text


def test_tokens_are_counted_as_a_completion_counts_them(client: openai.OpenAI) -> None:
    asked = {"model": "helexa-demo", "messages": QUESTION}
    counted: Any = client.post("/tokenize", body={**asked, "return_token_strs": True}, cast_to=dict)
    answer = client.chat.completions.create(model="helexa-demo", messages=QUESTION, max_tokens=1)
    assert answer.usage is not None
    assert counted["count"] == len(counted["tokens"]) == answer.usage.prompt_tokens
    rest = {"model": "helexa-demo", "tokens": counted["tokens"]}
    text: Any = client.post("/detokenize", body=rest, cast_to=dict)
    assert text["prompt"] == "".join(counted["token_strs"])
    with pytest.raises(openai.BadRequestError) as refusal:
        client.post("/tokenize", body={"model": "helexa-demo"}, cast_to=dict)
    assert refusal.value.param == "prompt"


def test_a_tool_call_comes_in_the_form_that_clients_parse(client: openai.OpenAI) -> None:
    tool: openai.types.chat.ChatCompletionToolParam = {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Current weather of a city",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "description": "The city"}},
                "required": ["city"],
            },
        },
    }
    answer = client.chat.completions.create(
        model="helexa-demo",
        messages=[{"role": "user", "content": "What is the weather in Lisbon?"}],
        tools=[tool],
        temperature=0,
    )
    assert answer.choices[0].finish_reason == "tool_calls"
    calls = answer.choices[0].message.tool_calls or []
    assert len(calls) == 1
    assert calls[0].type == "function"
    assert calls[0].function.name == "get_weather"
    assert json.loads(calls[0].function.arguments) == {"city": "Lisbon"}


def test_the_printed_curl_works_when_pasted(up: Node) -> None:
    command = shlex.split(up.ready["curl"])
    assert command[0] == "curl"
    done = subprocess.run(
        [*command, "--silent", "--show-error"], capture_output=True, check=True, timeout=60
    )
    answer = json.loads(done.stdout)
    assert "helexa" in answer["choices"][0]["message"]["content"].lower()


def test_ctrl_c_ends_everything_and_leaves_no_process(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with started("up", "--home", str(home), *ANY_PORTS, cwd=tmp_path) as node:
        assert node.ready
        family = node.family()
        # up, cortex, neuron, and the runtime's child of the loaded demo model.
        assert len(family) >= 4
        assert node.stop(signal.SIGINT) == 0
        wait_gone(family)


def test_a_killed_up_takes_its_nodes_and_their_runtimes_with_it(tmp_path: Path) -> None:
    with started("up", "--home", str(tmp_path / "home"), *ANY_PORTS, cwd=tmp_path) as node:
        assert node.ready
        family = node.family()
        node.stop(signal.SIGKILL)
        wait_gone(family, timeout_s=40)


def test_a_second_start_keeps_the_key_and_the_identity(tmp_path: Path) -> None:
    seen = []
    for _ in range(2):
        with started("up", "--home", str(tmp_path / "home"), *ANY_PORTS, cwd=tmp_path) as node:
            seen.append(node.ready["api_key"])
            assert node.stop() == 0
    assert seen[0] == seen[1]


def test_the_cli_sees_what_runs(up: Node) -> None:
    home = up.arguments[up.arguments.index("--home") + 1]

    def ask(*arguments: str) -> object:
        done = subprocess.run(
            [sys.executable, "-m", "helexa", *arguments, "--home", home, "--json"],
            capture_output=True,
            check=True,
            timeout=60,
        )
        return json.loads(done.stdout)

    assert "helexa-demo" in json.dumps(ask("models", "list"))
    assert "neuron" in json.dumps(ask("inspect", "cortex"))
    assert "helexa-demo" in json.dumps(ask("inspect", "neuron"))
    assert psutil.pid_exists(up.process.pid)
