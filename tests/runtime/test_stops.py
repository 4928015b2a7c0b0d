"""Which stop sequence ended an answer of llama.cpp's, and what its report must not become."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.runtime.test_llama_cpp import chat, spec

from helexa.runtime.adapters.llama_cpp import adapter
from helexa.runtime.contract import ChildRequest, Endpoint
from helexa.runtime.llama_cpp.stops import CONTEXT_TOKENS_MAX, StopNamed
from helexa.runtime.shaping import shaped as shape

THINKS = {"chat_template": "<think>"}
REPORT = {
    "prompt": 'said,"timings":{}',
    "stop_type": "word",
    "stopping_word": "END",
    "timings": {"predicted_n": 5},
}


def asked(body: dict[str, Any], **of: Any) -> ChildRequest:
    return shape(adapter, Endpoint.CHAT, json.dumps(body).encode(), spec(**of))


def last(report: Any, **more: Any) -> bytes:
    choice = {"finish_reason": "stop", "index": 0, "delta": {}}
    body = {"choices": [choice], "id": "c", "__verbose": report, **more}
    return json.dumps(body, separators=(",", ":")).encode()


def told(request: ChildRequest, payload: bytes) -> dict[str, Any]:
    assert request.rewrite is not None
    (made,) = request.rewrite().event(payload)
    found: dict[str, Any] = json.loads(made)
    return found


@pytest.mark.parametrize("of", [{}, THINKS])
def test_the_sequence_that_ended_an_answer_is_named_and_the_report_is_left_out(
    of: dict[str, Any],
) -> None:
    request = asked(chat(stop=["END"]), **of)
    assert json.loads(request.body)["verbose"] is True
    found = told(request, last(REPORT, timings={"predicted_n": 5}))
    assert found["choices"][0]["stop_reason"] == "END"
    assert "__verbose" not in found
    assert found["choices"][0]["finish_reason"] == "stop"
    ended = told(request, last({**REPORT, "stop_type": "eos", "stopping_word": ""}))
    assert "stop_reason" not in ended["choices"][0]


def test_other_events_are_not_touched() -> None:
    request = asked(chat(stop="END"))
    assert request.rewrite is not None
    payload = b'{ "choices": [{"index":0,"delta":{"content":"a"}}] }'
    assert request.rewrite().event(payload) == (payload,)


@pytest.mark.parametrize(
    ("body", "of"),
    [
        (chat(), {}),
        (chat(stop=None), {}),
        (chat(stop=["END"]), {"context_tokens": CONTEXT_TOKENS_MAX + 1}),
    ],
)
def test_the_report_is_asked_for_where_it_is_of_use(
    body: dict[str, Any], of: dict[str, Any]
) -> None:
    assert "verbose" not in json.loads(asked(body, **of).body)


def test_a_client_that_wants_the_report_gets_the_word_alone() -> None:
    assert asked(chat(stop=["END"], verbose=True)).rewrite is StopNamed
