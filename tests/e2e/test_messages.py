"""The official `anthropic` client, unchanged, against a real node and the demo models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from tests.e2e.processes import ANY_PORTS, Node, started
from tests.e2e.raw import ask
from tests.e2e.test_senses import cases

from helexa.testing.conformance import models

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

DEMO, VISION = "helexa-demo", "helexa-demo-vision"
QUESTION: Any = [{"role": "user", "content": "What is helexa?"}]
WEATHER: Any = [{"role": "user", "content": "What is the weather in Paris?"}]
TOOLS: Any = [
    {
        "name": "get_weather",
        "description": "The weather of a place.",
        "input_schema": {
            "type": "object",
            "properties": {"location": {"type": "string"}},
            "required": ["location"],
        },
    }
]
EXACT: Any = {"temperature": 0}


@pytest.fixture
def client(up: Node) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(
        base_url=up.ready["base_url"].removesuffix("/v1"),
        api_key=up.ready["api_key"],
        max_retries=0,
    ) as one:
        yield one


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A model whose template has a place for thoughts."""
    folder = tmp_path_factory.mktemp("thinker")
    (folder / "models").mkdir()
    models.write(folder / "models")
    where = ("--home", str(folder / "home"), "--models-dir", str(folder / "models"))
    with started("up", *where, *ANY_PORTS, cwd=folder) as node:
        yield node


def openai_text(up: Node) -> str:
    body = {"model": DEMO, "messages": QUESTION, "temperature": 0, "max_tokens": 100}
    status, answer = ask(up.ready["base_url"], "/chat/completions", body, key=up.ready["api_key"])
    assert status == 200
    return str(answer["choices"][0]["message"]["content"])


def test_a_message_says_what_the_chat_completion_says(
    up: Node, client: anthropic.Anthropic
) -> None:
    message = client.messages.create(
        model=DEMO, max_tokens=100, messages=QUESTION, extra_body=EXACT
    )
    assert [block.type for block in message.content] == ["text"]
    assert message.content[0].text == openai_text(up)
    assert (message.stop_reason, message.role, message.model) == ("end_turn", "assistant", DEMO)
    assert message._request_id
    assert message.id == "msg_" + message._request_id.removeprefix("req_")


def test_a_stream_adds_up_to_the_same_message(client: anthropic.Anthropic) -> None:
    plain = client.messages.create(model=DEMO, max_tokens=100, messages=QUESTION, extra_body=EXACT)
    with client.messages.stream(
        model=DEMO, max_tokens=100, messages=QUESTION, extra_body=EXACT
    ) as stream:
        pieces = list(stream.text_stream)
        message = stream.get_final_message()
    assert len(pieces) > 3
    assert message.content[0].text == plain.content[0].text == "".join(pieces)
    assert message.usage.output_tokens == plain.usage.output_tokens
    read = [
        one.input_tokens + (one.cache_read_input_tokens or 0)
        for one in (message.usage, plain.usage)
    ]
    assert read[0] == read[1] > 0


def test_an_answer_ends_where_it_is_told_to(client: anthropic.Anthropic) -> None:
    short = client.messages.create(model=DEMO, max_tokens=3, messages=QUESTION)
    assert (short.stop_reason, short.usage.output_tokens) == ("max_tokens", 3)
    stopped = client.messages.create(
        model=DEMO, max_tokens=100, messages=QUESTION, stop_sequences=["fabric"], extra_body=EXACT
    )
    assert stopped.content[0].text.endswith("federated AI ")
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "fabric")
    with client.messages.stream(
        model=DEMO, max_tokens=100, messages=QUESTION, stop_sequences=["zebra", "AI"]
    ) as stream:
        assert stream.get_final_message().stop_sequence == "AI"
    ended = client.messages.create(
        model=DEMO, max_tokens=100, messages=QUESTION, stop_sequences=["zebra"]
    )
    assert (ended.stop_reason, ended.stop_sequence) == ("end_turn", None)


