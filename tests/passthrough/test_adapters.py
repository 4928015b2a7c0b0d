"""What each runtime's adapter makes of a request: a few fields more, and the prompt untouched."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.passthrough.json_texts import TEXTS, members_of, spelled, values, written
from tests.passthrough.test_native import OURS, chats
from tests.runtime.test_adapters_conform import spec_of

from helexa.runtime import adapters
from helexa.runtime.contract import Endpoint, RuntimeAdapter
from helexa.runtime.shaping import shaped

ADAPTERS = pytest.mark.parametrize("name", adapters.names())


def adapter_of(name: str) -> RuntimeAdapter:
    return adapters.load(name)


@st.composite
def bodies(draw: st.DrawFn, endpoint: Endpoint) -> str:
    if endpoint is Endpoint.CHAT:
        prompt = draw(chats())
    else:
        prompt = [("prompt", draw(spelled(draw(TEXTS))))]
    members = [("model", '"m"'), *prompt, ("x_own", draw(values()))]
    return draw(written(draw(st.permutations(members))))


@ADAPTERS
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_prompt_goes_to_the_engine_as_it_came(name: str, data: st.DataObject) -> None:
    adapter, spec = adapter_of(name), spec_of(adapter_of(name))
    endpoint = data.draw(st.sampled_from((Endpoint.CHAT, Endpoint.COMPLETIONS)))
    body = data.draw(bodies(endpoint))
    made = shaped(adapter, endpoint, body.encode(), spec)
    asked, found = dict(members_of(body)), dict(members_of(made.body.decode()))
    added = found.keys() - asked.keys()
    assert added <= OURS, f"{name} adds {added}"
    for member, text in asked.items():
        assert found[member] == text, f"{name} changes {member}"
