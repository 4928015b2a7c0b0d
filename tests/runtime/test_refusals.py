"""A refusal that an assistant gave earlier, as llama.cpp's server can read it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.runtime.test_llama_cpp import spec

from helexa.protocol.errors import BodyMalformed
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


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({"role": "user", "content": [NO]}, "messages[0].content[0].type"),
        (
            {"role": "assistant", "content": [{"type": "refusal"}]},
            "messages[0].content[0].refusal",
        ),
        (
            {"role": "assistant", "content": [{"type": "refusal", "refusal": 5}]},
            "messages[0].content[0].refusal",
        ),
    ],
)
def test_what_is_no_refusal_is_refused_by_its_place(message: dict[str, Any], field: str) -> None:
    with pytest.raises(BodyMalformed) as refused:
        sent(message)
    assert refused.value.field == field
