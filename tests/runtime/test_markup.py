"""Thoughts and calls are told apart from the answer, however the text is cut."""

from __future__ import annotations

import json
from typing import Any

import pytest

from helexa.runtime.children.server.engine import Piece
from helexa.runtime.children.server.markup import Markup
from helexa.runtime.children.server.text import Growing

CALL = '<tool_call>\n{"name": "f", "arguments": {"a": "<x>"}}\n</tool_call>'


def read(text: str, step: int, **more: Any) -> tuple[str, str, list[dict[str, Any]]]:
    markup = Markup(**more)
    pieces: list[Piece] = []
    for at in range(0, len(text), step):
        pieces += markup.feed(text[at : at + step])
    pieces += markup.end()
    said = "".join(str(piece.text) for piece in pieces)
    thought = "".join(piece.thought for piece in pieces)
    calls = [dict(call["function"]) for piece in pieces for call in piece.calls]
    return said, thought, calls


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_a_thought_comes_before_the_answer_and_calls_in_it(step: int) -> None:
    text = f"<think>\nhm, 1 < 2\n</think>\n\nSo:\n{CALL}\n{CALL}"
    said, thought, calls = read(text, step, thinks=True, tools=["f"])
    assert said == "So:\n"
    assert thought == "hm, 1 < 2\n"
    assert [json.loads(call["arguments"]) for call in calls] == [{"a": "<x>"}] * 2


@pytest.mark.parametrize("step", [1, 5, 1000])
def test_a_thought_that_the_prompt_began_has_no_first_mark(step: int) -> None:
    assert read("hm</think>yes", step, is_open=True) == ("yes", "hm", [])
    assert read("cut off", step, is_open=True) == ("", "cut off", [])


@pytest.mark.parametrize("step", [1, 4, 1000])
@pytest.mark.parametrize(
    "text",
    [
        "1 < 2 <tool",
        "<tool_call>no json</tool_call> and more",
        '<tool_call>{"name": "g", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "f", "arguments": 3}</tool_call>',
        '<tool_call>{"name": "f"',
        "said, then <think>not a thought</think>",
    ],
)
def test_what_is_neither_is_text_unchanged(text: str, step: int) -> None:
    assert read(text, step, thinks=True, tools=["f"]) == (text, "", [])


def test_marks_mean_nothing_to_who_asked_for_neither() -> None:
    assert read(f"<think>a</think>{CALL}", 3) == (f"<think>a</think>{CALL}", "", [])


@pytest.mark.parametrize("step", [1, 2, 5, 1000])
def test_a_text_ends_before_its_first_stop_string(step: int) -> None:
    growing, text, shown = Growing(["</s>", "stop"]), "a <s>b st op c</s>d stop", ""
    for at in range(0, len(text), step):
        shown += growing.feed(text[at : at + step])
    assert shown + growing.end() == "a <s>b st op c"
    assert growing.stopped
