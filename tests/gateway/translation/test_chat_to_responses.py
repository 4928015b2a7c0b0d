"""A chat completion as a response: whichever pieces it came in, and back again."""

from __future__ import annotations

import itertools
import json
from contextlib import suppress
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import Response as OpenAIResponse
from openai.types.responses import ResponseStreamEvent

from helexa.cortex.gateway.translation.chat_to_responses import ANSWER_BYTES_MAX, Teller
from helexa.cortex.gateway.translation.items import Messages
from helexa.cortex.gateway.translation.responses_asked import read
from helexa.cortex.gateway.translation.responses_to_chat import answer_to
from helexa.protocol.errors import ErrorBody, RuntimeMalformed
from helexa.protocol.openai.responses import Item, Response

EVENTS: dict[str, Any] = {
    get_args(one.model_fields["type"].annotation)[0]: one
    for one in get_args(get_args(ResponseStreamEvent)[0])
}
"""OpenAI's shapes by the names of the events; to try them one by one would take long."""
NOW = 1_700_000_000

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
calls = st.lists(st.tuples(texts, st.text(alphabet='{}":,a ', max_size=12)), max_size=3)
finishes = st.sampled_from(["stop", "tool_calls", "length", "content_filter"])


def teller(*, summarises: bool = False) -> Teller:
    asked = read(b'{"model":"m","input":"hi"}')
    start = answer_to(asked, id="resp_" + "0" * 32, created_at=NOW, store=True)
    return Teller(start, summarises=summarises)


@st.composite
def messages(draw: st.DrawFn) -> dict[str, Any]:
    """Of the assistant's, in a chat's words."""
    message: dict[str, Any] = {"role": "assistant", "content": draw(st.none() | texts)}
    if draw(st.booleans()):
        message["reasoning_content"] = draw(texts)
    if made := draw(calls):
        message["tool_calls"] = [
            {"id": f"call_{at}", "type": "function", "function": {"name": name, "arguments": text}}
            for at, (name, text) in enumerate(made)
        ]
    return message


def whole_of(message: dict[str, Any], finish: str) -> bytes:
    usage = {"prompt_tokens": 3, "completion_tokens": 4}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return json.dumps({"id": "c", "model": "it", "choices": [choice], "usage": usage}).encode()


def deltas_of(message: dict[str, Any], cuts: st.DataObject) -> list[dict[str, Any]]:
    def pieces(text: str) -> list[str]:
        places = cuts.draw(st.lists(st.integers(0, len(text)), max_size=4))
        ends = [0, *sorted(places), len(text)]
        return [text[start:end] for start, end in itertools.pairwise(ends)]

    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None}]
    deltas += [{"reasoning_content": one} for one in pieces(message.get("reasoning_content", ""))]
    deltas += [{"content": one} for one in pieces(message["content"] or "")]
    for index, call in enumerate(message.get("tool_calls", ())):
        function = call["function"]
        first = {"index": index, "id": call["id"], "function": {"name": function["name"]}}
        deltas.append({"tool_calls": [first]})
        deltas += [
            {"tool_calls": [{"index": index, "function": {"arguments": one}}]}
            for one in pieces(function["arguments"])
        ]
    return deltas


