"""What a client may ask for, the same on every runtime: how long, within which numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from tests.runtime.test_adapters_conform import ADAPTERS, spec_of

from helexa.protocol.errors import BodyMalformed
from helexa.runtime.contract import Endpoint, ReplicaSpec, RuntimeAdapter
from helexa.runtime.shaping import shaped

BODIES = {
    Endpoint.CHAT: {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
    Endpoint.COMPLETIONS: {"model": "m", "prompt": "hi"},
}
ENDPOINTS = pytest.mark.parametrize("endpoint", BODIES)
LIMITS = ("max_tokens", "max_completion_tokens", "n_predict")


def spec(adapter: RuntimeAdapter, **files: Any) -> ReplicaSpec:
    usual = spec_of(adapter)
    files = {"chat_template": "{{ messages }}", **files}
    return replace(usual, files=replace(usual.files, **files))


def sent(adapter: RuntimeAdapter, endpoint: Endpoint, **more: Any) -> dict[str, Any]:
    body = json.dumps({**BODIES[endpoint], **more}).encode()
    found: dict[str, Any] = json.loads(shaped(adapter, endpoint, body, spec(adapter)).body)
    return found


@ADAPTERS
@ENDPOINTS
@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("value", [-1, 0, 1.5, "3", True])
def test_a_limit_is_a_whole_number_of_one_or_more(
    adapter: RuntimeAdapter, endpoint: Endpoint, name: str, value: Any
) -> None:
    with pytest.raises(BodyMalformed) as refused:
        sent(adapter, endpoint, **{name: value})
    assert refused.value.field == name


@ADAPTERS
@ENDPOINTS
@pytest.mark.parametrize(
    ("said", "least"),
    [
        ({"max_tokens": 3}, 3),
        ({"max_completion_tokens": 4}, 4),
        ({"n_predict": 5}, 5),
        ({"max_tokens": 3, "n_predict": 100}, 3),
        ({"max_tokens": 7, "max_completion_tokens": 6, "n_predict": None}, 6),
        ({"max_tokens": 30, "max_completion_tokens": 60, "n_predict": 20}, 20),
    ],
)
def test_the_engine_gets_one_limit_the_least(
    adapter: RuntimeAdapter, endpoint: Endpoint, said: dict[str, Any], least: int
) -> None:
    arrived = sent(adapter, endpoint, **said)
    assert [arrived[name] for name in LIMITS if name in arrived] == [least]


@ADAPTERS
@ENDPOINTS
@pytest.mark.parametrize("value", [4_294_967_301, 10**12])
def test_a_limit_beyond_everything_is_no_small_one(
    adapter: RuntimeAdapter, endpoint: Endpoint, value: int
) -> None:
    arrived = sent(adapter, endpoint, max_tokens=value)
    assert spec(adapter).context_tokens <= arrived["max_tokens"] < 1 << 31
