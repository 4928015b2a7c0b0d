"""The simplest rule that works, to be compared with: every request in its turn.

A request goes to the neuron that will have its model by then; where none will, to the one that
has room, else the model that was asked for longest ago is unloaded and this one loaded in its
place. What comes later waits behind. Commands, answers and requests take the same time on
their way as a cortex' do: what this rule loses, it loses by itself.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from helexa.protocol.ids import ModelId, NodeId
from helexa.protocol.work import Load, ModelCapability, ModelState
from helexa.testing.provisioning.clock import Clock
from helexa.testing.provisioning.neurons import ON_THE_WAY_S, Neuron, Request

_HOLDS: Final = (ModelState.LOADED, ModelState.LOADING, ModelState.UNLOADING)


@dataclass(slots=True)
class _Line:
    """One neuron's: what it is to do, in order."""

    neuron: Neuron
    steps: deque[Request | _Swap] = field(default_factory=deque)
    will_hold: dict[ModelId, float] = field(default_factory=dict)
    """After all steps, and when each is asked for last."""
    acts: bool = False
    """The first step was begun."""
    sent: dict[ModelId, int] = field(default_factory=dict)
    """Requests that it has."""
    states: dict[ModelId, ModelState] = field(default_factory=dict)
    """As it said last."""
    was: dict[ModelId, ModelState] = field(default_factory=dict)
    """As it said before that."""


@dataclass(frozen=True, slots=True)
class _Swap:
    out: tuple[ModelId, ...]
    to: ModelId


class Fifo:
    """Used as `cortex.Cortex` is."""

    def __init__(self, clock: Clock, needs: dict[ModelId, int]) -> None:
        self.requests: list[Request] = []
        self.swaps = 0
        """Loads for which something had to leave."""
        self.loads = 0
        self.clock = clock
        self._needs = needs
        self._lines: dict[NodeId, _Line] = {}
        self._has: dict[NodeId, frozenset[ModelId]] = {}

    def attend(self, neuron: Neuron) -> None:
        self._lines[neuron.node] = _Line(neuron)
        self._has[neuron.node] = frozenset(one.model for one in neuron.capabilities())

    def ask(self, request: Request) -> None:
        self.requests.append(request)
        model, now_s = request.model, self.clock.now_s
        able = [line for node, line in self._lines.items() if model in self._has[node]]
        line = next((one for one in able if model in one.will_hold), None)
        if line is None:
            line = min(able, key=lambda one: (not self._fits(one, model), _unused_since(one)))
            out = self._out(line, model)
            line.steps.append(_Swap(out, model))
        line.will_hold[model] = now_s
        line.steps.append(request)
        self._go_on(line)

    def _fits(self, line: _Line, model: ModelId) -> bool:
        held = sum(self._needs[one] for one in line.will_hold)
        return held + self._needs[model] <= line.neuron.memory_bytes

    def _out(self, line: _Line, model: ModelId) -> tuple[ModelId, ...]:
        out = []
        while not self._fits(line, model):
            least = min(line.will_hold, key=lambda one: line.will_hold[one])
            del line.will_hold[least]
            out.append(least)
        return tuple(out)

    def _go_on(self, line: _Line) -> None:
        while line.steps:
            step = line.steps[0]
            if isinstance(step, Request):
                line.steps.popleft()
                line.sent[step.model] = line.sent.get(step.model, 0) + 1
                self.clock.after(ON_THE_WAY_S, partial(line.neuron.serve, step))
                continue
            if not line.acts and not any(line.sent.get(one) for one in step.out):
                line.acts = True
                self._command(line, step)
            return

    def _command(self, line: _Line, step: _Swap) -> None:
        neuron = line.neuron
        holding = [one for one in step.out if line.states.get(one) in _HOLDS]
        for one in holding:
            self.clock.after(ON_THE_WAY_S, partial(neuron.unload, one, _nothing))
        if not holding:
            self.loads += 1
            self.swaps += bool(step.out)
            self.clock.after(ON_THE_WAY_S, partial(neuron.load, step.to, _nothing))

    def _is_done(self, line: _Line, step: _Swap) -> None:
        """Go on as far as the neuron says that it is."""
        before = any(line.was.get(one) in _HOLDS for one in step.out)
        after = any(line.states.get(one) in _HOLDS for one in step.out)
        if before and not after:
            self._command(line, step)
        elif line.states.get(step.to) is ModelState.LOADED:
            line.steps.popleft()
            line.acts = False
            self._go_on(line)

    # --- what neurons say

    def announced(self, node: NodeId, capabilities: tuple[ModelCapability, ...]) -> None:
        line = self._lines[node]
        line.was, line.states = line.states, {one.model: one.state for one in capabilities}
        if line.acts and isinstance(line.steps[0], _Swap):
            self._is_done(line, line.steps[0])

    def reported(self, node: NodeId, load: Load) -> None: ...

    def started(self, node: NodeId, request: Request) -> None: ...

    def ended(self, node: NodeId, request: Request) -> None:
        """Its neuron counts it out before it says so."""
        line = self._lines[node]
        line.sent[request.model] -= 1
        self._go_on(line)

    def came_back(self, node: NodeId, request: Request) -> None:
        raise AssertionError(f"{request} came to {node}, where its model is not loaded")


def _nothing(_why: str, _passing: bool) -> None:
    """Answers add nothing to what neurons announce."""


def _unused_since(line: _Line) -> float:
    return min(line.will_hold.values(), default=-1.0)
