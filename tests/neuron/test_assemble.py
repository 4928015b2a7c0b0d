"""The whole answer from its pieces."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from helexa.neuron.serving.assemble import assembled
from helexa.runtime.contract import Endpoint


def chunk(index: int = 0, finish: str | None = None, **delta: Any) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return {"id": "x", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}


def message(*chunks: dict[str, Any]) -> dict[str, Any]:
    return assembled(Endpoint.CHAT, chunks, None)["choices"][0]["message"]


@given(
    st.dictionaries(
        st.integers(0, 3),
        st.tuples(st.lists(st.text(max_size=5)), st.lists(st.text(max_size=5))),
        min_size=1,
    ),
    st.randoms(),
)
def test_pieces_of_many_choices_interleaved_in_any_way_give_each_its_text(
    parts: dict[int, tuple[list[str], list[str]]], chance: Any
) -> None:
    queues = {
        index: [
            *(chunk(index, reasoning_content=text) for text in thoughts),
            *(chunk(index, content=text) for text in texts),
            chunk(index, finish="stop"),
        ]
        for index, (thoughts, texts) in parts.items()
    }
    order = []
    while queues:
        index = chance.choice(sorted(queues))
        order.append(queues[index].pop(0))
        if not queues[index]:
            del queues[index]
    whole = assembled(Endpoint.CHAT, order, {"total_tokens": 1})
    assert [choice["index"] for choice in whole["choices"]] == sorted(parts)
    for choice in whole["choices"]:
        thoughts, texts = parts[choice["index"]]
        assert choice["message"]["content"] == ("".join(texts) if texts else None)
        assert choice["message"].get("reasoning_content", "") == "".join(thoughts)
        assert choice["finish_reason"] == "stop"
    assert whole["usage"] == {"total_tokens": 1}
    assert whole["object"] == "chat.completion"


def test_the_arguments_of_parallel_calls_are_put_together_by_their_index() -> None:
    def call(index: int, **more: Any) -> dict[str, Any]:
        return chunk(tool_calls=[{"index": index, **more}])

    found = message(
        chunk(role="assistant", content=None),
        call(1, id="b", type="function", function={"name": "g", "arguments": ""}),
        call(0, id="a", type="function", function={"name": "f", "arguments": '{"x"'}),
        call(1, function={"arguments": "{}"}),
        call(0, function={"arguments": ":1}"}),
    )
    assert found["content"] is None
    assert found["tool_calls"] == [
        {"type": "function", "function": {"name": "f", "arguments": '{"x":1}'}, "id": "a"},
        {"type": "function", "function": {"name": "g", "arguments": "{}"}, "id": "b"},
    ]


def test_logprobs_grow_and_a_null_takes_nothing_back() -> None:
    pieces = [
        {"choices": [{"index": 0, "delta": {"content": "a"}, "logprobs": {"content": [1]}}]},
        {"choices": [{"index": 0, "delta": {"content": "b"}, "logprobs": {"content": [2, 3]}}]},
        {"choices": [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "length"}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": None}]},
    ]
    choice = assembled(Endpoint.CHAT, pieces, None)["choices"][0]
    assert choice["logprobs"] == {"content": [1, 2, 3]}
    assert choice["finish_reason"] == "length"


def test_the_parallel_lists_of_completions_grow_side_by_side() -> None:
    pieces = [
        {"choices": [{"index": 0, "text": "a", "logprobs": {"tokens": ["a"], "text_offset": [0]}}]},
        {"choices": [{"index": 0, "text": "b", "logprobs": {"tokens": ["b"], "text_offset": [1]}}]},
    ]
    whole = assembled(Endpoint.COMPLETIONS, pieces, None)
    assert whole["object"] == "text_completion"
    assert whole["choices"][0]["text"] == "ab"
    assert whole["choices"][0]["logprobs"] == {"tokens": ["a", "b"], "text_offset": [0, 1]}


def test_fields_that_are_not_known_here_are_kept() -> None:
    pieces = [
        {"id": "1", "system_fingerprint": "b1", "choices": [], "x_route": {"a": 1}},
        {"choices": [{"index": 0, "delta": {"content": "a", "x_text": "p"}, "x_choice": [1]}]},
        {"choices": [{"index": 0, "delta": {"x_text": "q"}}], "timings": {"n": 1}},
    ]
    whole = assembled(Endpoint.CHAT, pieces, None)
    assert whole["system_fingerprint"] == "b1"
    assert whole["x_route"] == {"a": 1}
    # An engine's clocks are no part of an answer.
    assert "timings" not in whole
    assert whole["choices"][0]["x_choice"] == [1]
    assert whole["choices"][0]["message"]["x_text"] == "pq"
