"""Answers turned into calls, in whatever pieces they come."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.protocol.errors import RuntimeMalformed
from helexa.runtime.contract import Rewrite
from helexa.runtime.llama_cpp.thoughts import ThoughtsCounted
from helexa.runtime.openai.calls import CallOfJson, CallScan, FirstCall, chained
from helexa.runtime.openai.logprobs import TextLogprobs

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=10,
)
ARGUMENTS = st.dictionaries(st.text(max_size=5), VALUES, max_size=4)
SPACES = st.sampled_from(["", " ", "\n", " \n  "])


def event(delta: dict[str, Any], *, index: int = 0, end: str | None = None) -> bytes:
    choice = {"index": index, "delta": delta, "finish_reason": end}
    return json.dumps({"choices": [choice]}, separators=(",", ":")).encode()


def said(rewrite: Rewrite, *events: bytes) -> list[dict[str, Any]]:
    made = [one for each in events for one in rewrite.event(each)]
    return [json.loads(one)["choices"][0] for one in [*made, *rewrite.end()]]


@given(ARGUMENTS, st.booleans(), SPACES, st.data())
def test_a_call_is_the_same_in_whatever_pieces_it_comes(
    arguments: dict[str, Any], ascii_: bool, space: str, data: st.DataObject
) -> None:
    inner = json.dumps(arguments, ensure_ascii=ascii_)
    text = f'{space}{{{space}"name":{space}"f.g"{space},{space}"arguments": {inner}{space}}}{space}'
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    scan, pieces = CallScan(), []
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        pieces.extend(scan.feed(text[start:end]))
    assert [name for name, _ in pieces if name is not None] == ["f.g"]
    assert pieces[0] == ("f.g", "")
    assert "".join(part for _, part in pieces) == inner
    assert scan.is_whole


def test_the_name_comes_first_with_an_id_and_then_the_arguments_piece_by_piece() -> None:
    choices = said(
        CallOfJson(),
        event({"role": "assistant", "content": None}),
        event({"content": '{"name": "f'}),
        event({"content": '", "arguments": {"a'}),
        event({"content": '": "}"}'}),
        event({"content": "}"}),
        event({}, end="stop"),
    )
    calls = [call for one in choices for call in one["delta"].get("tool_calls", ())]
    first, *others = calls
    assert (first["type"], first["function"]) == ("function", {"name": "f", "arguments": ""})
    assert first["id"].startswith("call_")
    assert "".join(one["function"]["arguments"] for one in others) == '{"a": "}"}'
    assert all(set(one) == {"index", "function"} for one in others)
    assert choices[-1]["finish_reason"] == "tool_calls"
    assert not any(one["delta"].get("content") for one in choices)


def test_a_call_that_was_cut_short_says_so() -> None:
    choices = said(
        CallOfJson(), event({"content": '{"name":"f","arguments":{"a"'}), event({}, end="length")
    )
    assert choices[-1]["finish_reason"] == "length"
    assert choices[0]["delta"]["tool_calls"][0]["function"]["name"] == "f"


def test_an_engine_that_wrote_something_else_did_not_do_as_asked() -> None:
    for text in ("hello", '{"name": "f"', '{"name":"f","arguments":{'):
        rewrite = CallOfJson()
        rewrite.event(event({"content": text}))
        with pytest.raises(RuntimeMalformed):
            rewrite.event(event({}, end="stop"))


def test_thoughts_stay_thoughts_and_choices_are_kept_apart() -> None:
    choices = said(
        CallOfJson(),
        event({"reasoning_content": '{"name":"no"'}),
        event({"content": '{"name":"f","arguments":{'}, index=1),
        event({"content": '{"name":"g","arguments":{}}'}),
        event({"content": "}}"}, index=1),
    )
    assert choices[0]["delta"] == {"reasoning_content": '{"name":"no"'}
    named = {
        one["index"]: one["delta"]["tool_calls"][0]["function"]["name"] for one in choices[1:3]
    }
    assert named == {0: "g", 1: "f"}


def call(index: int, text: str) -> dict[str, Any]:
    return {"tool_calls": [{"index": index, "function": {"arguments": text}}]}


@pytest.mark.parametrize(("end", "told"), [("tool_calls", "tool_calls"), ("length", "tool_calls")])
def test_of_several_calls_the_first_is_kept(end: str, told: str) -> None:
    events = [event(call(0, "{}")), event(call(1, "{")), event(call(2, "")), event({}, end=end)]
    choices = said(FirstCall(), *events)
    assert [one["delta"] for one in choices] == [call(0, "{}"), {}, {}, {}]
    assert choices[-1]["finish_reason"] == told


def test_a_single_call_that_was_cut_short_stays_so() -> None:
    events = (event(call(0, "{")), event({}, end="length"))
    assert said(FirstCall(), *events) == [json.loads(one)["choices"][0] for one in events]


def timed(delta: dict[str, Any], tokens: int, index: int = 0) -> bytes:
    body = json.loads(event(delta, index=index))
    body["timings"] = {"cache_n": 0, "predicted_n": tokens}
    return json.dumps(body, separators=(",", ":")).encode()


def usage(tokens: int) -> bytes:
    counts = {"prompt_tokens": 1, "completion_tokens": tokens}
    return json.dumps({"choices": [], "usage": counts}, separators=(",", ":")).encode()


def test_thoughts_are_counted_by_choice_and_timings_do_not_reach_the_client() -> None:
    counted = ThoughtsCounted()
    events = [
        timed({"reasoning_content": "a"}, 1),
        timed({"reasoning_content": "x"}, 2, index=1),
        timed({"reasoning_content": 'b,"timings":{}'}, 4),
        timed({"content": "c"}, 5),
        event({}, end="stop"),
        usage(6),
        event({}, index=1, end="length"),
        usage(2),
    ]
    made = [json.loads(one) for each in events for one in counted.event(each)]
    assert not any("timings" in one for one in made)
    assert made[2]["choices"][0]["delta"]["reasoning_content"] == 'b,"timings":{}'
    said_ = [one["usage"]["completion_tokens_details"] for one in made if "usage" in one]
    assert said_ == [{"reasoning_tokens": 4}, {"reasoning_tokens": 2}]


def test_without_thoughts_no_count_is_made_up() -> None:
    (made,) = ThoughtsCounted().event(usage(3))
    assert "completion_tokens_details" not in json.loads(made)["usage"]


def test_several_rewrites_follow_one_another() -> None:
    assert chained([]) is None
    assert chained([FirstCall]) is FirstCall
    both = chained([ThoughtsCounted, CallOfJson])
    assert both is not None
    choices = said(both(), timed({"content": '{"name":"f","arguments":{}}'}, 3))
    assert choices[0]["delta"]["tool_calls"][0]["function"]["name"] == "f"


def test_log_probabilities_of_texts_are_lists_side_by_side() -> None:
    turned = TextLogprobs()
    token = {"token": " a", "logprob": -0.5, "top_logprobs": [{"token": " b", "logprob": -1.0}]}
    made = []
    for _ in range(2):
        choice = {"index": 0, "text": " a", "logprobs": {"content": [token]}}
        payload = json.dumps({"choices": [choice]}, separators=(",", ":")).encode()
        made += [json.loads(one)["choices"][0]["logprobs"] for one in turned.event(payload)]
    assert made[0] == {
        "tokens": [" a"],
        "token_logprobs": [-0.5],
        "top_logprobs": [{" b": -1.0}],
        "text_offset": [0],
    }
    assert made[1]["text_offset"] == [2]
