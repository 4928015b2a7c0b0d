"""What every runtime in the folder has to keep, whatever it is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.protocol.errors import HelexaError
from helexa.protocol.ids import ModelId
from helexa.runtime import adapters, arguments, offers
from helexa.runtime.contract import (
    Endpoint,
    ExitReason,
    Grant,
    Installation,
    ModelFiles,
    ReplicaSpec,
    RuntimeAdapter,
)
from helexa.runtime.shaping import shaped

ADAPTERS = pytest.mark.parametrize("adapter", [adapters.load(name) for name in adapters.names()])
SPEC = ReplicaSpec(
    files=ModelFiles(
        model=ModelId("m"),
        weights=Path("/srv/m.gguf"),
        architecture="llama",
        weights_bytes=1 << 20,
        kv_bytes_per_token=64,
        embedding_length=32,
    ),
    context_tokens=256,
    slots=2,
)
OF_SAFETENSORS = replace(
    SPEC,
    files=replace(
        SPEC.files, format="safetensors", quantisation="BF16", chat_template="{{ messages }}"
    ),
)
OWN = {
    "transformers": OF_SAFETENSORS,
    "vllm": OF_SAFETENSORS,
    # It serves what somebody said that it can, by a command that somebody wrote.
    "openai_compatible": replace(
        SPEC,
        files=replace(SPEC.files, told=offers.read(())),
        installation=Installation(command=("server", "{weights}", "--socket", "{socket}")),
    ),
}


def spec_of(adapter: RuntimeAdapter) -> ReplicaSpec:
    return OWN.get(adapter.name, SPEC)


@ADAPTERS
def test_a_plan_names_a_program_the_socket_and_times(adapter: RuntimeAdapter) -> None:
    plan = adapter.plan(
        spec_of(adapter), Grant(socket=Path("/run/x/c.sock"), scratch=Path("/run/x"))
    )
    assert plan.argv
    assert any("/run/x/c.sock" in word for word in plan.argv)
    assert plan.ready_path.startswith("/")
    assert plan.ready_within_s > 0
    assert plan.stop_grace_s > 0


@ADAPTERS
def test_a_footprint_is_at_least_the_weights(adapter: RuntimeAdapter) -> None:
    assert adapter.footprint(spec_of(adapter)).total >= spec_of(adapter).files.weights_bytes


@ADAPTERS
@pytest.mark.parametrize("endpoint", [Endpoint.CHAT, Endpoint.COMPLETIONS])
def test_generations_are_streamed_to_the_child(adapter: RuntimeAdapter, endpoint: Endpoint) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "prompt": "x"}
    request = shaped(adapter, endpoint, json.dumps(body).encode(), spec_of(adapter))
    assert request.streamed
    assert json.loads(request.body)["stream"] is True


@ADAPTERS
@given(body=st.binary(max_size=80), status=st.integers(100, 599))
def test_nothing_a_client_or_a_child_says_breaks_it(
    adapter: RuntimeAdapter, body: bytes, status: int
) -> None:
    for endpoint in Endpoint:
        try:
            shaped(adapter, endpoint, body, spec_of(adapter))
        except HelexaError as refusal:
            assert 400 <= refusal.status < 500  # noqa: PT017 - most bodies are refused, not all
    assert isinstance(adapter.refusal(status, body, spec_of(adapter)), HelexaError)
    adapter.usage(body)


@ADAPTERS
@given(status=st.integers(-64, 255).filter(lambda one: one != 0), log=st.text(max_size=200))
def test_every_exit_has_one_line_of_explanation(
    adapter: RuntimeAdapter, status: int, log: str
) -> None:
    explained = adapter.explain_exit(status, log)
    assert isinstance(explained.reason, ExitReason)
    assert explained.detail
    assert "\n" not in explained.detail


@ADAPTERS
def test_what_it_needs_once_it_worked_is_no_more_than_what_must_be_there(
    adapter: RuntimeAdapter,
) -> None:
    need = adapter.footprint(spec_of(adapter))
    assert 0 < need.use <= need.total
    assert min(need.weights, need.kv_cache, need.overhead, need.reserve) >= 0


@ADAPTERS
def test_every_argument_says_what_it_takes_and_takes_that(adapter: RuntimeAdapter) -> None:
    taken = arguments.taken_by(adapter)
    assert len({one.name for one in taken}) == len(taken)
    grant = Grant(socket=Path("/run/x/c.sock"), scratch=Path("/run/x"))
    for one in taken:
        assert one.help
        assert arguments.accepted(one)
        values = one.choices or (("true",) if one.kind is bool else (one.least, one.most))
        for value in values:
            assert value is not None
            text = f"{value:g}" if isinstance(value, float) else str(value)
            read = arguments.read(adapter, (f"{one.name}={text}",))
            spec = replace(spec_of(adapter), arguments=read)
            assert adapter.footprint(spec).use > 0
            assert adapter.plan(spec, grant).argv


@ADAPTERS
@given(text=st.text(max_size=60))
def test_no_argument_is_taken_that_is_not_named(adapter: RuntimeAdapter, text: str) -> None:
    try:
        read = arguments.read(adapter, (text,))
    except arguments.ArgumentRefused as refusal:
        assert str(refusal)  # noqa: PT017 - nearly all are refused, not all
    else:
        assert set(read) <= {one.name for one in arguments.taken_by(adapter)}
