"""Between Anthropic's messages and chat completions: whatever is said, it is said of both."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.gateway.messages_parts import added_up, events_in

from helexa.cortex.gateway.endpoints import messages
from helexa.cortex.gateway.translation import partial_json
from helexa.cortex.gateway.translation.messages_speech import MessageSpeech
from helexa.protocol import sse

words = st.text(st.characters(codec="utf-8"), max_size=12)
said = words.filter(lambda text: bool(text) and not text.isspace())
names = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
inputs = st.dictionaries(words, values, max_size=3)


def opened(request: dict[str, Any]) -> MessageSpeech:
    return messages.opened(json.dumps(request).encode(), "req_1")


def asked(**more: Any) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], **more}


# --- the way in


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """By Anthropic's rules; it ends with a user's turn."""
    turns: list[dict[str, Any]] = []
    waiting: list[str] = []
    count = 0
    for _ in range(draw(st.integers(1, 4))):
        content: list[dict[str, Any]] = [
            {"type": "tool_result", "tool_use_id": one, "content": draw(words)} for one in waiting
        ]
        texts = draw(st.lists(said, min_size=0 if content else 1, max_size=3))
        content += [{"type": "text", "text": text} for text in texts]
        if len(content) == 1 and texts and draw(st.booleans()):
            turns.append({"role": "user", "content": texts[0]})
        else:
            turns.append({"role": "user", "content": content})
        answer: list[dict[str, Any]] = []
        if draw(st.booleans()):
            answer.append({"type": "thinking", "thinking": draw(said), "signature": "s"})
        answer += [{"type": "text", "text": text} for text in draw(st.lists(said, max_size=2))]
        waiting = [f"t{count + at}" for at in range(draw(st.integers(0, 2)))]
        count += len(waiting)
        answer += [
            {"type": "tool_use", "id": one, "name": draw(names), "input": draw(inputs)}
            for one in waiting
        ]
        if not answer:
            answer.append({"type": "text", "text": draw(said)})
        turns.append({"role": "assistant", "content": answer})
    last = [{"type": "tool_result", "tool_use_id": one, "content": draw(words)} for one in waiting]
    return [*turns, {"role": "user", "content": [*last, {"type": "text", "text": draw(said)}]}]


def blocks_of(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def told(turns: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """All that is said in a conversation, in order."""
    found: list[tuple[Any, ...]] = []
    for turn in turns:
        blocks = blocks_of(turn["content"])
        if turn["role"] == "assistant":
            thought = "".join(one["thinking"] for one in blocks if one["type"] == "thinking")
            text = "".join(one["text"] for one in blocks if one["type"] == "text")
            found.append(("assistant", thought, text))
        for one in blocks:
            match one["type"]:
                case "tool_use":
                    found.append(("call", one["id"], one["name"], one["input"]))
                case "tool_result":
                    found.append(("result", one["tool_use_id"], one["content"]))
                case "text" if turn["role"] == "user":
                    found.append(("user", one["text"]))
    return found


def heard(chat: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """The same, of a chat."""
    found: list[tuple[Any, ...]] = []
    for one in chat:
        match one["role"]:
            case "user":
                found += [("user", part["text"]) for part in blocks_of(one["content"])]
            case "tool":
                found.append(("result", one["tool_call_id"], one["content"]))
            case "assistant":
                thought = one.get("reasoning_content", "")
                found.append(("assistant", thought, one["content"] or ""))
                for call in one.get("tool_calls", ()):
                    function = call["function"]
                    arguments = json.loads(function["arguments"])
                    found.append(("call", call["id"], function["name"], arguments))
    return found


@given(conversations())
def test_a_conversation_is_the_same_conversation_as_a_chat(turns: list[dict[str, Any]]) -> None:
    body = json.loads(opened(asked(messages=turns)).body)
    assert heard(body["messages"]) == told(turns)
    assert "continue_final_message" not in body


@given(conversations(), st.lists(st.integers(0, 20), max_size=3))
def test_turns_of_one_role_in_a_row_are_one_turn(
    turns: list[dict[str, Any]], cuts: list[int]
) -> None:
    whole = json.loads(opened(asked(messages=turns)).body)["messages"]
    apart = [{**turn, "content": blocks_of(turn["content"])} for turn in turns]
    for cut in cuts:
        at = cut % len(apart)
        content = apart[at]["content"]
        if len(content) > 1:
            middle = 1 + cut % (len(content) - 1)
            apart[at : at + 1] = [
                {**apart[at], "content": content[:middle]},
                {**apart[at], "content": content[middle:]},
            ]
    assert json.loads(opened(asked(messages=apart)).body)["messages"] == whole


@given(st.lists(said, min_size=1, max_size=3))
def test_the_parts_of_a_system_prompt_stay_apart(texts: list[str]) -> None:
    system = [{"type": "text", "text": text} for text in texts]
    first = json.loads(opened(asked(system=system)).body)["messages"][0]
    assert first["role"] == "system"
    if len(texts) == 1:
        assert first["content"] == texts[0]
    else:
        assert [part["text"] for part in first["content"]] == texts


@given(
    st.lists(st.tuples(names, inputs), min_size=1, max_size=3, unique_by=lambda one: one[0]),
    st.sampled_from([None, "auto", "any", "none", "tool"]),
    st.booleans(),
)
def test_tools_and_what_is_to_be_called_are_the_same(
    tools: list[tuple[str, dict[str, Any]]], choice: str | None, one_only: bool
) -> None:
    more: dict[str, Any] = {
        "tools": [{"name": name, "input_schema": schema} for name, schema in tools]
    }
    if choice is not None:
        more["tool_choice"] = {"type": choice, "disable_parallel_tool_use": one_only}
        if choice == "tool":
            more["tool_choice"]["name"] = tools[0][0]
    body = json.loads(opened(asked(**more)).body)
    functions = [one["function"] for one in body["tools"]]
    assert [(one["name"], one["parameters"]) for one in functions] == tools
    expected = {
        None: None,
        "auto": "auto",
        "any": "required",
        "none": "none",
        "tool": {"type": "function", "function": {"name": tools[0][0]}},
    }
    assert body.get("tool_choice") == expected[choice]
    assert body.get("parallel_tool_calls", True) is not (one_only and choice is not None)


@pytest.mark.parametrize("more", [{}, {"content": None}, {"content": ""}, {"content": []}])
def test_a_tool_may_have_nothing_to_say(more: dict[str, Any]) -> None:
    call = {"type": "tool_use", "id": "t1", "name": "f", "input": {}}
    turns = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", **more}]},
    ]
    last = json.loads(opened(asked(messages=turns)).body)["messages"][-1]
    assert last == {"role": "tool", "tool_call_id": "t1", "content": ""}


# --- the way out


@st.composite
def answers(draw: st.DrawFn) -> dict[str, Any]:
    """A chat completion's choice, as `message` and `finish_reason`."""
    message: dict[str, Any] = {"role": "assistant", "content": draw(st.none() | words)}
    if draw(st.booleans()):
        message["reasoning_content"] = draw(words)
    calls = draw(st.lists(st.tuples(names, inputs), max_size=3))
    if calls:
        message["tool_calls"] = [
            {
                "id": draw(st.sampled_from(["", f"call-{at}"])) or None,
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(arguments)},
            }
            for at, (name, arguments) in enumerate(calls)
        ]
    reason = draw(st.sampled_from(["stop", "length", "tool_calls", "content_filter"]))
    if calls and reason == "length":
        function = message["tool_calls"][-1]["function"]
        function["arguments"] = function["arguments"][: draw(st.integers(0, 30))]
    return {"message": message, "finish_reason": reason}


USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 5,
    "prompt_tokens_details": {"cached_tokens": 2},
    "completion_tokens_details": {"reasoning_tokens": 1},
}


def pieces(draw: st.DrawFn, text: str) -> list[str]:
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=3)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@st.composite
def streams(draw: st.DrawFn) -> tuple[dict[str, Any], list[bytes]]:
    """An answer, and the events that an engine could stream it by."""
    answer = draw(answers())
    message = answer["message"]
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None}]
    for name in ("reasoning_content", "content"):
        deltas += [{name: piece} for piece in pieces(draw, message.get(name) or "")]
    for index, call in enumerate(message.get("tool_calls", ())):
        function = call["function"]
        first, *rest = pieces(draw, function["arguments"])
        head = {"name": function["name"], "arguments": first}
        deltas.append({"tool_calls": [{"index": index, "id": call["id"], "function": head}]})
        deltas += [
            {"tool_calls": [{"index": index, "function": {"arguments": one}}]} for one in rest
        ]
    choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": answer["finish_reason"]})
    chunks: list[dict[str, Any]] = [{"model": "m-1", "choices": [one]} for one in choices]
    chunks.append({"model": "m-1", "choices": [], "usage": USAGE})
    events = [sse.event(json.dumps(chunk).encode()) for chunk in chunks]
    return answer, [*events, sse.event(sse.DONE)]