def test_a_begun_answer_is_gone_on_with(client: anthropic.Anthropic) -> None:
    whole = client.messages.create(model=DEMO, max_tokens=100, messages=QUESTION, extra_body=EXACT)
    text = whole.content[0].text
    begun, rest = text[: text.index(" a ")], text[text.index(" a ") :]
    turns = [*QUESTION, {"role": "assistant", "content": begun}]
    for stream in (False, True):
        if stream:
            with client.messages.stream(
                model=DEMO, max_tokens=100, messages=turns, extra_body=EXACT
            ) as events:
                message: Any = events.get_final_message()
        else:
            message = client.messages.create(
                model=DEMO, max_tokens=100, messages=turns, extra_body=EXACT
            )
        assert message.content[0].text == rest


def test_a_tool_loop_comes_to_an_answer(client: anthropic.Anthropic) -> None:
    called: list[Any] = []
    for stream in (False, True):
        more: Any = {"tools": TOOLS, "tool_choice": {"type": "tool", "name": "get_weather"}}
        if stream:
            with client.messages.stream(
                model=DEMO, max_tokens=100, messages=WEATHER, **more
            ) as events:
                partial = [event.partial_json for event in events if event.type == "input_json"]
                asked: Any = events.get_final_message()
            assert json.loads("".join(partial)) == asked.content[-1].input
        else:
            asked = client.messages.create(model=DEMO, max_tokens=100, messages=WEATHER, **more)
        called.append(asked)
    for asked in called:
        call = asked.content[-1]
        assert (asked.stop_reason, call.type, call.name) == ("tool_use", "tool_use", "get_weather")
        assert set(call.input) == {"location"}
        result = {"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}
        turns = [
            *WEATHER,
            {"role": "assistant", "content": asked.content},
            {"role": "user", "content": [result]},
        ]
        answer = client.messages.create(model=DEMO, max_tokens=100, messages=turns, tools=TOOLS)
        assert answer.stop_reason == "end_turn"
        assert "sunny" in answer.content[-1].text


def with_picture(chat: dict[str, Any]) -> Any:
    """A chat's messages as Anthropic's."""
    content: list[dict[str, Any]] = []
    for part in chat["messages"][0]["content"]:
        if part["type"] == "text":
            content.append(part)
            continue
        kind, _, data = part["image_url"]["url"].removeprefix("data:").partition(";base64,")
        source = {"type": "base64", "media_type": kind, "data": data}
        content.append({"type": "image", "source": source})
    return [{"role": "user", "content": content}]


def test_pictures_are_seen_and_refused_by_a_model_that_reads_text(
    client: anthropic.Anthropic,
) -> None:
    right = 0
    for case in cases(4):
        turns = with_picture(case.body)
        message = client.messages.create(
            model=VISION, max_tokens=60, messages=turns, extra_body=EXACT
        )
        right += message.content[0].text == case.expected
        count = client.messages.count_tokens(model=VISION, messages=turns)
        used = message.usage
        assert count.input_tokens == used.input_tokens + (used.cache_read_input_tokens or 0)
    assert right >= 3
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.messages.create(model=DEMO, max_tokens=60, messages=turns)
    assert "image" in caught.value.api_message


@pytest.mark.parametrize(
    "more",
    [
        {"messages": QUESTION},
        {"messages": QUESTION, "system": "Be brief."},
        {"messages": WEATHER, "tools": TOOLS},
        {"messages": [*QUESTION, {"role": "assistant", "content": "helexa is"}]},
    ],
)
def test_tokens_are_counted_as_they_are_used(client: anthropic.Anthropic, more: Any) -> None:
    count = client.messages.count_tokens(model=DEMO, **more)
    used = client.messages.create(model=DEMO, max_tokens=1, **more).usage
    assert count.input_tokens == used.input_tokens + (used.cache_read_input_tokens or 0)


def test_an_answer_by_a_schema_fits_it(client: anthropic.Anthropic) -> None:
    schema = {
        "type": "object",
        "properties": {"kind": {"enum": ["a", "b"]}, "sure": {"type": "boolean"}},
        "required": ["kind", "sure"],
        "additionalProperties": False,
    }
    message = client.messages.create(
        model=DEMO,
        max_tokens=60,
        messages=QUESTION,
        output_config={"format": {"type": "json_schema", "schema": schema}},
    )
    found = json.loads(message.content[0].text)
    assert set(found) == {"kind", "sure"}


def test_errors_are_the_clients_own_classes(up: Node, client: anthropic.Anthropic) -> None:
    base: Any = {"model": DEMO, "max_tokens": 5, "messages": QUESTION}
    refusals: list[tuple[type[anthropic.APIStatusError], Any, str, str | None]] = [
        (anthropic.NotFoundError, {"model": "nobody"}, "model_not_found", "model"),
        (anthropic.BadRequestError, {"max_tokens": 0}, "bad_request", "max_tokens"),
        (
            anthropic.BadRequestError,
            {"output_config": {"effort": "low"}},
            "unsupported_capability",
            "output_config.effort",
        ),
        (
            anthropic.BadRequestError,
            {"messages": [{"role": "user", "content": "word " * 5000}]},
            "context_length_exceeded",
            "messages",
        ),
        (
            anthropic.BadRequestError,
            {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
            "bad_request",
            "tools.0.type",
        ),
    ]
    for kind, more, code, param in refusals:
        with pytest.raises(kind) as caught:
            client.messages.create(**{**base, **more})
        body: Any = caught.value.body
        assert (body["error"]["code"], body["error"]["param"]) == (code, param)
        assert body["request_id"] == caught.value.request_id
    # Before a stream's first event a refusal has its status, too.
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(**{**base, "model": "nobody", "stream": True})
    stranger = client.with_options(api_key="hx_live_nobody")
    with pytest.raises(anthropic.AuthenticationError):
        stranger.messages.create(**base)


def test_the_tool_runner_runs_tools_to_the_end(client: anthropic.Anthropic) -> None:
    asked: list[str] = []

    @anthropic.beta_tool
    def get_weather(location: str) -> str:
        """The weather of a place."""
        asked.append(location)
        return "Sunny."

    runner = client.beta.messages.tool_runner(
        model=DEMO, max_tokens=100, messages=WEATHER, tools=[get_weather], max_iterations=3
    )
    said = [[block.type for block in message.content] for message in runner]
    assert len(asked) >= 1
    assert "tool_use" in said[0]
    assert len(said) > 1


def test_a_key_may_come_as_a_bearers(up: Node) -> None:
    with anthropic.Anthropic(
        base_url=up.ready["base_url"].removesuffix("/v1"),
        auth_token=up.ready["api_key"],
        max_retries=0,
    ) as client:
        assert client.messages.create(model=DEMO, max_tokens=5, messages=QUESTION).content


def test_models_are_listed_page_by_page(client: anthropic.Anthropic) -> None:
    listed = [one.id for one in client.models.list(limit=1)]
    assert {DEMO, VISION} <= set(listed)
    assert len(listed) == len(set(listed))
    one = client.models.retrieve(DEMO)
    assert (one.id, one.max_input_tokens) == (DEMO, 2048)


def test_thoughts_that_are_sent_back_are_read_by_the_model(thinker: Node) -> None:
    thought: Any = {"type": "thinking", "thinking": "it is late", "signature": "unsigned"}
    text: Any = {"type": "text", "text": "yes"}

    def count(*content: Any) -> int:
        turns = [*QUESTION, {"role": "assistant", "content": [*content]}, *QUESTION]
        body = {"model": models.THINKER, "messages": turns}
        status, found = ask(
            thinker.ready["base_url"],
            "/messages/count_tokens",
            body,
            key=thinker.ready["api_key"],
        )
        assert status == 200, found
        return int(found["input_tokens"])

    assert count(thought, text) > count(text) + len("it is late") // 4
