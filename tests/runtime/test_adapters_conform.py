"""What every runtime in the folder has to keep, whatever it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.protocol.errors import HelexaError
from helexa.protocol.ids import ModelId
from helexa.runtime import adapters
from helexa.runtime.contract import (
    Endpoint,
    ExitReason,
    Grant,
    ModelFiles,
    ReplicaSpec,
    RuntimeAdapter,
)

ADAPTERS = pytest.mark.parametrize("adapter", [adapters.load(name) for name in adapters.names()])
SPEC = ReplicaSpec(
    files=ModelFiles(
        model=ModelId("m"),
        weights=Path("/srv/m.gguf"),
        weights_bytes=1 << 20,
        kv_bytes_per_token=64,
        embedding_length=32,
    ),
    context_tokens=256,
    slots=2,
)


@ADAPTERS
def test_a_plan_names_a_program_the_socket_and_times(adapter: RuntimeAdapter) -> None:
    plan = adapter.plan(SPEC, Grant(socket=Path("/run/x/c.sock"), scratch=Path("/run/x")))
    assert plan.argv
    assert any("/run/x/c.sock" in word for word in plan.argv)
    assert plan.ready_path.startswith("/")
    assert plan.ready_within_s > 0
    assert plan.stop_grace_s > 0


@ADAPTERS
def test_a_footprint_is_at_least_the_weights(adapter: RuntimeAdapter) -> None:
    assert adapter.footprint(SPEC).total >= SPEC.files.weights_bytes


@ADAPTERS
@pytest.mark.parametrize("endpoint", [Endpoint.CHAT, Endpoint.COMPLETIONS])
def test_generations_are_streamed_to_the_child(adapter: RuntimeAdapter, endpoint: Endpoint) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "prompt": "x"}
    request = adapter.shape(endpoint, json.dumps(body).encode(), SPEC)
    assert request.streamed
    assert json.loads(request.body)["stream"] is True


@ADAPTERS
@given(body=st.binary(max_size=80), status=st.integers(100, 599))
def test_nothing_a_client_or_a_child_says_breaks_it(
    adapter: RuntimeAdapter, body: bytes, status: int
) -> None:
    for endpoint in Endpoint:
        try:
            adapter.shape(endpoint, body, SPEC)
        except HelexaError as refusal:
            assert 400 <= refusal.status < 500  # noqa: PT017 - most bodies are refused, not all
    assert isinstance(adapter.refusal(status, body, SPEC), HelexaError)
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