def streamed(deltas: list[dict[str, Any]], finish: str) -> list[bytes]:
    def event(body: dict[str, Any]) -> bytes:
        return b"data: " + json.dumps({"id": "c", "model": "it", **body}).encode() + b"\n\n"

    def chunk(delta: dict[str, Any], reason: str | None) -> bytes:
        return event({"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})

    usage = {"prompt_tokens": 3, "completion_tokens": 4}
    return [
        *(chunk(delta, None) for delta in deltas),
        chunk({}, finish),
        event({"choices": [], "usage": usage}),
        b"data: [DONE]\n\n",
    ]


def told(one: Teller, events: list[bytes]) -> list[dict[str, Any]]:
    data = b"".join([*(one.feed(event) for event in events), one.finish(NOW), one.last()])
    return decoded(data)


def decoded(data: bytes) -> list[dict[str, Any]]:
    found = []
    for event in data.decode().split("\n\n")[:-1]:
        name, body = event.split("\n")
        found.append(json.loads(body.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


class Listener:
    """A client that believes nothing: it builds the response from its events and compares."""

    def __init__(self) -> None:
        self.output: list[dict[str, Any]] = []
        self.open = ""
        """What the open item waits for; empty where none is open."""
        self.text = ""

    def hear(self, events: list[dict[str, Any]]) -> dict[str, Any]:
        assert [one["sequence_number"] for one in events] == list(range(len(events)))
        created, in_progress, *items, last = events
        assert (created["type"], in_progress["type"]) == (
            "response.created",
            "response.in_progress",
        )
        assert created["response"] == in_progress["response"]
        assert created["response"]["output"] == []
        for event in items:
            EVENTS[event["type"]].model_validate(event)
            self._item(event)
        assert not self.open
        response = last["response"]
        assert last["type"] == f"response.{response['status']}"
        assert self.output == response["output"]
        changed = {"status", "output", "usage", "completed_at", "incomplete_details", "model"}
        for name, value in created["response"].items():
            assert name in changed or response[name] == value
        OpenAIResponse.model_validate(response)
        return response

    def _item(self, event: dict[str, Any]) -> None:
        kind = event["type"].removeprefix("response.")
        if kind == "output_item.added":
            assert not self.open
            self.text = ""
            self.output.append(event["item"])
            self.open = "part" if event["item"]["type"] != "function_call" else "text"
        else:
            item = self.output[-1]
            assert event.get("item_id", item["id"]) == item["id"]
        assert event["output_index"] == len(self.output) - 1
        if kind.endswith("part.added"):
            assert self.open == "part"
            self.open = "text"
        elif kind.endswith(".delta"):
            assert self.open == "text"
            assert event["delta"]
            self.text += event["delta"]
        elif kind.endswith("part.done"):
            assert self.open == "part.done"
            assert self.text in event["part"].values()
            self.open = "item.done"
        elif kind == "output_item.done":
            assert self.open == "item.done"
            self.output[-1] = event["item"]
            self.open = ""
        elif kind.endswith(".done"):
            assert self.open == "text"
            key = next(one for one in ("text", "arguments", "refusal") if one in event)
            assert event[key] == self.text
            self.open = "item.done" if key == "arguments" else "part.done"


@settings(deadline=None)
@given(messages(), finishes, st.booleans(), st.data())
def test_a_stream_in_any_pieces_is_well_told_and_ends_in_the_whole_answer(
    message: dict[str, Any], finish: str, summarises: bool, data: st.DataObject
) -> None:
    whole = teller(summarises=summarises).take(whole_of(message, finish), NOW)
    events = streamed(deltas_of(message, data), finish)
    heard = Listener().hear(told(teller(summarises=summarises), events))
    assert heard == json.loads(msgspec.json.encode(whole))


@settings(deadline=None)
@given(messages(), finishes, st.integers(1, 4))
def test_events_may_come_together(message: dict[str, Any], finish: str, together: int) -> None:
    apart = streamed([{"role": "assistant"}, message], finish)
    joined = [b"".join(apart[at : at + together]) for at in range(0, len(apart), together)]
    lines = [one.replace(b"\n", b"\r\n") for one in joined]
    assert told(teller(), apart) == told(teller(), joined) == told(teller(), lines)


@settings(deadline=None)
@given(messages(), st.booleans())
def test_what_was_answered_goes_back_as_it_was_said(
    message: dict[str, Any], summarises: bool
) -> None:
    response = teller(summarises=summarises).take(whole_of(message, "stop"), NOW)
    items = msgspec.json.decode(msgspec.json.encode(response.output), type=list[Item])
    back = Messages()
    back.add(items)
    said = dict(message)
    if said["content"] is None and "tool_calls" not in said:
        # An item is a message; one that says nothing has an empty text.
        said["content"] = ""
    assert back.closed() == [said]


@settings(deadline=None)
@given(messages(), st.data())
def test_a_stream_that_breaks_off_tells_as_much_as_came(
    message: dict[str, Any], data: st.DataObject
) -> None:
    events = streamed(deltas_of(message, data), "stop")[:-3]
    one = teller()
    fed = b"".join(one.feed(event) for event in events[: data.draw(st.integers(0, len(events)))])
    end = one.fail(ErrorBody(message="It broke.", type="server_error", code="peer_lost"))
    heard = decoded(fed + end)
    assert [event["sequence_number"] for event in heard] == list(range(len(heard)))
    *_, error, failed = heard
    assert error["error"] == {
        "type": "server_error",
        "code": "peer_lost",
        "message": "It broke.",
        "param": None,
    }
    EVENTS["error"].model_validate(error)
    EVENTS["response.failed"].model_validate(failed)
    response = failed["response"]
    assert (failed["type"], response["status"]) == ("response.failed", "failed")
    assert response["error"] == {"code": "server_error", "message": "It broke."}
    deltas = "".join(one["delta"] for one in heard if one["type"].endswith(".delta"))
    assert deltas == "".join(text_of(item) for item in response["output"])
    assert one.feed(b"".join(events)) == b""
    assert one.fail(ErrorBody(message="x", type="y")) == b""


def text_of(item: dict[str, Any]) -> str:
    if item["type"] == "function_call":
        return item["arguments"]
    return "".join(part["text"] for part in item["content"])


def test_log_probabilities_are_told_with_their_bytes() -> None:
    given = {"content": [{"token": "é", "logprob": -0.5, "bytes": None, "top_logprobs": []}]}
    choice = {"index": 0, "delta": {"content": "é"}, "logprobs": given}
    event = b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"
    heard = told(teller(), [event])
    expected = [{"token": "é", "bytes": [195, 169], "logprob": -0.5, "top_logprobs": []}]
    delta = next(one for one in heard if one["type"] == "response.output_text.delta")
    assert delta["logprobs"] == expected
    assert heard[-1]["response"]["output"][0]["content"][0]["logprobs"] == expected


def test_a_refusal_is_a_part_of_a_message() -> None:
    response = teller().take(whole_of({"content": None, "refusal": "No."}, "stop"), NOW)
    (item,) = json.loads(msgspec.json.encode(response.output))
    assert item["content"] == [{"type": "refusal", "refusal": "No."}]


def test_what_is_said_again_later_is_another_item() -> None:
    deltas = [{"content": "a"}, {"reasoning_content": "b"}, {"content": "c"}]
    response = Listener().hear(told(teller(), streamed(deltas, "stop")))
    assert [one["type"] for one in response["output"]] == ["message", "reasoning", "message"]


@pytest.mark.parametrize(
    "pieces",
    [
        [{"index": 0, "function": {"arguments": "{}"}}],
        [
            {"index": 0, "id": "a", "function": {"name": "f"}},
            {"index": 1, "id": "b", "function": {"name": "g"}},
            {"index": 0, "function": {"arguments": "{}"}},
        ],
    ],
)
def test_a_piece_of_no_call_is_the_nodes_fault(pieces: list[dict[str, Any]]) -> None:
    with pytest.raises(RuntimeMalformed):
        told(teller(), streamed([{"tool_calls": pieces}], "tool_calls"))


@pytest.mark.parametrize("data", [b"data: {\n\n", b'data: {"choices":1}\n\n', b"data: \xff\n\n"])
def test_an_event_that_cannot_be_read_is_the_nodes_fault(data: bytes) -> None:
    with pytest.raises(RuntimeMalformed):
        teller().feed(data)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"choices":[{"index":0}]}'])
def test_an_answer_that_is_none_is_the_nodes_fault(body: bytes) -> None:
    with pytest.raises(RuntimeMalformed):
        teller().take(body, NOW)


def test_an_answer_without_an_end_is_the_nodes_fault() -> None:
    one = teller()
    comment = b": %s\n\n" % (b"x" * (1 << 20))
    for _ in range(ANSWER_BYTES_MAX >> 20):
        with suppress(RuntimeMalformed):
            assert one.feed(comment) == b""
    with pytest.raises(RuntimeMalformed):
        one.feed(b"data: {}\n\n")


def test_comments_say_nothing() -> None:
    assert teller().feed(b": keepalive\n\n") == b""


def test_the_response_is_openais() -> None:
    response: Response = teller().take(whole_of({"content": "hi"}, "stop"), NOW)
    said = OpenAIResponse.model_validate_json(msgspec.json.encode(response))
    assert said.output_text == "hi"
    assert said.model == "it"
    assert said.usage is not None
    assert said.usage.total_tokens == 7