def completion(answer: dict[str, Any]) -> bytes:
    return json.dumps({"model": "m-1", "choices": [answer], "usage": USAGE}).encode()


@given(streams(), st.booleans(), st.data())
def test_a_stream_adds_up_to_the_message_that_is_not_streamed(
    stream: tuple[dict[str, Any], list[bytes]], omits: bool, data: st.DataObject
) -> None:
    answer, events = stream
    display = "omitted" if omits else "summarized"
    request = asked(stream=True, thinking={"type": "adaptive", "display": display})
    speech, plain = opened(request), opened({**request, "stream": False})
    out = b""
    # However many events come at once.
    while events:
        count = data.draw(st.integers(1, len(events)))
        out += speech.events(b"".join(events[:count]))
        del events[:count]
    out += speech.end()
    whole = json.loads(plain.whole(completion(answer)))
    assert added_up(events_in(out)) == whole
    assert whole["usage"]["input_tokens"] == 7
    assert whole["usage"]["output_tokens_details"] == {"thinking_tokens": 1}


@given(answers())
def test_an_answer_that_is_sent_back_is_the_chats_own_message(answer: dict[str, Any]) -> None:
    """A tool loop: what the engine said is what it is told that it said."""
    message = answer["message"]
    content = json.loads(opened(asked()).whole(completion(answer)))["content"]
    if not content or not (message["content"] or message.get("tool_calls")):
        return
    calls = [one for one in content if one["type"] == "tool_use"]
    results = [{"type": "tool_result", "tool_use_id": one["id"], "content": "r"} for one in calls]
    turns = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": content},
        {"role": "user", "content": [*results, {"type": "text", "text": "and?"}]},
    ]
    back = json.loads(opened(asked(messages=turns)).body)["messages"][1]
    assert back.get("reasoning_content", "") == message.get("reasoning_content", "")
    assert (back["content"] or "") == (message["content"] or "")
    for ours, theirs in zip(back.get("tool_calls", ()), message.get("tool_calls", ()), strict=True):
        assert ours["function"]["name"] == theirs["function"]["name"]
        assert theirs["id"] in (None, ours["id"])
        if answer["finish_reason"] != "length":
            assert json.loads(ours["function"]["arguments"]) == json.loads(
                theirs["function"]["arguments"]
            )


@pytest.mark.parametrize(
    ("finish", "message", "expected"),
    [
        ("stop", {"content": "a"}, "end_turn"),
        ("eos", {"content": "a"}, "end_turn"),
        ("length", {"content": "a"}, "max_tokens"),
        ("content_filter", {"content": "a"}, "refusal"),
        ("stop", {"content": None, "refusal": "no"}, "refusal"),
        ("stop", {"tool_calls": [{"function": {"name": "f", "arguments": ""}}]}, "tool_use"),
        ("tool_calls", {"tool_calls": [{"function": {"name": "f"}}]}, "tool_use"),
    ],
)
def test_why_an_answer_ended(finish: str, message: dict[str, Any], expected: str) -> None:
    said = json.loads(
        opened(asked()).whole(completion({"message": message, "finish_reason": finish}))
    )
    assert said["stop_reason"] == expected
    assert said["content"]


@given(inputs, st.integers(0, 200))
def test_a_cut_off_input_is_a_part_of_the_whole(whole: dict[str, Any], cut: int) -> None:
    text = json.dumps(whole)
    assert partial_json.completed(text) == whole
    found = partial_json.completed(text[:cut])
    assert list(found) == list(whole)[: len(found)]
    # All but the last are as they were; of the last there may be less.
    for name in list(found)[:-1]:
        assert found[name] == whole[name]


@given(st.text(max_size=40))
def test_what_is_no_json_has_nothing_that_is_certain(text: str) -> None:
    assert isinstance(partial_json.completed(text), dict)


def test_a_failure_that_a_node_tells_in_its_stream_ends_it() -> None:
    speech = opened(asked(stream=True))
    error = {"message": "gone", "type": "server_error", "code": "peer_lost"}
    out = speech.events(sse.event(msgspec.json.encode({"error": error})))
    (event,) = events_in(out + speech.end())
    assert event["error"]["type"] == "overloaded_error"
    assert (event["error"]["code"], event["request_id"]) == ("peer_lost", "req_1")
