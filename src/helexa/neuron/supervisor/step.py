"""The whole policy of keeping one replica as somebody wants it, as a pure function.

`step` never waits and never touches a process; `replica` performs what it says.
A replica that fails is started again after a growing wait; one that keeps
failing, or fails in a way that no repetition mends, is given up with its reason
until somebody asks for it again after a while.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import TypeAlias

from helexa.runtime.contract import Exit


class Phase(enum.Enum):
    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    WAITING = "waiting"
    """Between a failure and the next start."""
    STOPPING = "stopping"
    FAILED = "failed"
    """Given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    failures_max: int = 5
    """So many within the window, and it is given up."""
    window_s: float = 120.0
    cool_down_s: float = 10.0
    """A given-up replica is tried again by a request that comes this much later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    phase: Phase = Phase.STOPPED
    wanted: bool = False
    launches: int = 0
    failures: tuple[float, ...] = ()
    """When it failed, within the window."""
    reason: str = ""
    """Of the last failure; empty once ready again."""
    reason_code: str = ""
    """The same in one word, of `ExitReason`."""
    failed_at: float = 0.0

    @property
    def holds_memory(self) -> bool:
        return self.phase not in (Phase.STOPPED, Phase.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class WantStarted:
    at: float
    insist: bool = False
    """Asked for by a person: a cool-down does not hold it back."""


@dataclass(frozen=True, slots=True)
class WantStopped:
    pass


@dataclass(frozen=True, slots=True)
class BecameReady:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Exited:
    at: float
    exit: Exit


@dataclass(frozen=True, slots=True, kw_only=True)
class BackoffElapsed:
    launches: int
    """Of the state that asked for the wait: a stale one must not cut a later wait short."""


Event: TypeAlias = WantStarted | WantStopped | BecameReady | Exited | BackoffElapsed


@dataclass(frozen=True, slots=True)
class Launch:
    pass


@dataclass(frozen=True, slots=True)
class Stop:
    """End the child; an `Exited` follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Then post `BackoffElapsed(launches=...)`."""

    failures: int
    launches: int


@dataclass(frozen=True, slots=True)
class Report:
    pass


Effect: TypeAlias = Launch | Stop | Wait | Report


def step(  # noqa: PLR0911 - a table of cases, one line each
    state: State, event: Event, policy: Policy
) -> tuple[State, tuple[Effect, ...]]:
    """Pairs not named here change nothing."""
    match state.phase, event:
        case Phase.STOPPED, WantStarted():
            return _launched(replace(state, wanted=True, failures=()))
        case Phase.FAILED, WantStarted(at=at, insist=insist):
            if insist or at - state.failed_at >= policy.cool_down_s:
                return _launched(replace(state, wanted=True, failures=()))
        case Phase.STOPPING, WantStarted():
            return replace(state, wanted=True), ()
        case Phase.STARTING, BecameReady():
            return replace(state, phase=Phase.READY, reason="", reason_code=""), (Report(),)
        case ((Phase.STARTING | Phase.READY), Exited()):
            return _failed(state, event, policy)
        case Phase.WAITING, BackoffElapsed(launches=launches) if launches == state.launches:
            return _launched(state)
        case ((Phase.STARTING | Phase.READY), WantStopped()):
            return replace(state, phase=Phase.STOPPING, wanted=False), (Stop(), Report())
        case ((Phase.WAITING | Phase.FAILED), WantStopped()):
            return replace(_stopped(state), wanted=False), (Report(),)
        case Phase.STOPPING, WantStopped():
            return replace(state, wanted=False), ()
        case Phase.STOPPING, Exited():
            if state.wanted:
                return _launched(replace(state, failures=()))
            return _stopped(state), (Report(),)
    return state, ()


def _stopped(state: State) -> State:
    return replace(state, phase=Phase.STOPPED, failures=(), reason="", reason_code="")


def _launched(state: State) -> tuple[State, tuple[Effect, ...]]:
    started = replace(state, phase=Phase.STARTING, launches=state.launches + 1)
    return started, (Launch(), Report())


def _failed(state: State, event: Exited, policy: Policy) -> tuple[State, tuple[Effect, ...]]:
    recent = (*(at for at in state.failures if at > event.at - policy.window_s), event.at)
    failed = replace(
        state,
        failures=recent,
        failed_at=event.at,
        reason=event.exit.detail or "no reason known",
        reason_code=event.exit.reason.value,
    )
    if not event.exit.reason.retry_helps or len(recent) >= policy.failures_max:
        return replace(failed, phase=Phase.FAILED, wanted=False), (Report(),)
    wait = Wait(failures=len(recent), launches=state.launches)
    return replace(failed, phase=Phase.WAITING), (wait, Report())
