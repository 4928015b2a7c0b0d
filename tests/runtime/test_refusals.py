"""A refusal that an assistant gave earlier, as llama.cpp's server can read it."""

from __future__ import annotations

import json
from typing import Any

from tests.runtime.test_llama_cpp import spec

from helexa.runtime.adapters.llama_cpp import adapter
from helexa.runtime.contract import Endpoint
from helexa.runtime.shaping import shaped

NO = {"type": "refusal", "refusal": "no"}
TEXT = {"type": "text", "text": "well"}


def sent(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    body = json.dumps({"model": "m", "messages": messages}).encode()
    found: list[dict[str, Any]] = json.loads(shaped(adapter, Endpoint.CHAT, body, spec()).body)[
        "messages"
    ]
    return found


def test_a_refusal_is_a_text_of_the_assistants_and_nothing_else_changes() -> None:
    user = {"role": "user", "content": 'say "refusal"'}
    others = {"role": "assistant", "content": "no", "refusal": "no", "x": [NO]}
    said = {"role": "assistant", "content": [TEXT, NO], "x": [NO]}
    assert sent(user, others, said, user) == [
        user,
        others,
        {**said, "content": [TEXT, {"type": "text", "text": "no"}]},
        user,
    ]


def test_what_is_wrong_stays_for_the_engine_to_refuse() -> None:
    for message in (
        {"role": "user", "content": [NO]},
        {"role": "assistant", "content": [{"type": "refusal"}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": 5}]},
    ):
        assert sent(message) == [message]
