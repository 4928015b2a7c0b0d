"""The policy of supervision, driven without a process or a clock."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from helexa.neuron.supervisor.step import (
    BackoffElapsed,
    BecameReady,
    Event,
    Exited,
    Launch,
    Phase,
    Policy,
    Report,
    State,
    Stop,
    Wait,
    WantStarted,
    WantStopped,
    step,
)
from helexa.runtime.contract import Exit, ExitReason

POLICY = Policy(failures_max=3, window_s=60.0, cool_down_s=10.0)


def crash(at: float, reason: ExitReason = ExitReason.UNKNOWN) -> Exited:
    return Exited(at=at, exit=Exit(reason=reason, detail=f"crash at {at}"))


def after(*events: Event) -> State:
    state = State()
    for event in events:
        state, _ = step(state, event, POLICY)
    return state


def test_a_wish_launches_once_however_often_it_is_wished() -> None:
    state, effects = step(State(), WantStarted(at=0), POLICY)
    assert effects == (Launch(), Report())
    assert step(state, WantStarted(at=1), POLICY) == (state, ())


def test_a_crash_is_answered_by_a_wait_and_the_wait_by_a_launch() -> None:
    state = after(WantStarted(at=0), BecameReady())
    state, effects = step(state, crash(5), POLICY)
    assert state.phase is Phase.WAITING
    assert effects == (Wait(failures=1, launches=1), Report())
    state, effects = step(state, BackoffElapsed(launches=1), POLICY)
    assert state.phase is Phase.STARTING
    assert effects == (Launch(), Report())


def test_a_replica_that_keeps_failing_is_given_up_with_its_last_reason() -> None:
    state = after(WantStarted(at=0))
    for at in (1, 2):
        state, _ = step(state, crash(at), POLICY)
        state, _ = step(state, BackoffElapsed(launches=state.launches), POLICY)
    state, effects = step(state, crash(3), POLICY)
    assert state.phase is Phase.FAILED
    assert state.reason == "crash at 3"
    assert effects == (Report(),)
    assert not state.holds_memory


def test_failures_long_ago_are_forgiven() -> None:
    state = after(WantStarted(at=0))
    for at in (0, 100, 200, 300):
        state, _ = step(state, crash(at), POLICY)
        assert state.phase is Phase.WAITING
        state, _ = step(state, BackoffElapsed(launches=state.launches), POLICY)


def test_what_no_repetition_mends_is_not_repeated() -> None:
    state = after(WantStarted(at=0), crash(1, ExitReason.MODEL_UNREADABLE))
    assert state.phase is Phase.FAILED


def test_a_given_up_replica_is_tried_again_after_the_cool_down_or_when_somebody_insists() -> None:
    failed = after(WantStarted(at=0), crash(1, ExitReason.OUT_OF_MEMORY))
    assert step(failed, WantStarted(at=5), POLICY) == (failed, ())
    later, effects = step(failed, WantStarted(at=11), POLICY)
    assert later.phase is Phase.STARTING
    assert Launch() in effects
    insisted, _ = step(failed, WantStarted(at=2, insist=True), POLICY)
    assert insisted.phase is Phase.STARTING
    assert insisted.failures == ()


def test_a_stale_wait_does_not_cut_a_later_one_short() -> None:
    state = after(WantStarted(at=0), crash(1), BackoffElapsed(launches=1), crash(2))
    assert step(state, BackoffElapsed(launches=1), POLICY) == (state, ())


def test_a_stop_during_a_load_ends_the_child_and_its_exit_is_no_failure() -> None:
    state, effects = step(after(WantStarted(at=0)), WantStopped(), POLICY)
    assert effects == (Stop(), Report())
    state, effects = step(state, crash(1, ExitReason.STOPPED), POLICY)
    assert state.phase is Phase.STOPPED
    assert state.failures == ()


def test_a_wish_during_a_stop_starts_again_once_the_child_is_gone() -> None:
    state = after(WantStarted(at=0), BecameReady(), WantStopped(), WantStarted(at=1))
    assert state.phase is Phase.STOPPING
    state, effects = step(state, crash(2, ExitReason.STOPPED), POLICY)
    assert state.phase is Phase.STARTING
    assert Launch() in effects


def test_a_stop_during_a_wait_is_final() -> None:
    state = after(WantStarted(at=0), crash(1), WantStopped())
    assert state.phase is Phase.STOPPED
    assert step(state, BackoffElapsed(launches=1), POLICY) == (state, ())


EVENTS = st.lists(
    st.one_of(
        st.builds(WantStarted, at=st.floats(0, 1e6), insist=st.booleans()),
        st.just(WantStopped()),
        st.just(BecameReady()),
        st.builds(
            Exited,
            at=st.floats(0, 1e6),
            exit=st.builds(Exit, reason=st.sampled_from(ExitReason), detail=st.text(max_size=5)),
        ),
        st.builds(BackoffElapsed, launches=st.integers(0, 5)),
    ),
    max_size=60,
)


@given(EVENTS)
def test_whatever_happens_there_is_never_more_than_one_child(events: list[Event]) -> None:
    """A launch comes only when no child lives; a child lives from its launch to its exit."""
    state, children = State(), 0
    for event in events:
        if isinstance(event, Exited):
            if not children:
                continue
            children -= 1
        state, effects = step(state, event, POLICY)
        children += effects.count(Launch())
        assert children <= 1
        assert (state.phase in (Phase.STARTING, Phase.READY, Phase.STOPPING)) == (children == 1)
