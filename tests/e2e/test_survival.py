"""A client's stream outlives the node that serves it, by the same bytes as if nothing had been."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.fleet import CHAT, Fleet, fleet, question_to
from tests.e2e.processes import Node, helexa, runtime_children, until
from tests.e2e.raw import asked, events

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

MODEL = "m"
TOKENS = 1_200
AT = 40
"""The event at which it happens."""
QUESTION = question_to(
    MODEL, stream=True, ignore_eos=True, max_tokens=TOKENS, stream_options={"include_usage": True}
)
CONFIG = f"[neuron.models.{MODEL}]\ndeterministic = true\n"


class Heard:
    """What a client got of one stream."""

    def __init__(self, payloads: list[str]) -> None:
        assert payloads[-1] == "[DONE]", payloads[-1]
        chunks = [json.loads(one) for one in payloads[:-1]]
        assert len({one["id"] for one in chunks}) == 1
        choices = [choice for one in chunks for choice in one["choices"]]
        self.roles = sum("role" in choice["delta"] for choice in choices)
        self.finishes = [one["finish_reason"] for one in choices if one["finish_reason"]]
        self.text = "".join(choice["delta"].get("content") or "" for choice in choices)
        counts = [one["usage"] for one in chunks if one.get("usage")]
        assert len(counts) == 1
        self.usage = {name: counts[0][name] for name in ("prompt_tokens", "completion_tokens")}
        assert "resumed_tokens" not in counts[0]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Heard) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]


def heard(url: str, key: str, *, then: Callable[[], object] = lambda: None) -> Heard:
    """The stream, and `then` in the middle of it."""
    payloads: list[str] = []
    with asked(url, CHAT, QUESTION, key=key) as response:
        assert response.status == 200
        for payload in events(response):
            payloads.append(payload)
            if len(payloads) == AT:
                then()
    return Heard(payloads)


def gone_on(url: str) -> float:
    """How many streams broke off and came to their end."""
    with asked(url, "/metrics") as response:
        found = re.search(
            rb'helexa_gateway_continuations_total\{outcome="completed"\} ([0-9.]+)', response.read()
        )
    return float(found[1]) if found else 0.0


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("survival")
    (folder / "neuron.toml").write_text(CONFIG)
    with fleet(folder) as made:
        for name in ("one", "two"):
            start(made, name)
        yield made


def start(made: Fleet, name: str) -> Node:
    """A neuron whose grace at SIGTERM is over before a stream is."""
    node = made.start_neuron(
        name,
        [MODEL],
        *("--preload", MODEL),
        *("--config", str(made.folder / "neuron.toml")),
        *("--set", "neuron.shutdown_grace_s=0.02"),
    )
    until(made.loaded, lambda found: name in found.get(MODEL, ()))
    return node


def candidates(made: Fleet) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = made.control(f"/api/v1/explain?model={MODEL}")["candidates"]
    return found


def serving(made: Fleet) -> Node:
    """The neuron that has the request."""
    (busy,) = (one["name"] for one in candidates(made) if one["busy"])
    return made.neurons[busy]


def back(made: Fleet, node: Node) -> None:
    (name,) = (name for name, one in made.neurons.items() if one is node)
    node.close()
    start(made, name)


@pytest.mark.parametrize("signal_", [signal.SIGKILL, signal.SIGTERM])
def test_a_neuron_that_goes_in_a_stream_is_replaced_to_the_byte(
    two: Fleet, signal_: signal.Signals
) -> None:
    undisturbed = heard(two.url, two.key)
    before = gone_on(two.url)
    left: list[Node] = []

    def go() -> None:
        left.append(serving(two))
        left[0].send(signal_)

    assert heard(two.url, two.key, then=go) == undisturbed
    assert (undisturbed.roles, undisturbed.finishes) == (1, ["length"])
    assert undisturbed.usage["completion_tokens"] == TOKENS
    assert gone_on(two.url) == before + 1
    back(two, left[0])


def test_a_runtime_that_dies_in_a_stream_is_replaced_to_the_byte(two: Fleet) -> None:
    undisturbed = heard(two.url, two.key)
    before = gone_on(two.url)

    def kill() -> None:
        (child,) = runtime_children(serving(two))
        child.kill()

    assert heard(two.url, two.key, then=kill) == undisturbed
    assert gone_on(two.url) == before + 1


@pytest.mark.parametrize("signal_", [signal.SIGKILL, signal.SIGSTOP])
def test_another_operators_cortex_that_goes_in_a_stream_is_replaced_to_the_byte(
    tmp_path: Path, signal_: signal.Signals
) -> None:
    """The one that is asked has no neurons; two others lend theirs."""
    with ExitStack() as stack:
        ours, *others = (
            stack.enter_context(fleet(_folder(tmp_path, name))) for name in ("a", "b", "c")
        )
        for other in others:
            start(other, "lent")
            helexa("mesh", "join", str(other.cortex.ready["ticket"]), home=ours.home)
            helexa("mesh", "trust", str(other.cortex.ready["node_id"]), home=ours.home)
            helexa("mesh", "trust", str(ours.cortex.ready["node_id"]), home=other.home)
        until(
            lambda: helexa("mesh", "peers", "--wait-offers", MODEL, home=ours.home),
            lambda _: len([one for one in candidates(ours) if one["place"]]) == len(others),
        )
        undisturbed = heard(ours.url, ours.key)

        def kill() -> None:
            (busy,) = (one for one in others if any(each["busy"] for each in candidates(one)))
            busy.cortex.send(signal_)
            if signal_ is signal.SIGSTOP:
                # It has to be able to hear of its end.
                stack.callback(busy.cortex.send, signal.SIGCONT)

        assert heard(ours.url, ours.key, then=kill) == undisturbed
        assert gone_on(ours.url) == 1


def _folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir()
    (folder / "neuron.toml").write_text(CONFIG)
    return folder


def test_a_neuron_that_stands_still_in_a_stream_is_replaced_to_the_byte(tmp_path: Path) -> None:
    """Its connection stays open; that its reports do not come is what tells."""
    (tmp_path / "neuron.toml").write_text(CONFIG)
    settings = ("cortex.health_every_s=0.25", "cortex.lost_after_s=1.0")
    with fleet(tmp_path, settings) as made:
        for name in ("one", "two"):
            start(made, name)
        undisturbed = heard(made.url, made.key)
        stopped: list[Node] = []

        def stop() -> None:
            stopped.append(serving(made))
            stopped[0].send(signal.SIGSTOP)

        try:
            assert heard(made.url, made.key, then=stop) == undisturbed
            assert gone_on(made.url) == 1
            # It went on while the silent one was as silent as before, and still known.
            (row,) = (
                row
                for row in made.control("/api/v1/nodes")["nodes"]
                if row["node"] == stopped[0].ready["node_id"]
            )
            assert row["presence"] == "silent"
        finally:
            stopped[0].send(signal.SIGCONT)
