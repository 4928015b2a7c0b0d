"""The fleet view: what events make of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.cortex.fleets import capability, descriptor, fleet, node

from helexa.cortex.orchestrator.fleet import (
    CapabilitiesAnnounced,
    FleetEvent,
    FleetView,
    HealthReported,
    Mark,
    NeuronLeft,
    NeuronMarked,
    NeuronRegistered,
    Presence,
    TimePassed,
    _holders,
    apply,
)
from helexa.protocol.ids import ModelId, NodeId
from helexa.protocol.work import Load, ModelState, ReplicaLoad


def aged(view: FleetView, now_s: float) -> FleetView:
    return apply(view, TimePassed(now_s=now_s, lost_after_s=4, forget_after_s=3600))


def test_a_neuron_that_stops_reporting_is_silent_and_returns_with_its_next_report() -> None:
    view = aged(fleet((1, (capability(),)), now_s=0), 4.5)
    assert view.neurons[node(1)].presence is Presence.SILENT
    assert "no health report for 4.5 s" in view.neurons[node(1)].reason
    view = apply(view, HealthReported(node=node(1), load=Load(sequence=1), now_s=5))
    assert view.neurons[node(1)].presence is Presence.PRESENT


def test_a_gone_neuron_keeps_its_models_listed_until_it_is_forgotten() -> None:
    view = fleet((1, (capability(),)))
    view = apply(view, NeuronLeft(node=node(1), reason="link closed", now_s=10))
    assert view.holders[ModelId("m")] == (node(1),)
    view = aged(view, 10 + 3601)
    assert node(1) not in view.neurons
    assert not view.holders


def test_a_late_frame_of_a_dead_link_does_not_bring_a_neuron_back() -> None:
    view = apply(fleet((1, (capability(),))), NeuronLeft(node=node(1), reason="x", now_s=1))
    view = apply(view, HealthReported(node=node(1), load=Load(sequence=9), now_s=2))
    assert view.neurons[node(1)].presence is Presence.GONE


def test_a_report_older_than_the_last_one_changes_nothing() -> None:
    view = fleet((1, (capability(),)))
    view = apply(view, HealthReported(node=node(1), load=Load(sequence=5, uptime_s=5), now_s=1))
    again = apply(view, HealthReported(node=node(1), load=Load(sequence=4), now_s=2))
    assert again is view


def test_a_new_registration_starts_the_report_sequence_anew() -> None:
    view = fleet((1, (capability(),)))
    view = apply(view, HealthReported(node=node(1), load=Load(sequence=50), now_s=1))
    view = apply(
        view, NeuronRegistered(descriptor=descriptor(1), capabilities=(capability(),), now_s=2)
    )
    view = apply(view, HealthReported(node=node(1), load=Load(sequence=1, uptime_s=1), now_s=3))
    load = view.neurons[node(1)].load
    assert load is not None
    assert load.uptime_s == 1


MODELS = st.lists(st.sampled_from("abcd"), unique=True).map(
    lambda names: tuple(capability(name, ModelState.LOADED) for name in names)
)
NODES = st.integers(1, 4)


@st.composite
def histories(draw: st.DrawFn) -> list[FleetEvent]:
    events: list[FleetEvent] = []
    now_s = 0.0
    for sequence in range(draw(st.integers(0, 30))):
        now_s += draw(st.sampled_from([0.0, 1.0, 5.0, 2000.0]))
        number = draw(NODES)
        events.append(
            draw(
                st.one_of(
                    MODELS.map(
                        lambda models, number=number, now_s=now_s: NeuronRegistered(
                            descriptor=descriptor(number), capabilities=models, now_s=now_s
                        )
                    ),
                    MODELS.map(
                        lambda models, number=number, now_s=now_s: CapabilitiesAnnounced(
                            node=node(number), capabilities=models, now_s=now_s
                        )
                    ),
                    st.just(
                        HealthReported(node=node(number), load=Load(sequence=sequence), now_s=now_s)
                    ),
                    st.just(NeuronLeft(node=node(number), reason="x", now_s=now_s)),
                    st.just(TimePassed(now_s=now_s, lost_after_s=4, forget_after_s=3600)),
                )
            )
        )
    return events


@given(histories())
def test_the_model_index_always_agrees_with_the_neurons(events: list[FleetEvent]) -> None:
    view = FleetView()
    for event in events:
        view = apply(view, event)
        assert dict(view.holders) == dict(_holders(dict(view.neurons)))
        loaded: dict[ModelId, list[NodeId]] = {}
        for one in sorted(view.neurons):
            neuron = view.neurons[one]
            for model, able in neuron.capabilities.items():
                if able.state is ModelState.LOADED and neuron.presence is not Presence.GONE:
                    loaded.setdefault(model, []).append(one)
        assert dict(view.loaded) == {model: tuple(nodes) for model, nodes in loaded.items()}


def believed(view: FleetView, number: int) -> tuple[object, ...]:
    """What routing goes by; times are left out."""
    neuron = view.neurons[node(number)]
    return (
        neuron.presence,
        dict(neuron.capabilities),
        neuron.load,
        dict(neuron.replicas),
        dict(neuron.elsewhere),
        neuron.mark,
        dict(view.holders),
        dict(view.loaded),
    )


REPORTS = st.lists(st.integers(1, 9), max_size=8)


@given(st.permutations(range(1, 7)), REPORTS)
def test_reports_may_come_late_and_twice_and_only_the_newest_counts(
    order: list[int], again: list[int]
) -> None:
    view = fleet((1, (capability(),)))
    newest = 0
    for sequence in (*order, *again):
        load = Load(sequence=sequence, uptime_s=float(sequence))
        view = apply(view, HealthReported(node=node(1), load=load, now_s=1))
        newest = max(newest, sequence)
        found = view.neurons[node(1)].load
        assert found is not None
        assert found.uptime_s == newest


@given(st.permutations(["health", "capabilities", "cordon", "time"]))
def test_what_different_frames_say_does_not_depend_on_their_order(order: list[str]) -> None:
    busy = ReplicaLoad(model=ModelId("m"), running=3, waiting=1, slots=4)
    frames: dict[str, FleetEvent] = {
        "health": HealthReported(
            node=node(1),
            load=Load(sequence=1, replicas=(busy,)),
            now_s=1,
            own={ModelId("m"): 1},
        ),
        "capabilities": CapabilitiesAnnounced(
            node=node(1), capabilities=(capability(state=ModelState.LOADED),), now_s=1
        ),
        "cordon": NeuronMarked(node=node(1), mark=Mark.CORDONED),
        "time": TimePassed(now_s=2, lost_after_s=4, forget_after_s=9),
    }
    view = fleet((1, (capability(state=ModelState.UNLOADED),)))
    for name in order:
        view = apply(view, frames[name])
    straight = fleet((1, (capability(state=ModelState.UNLOADED),)))
    for event in frames.values():
        straight = apply(straight, event)
    assert believed(view, 1) == believed(straight, 1)
    assert view.neurons[node(1)].elsewhere == {ModelId("m"): 3}


@given(histories())
def test_a_frame_that_comes_twice_is_as_one_that_comes_once(events: list[FleetEvent]) -> None:
    once, twice = FleetView(), FleetView()
    for event in events:
        once = apply(once, event)
        twice = apply(apply(twice, event), event)
    assert once == twice


@given(histories(), histories())
def test_late_frames_of_a_dead_link_change_nothing(
    before: list[FleetEvent], late: list[FleetEvent]
) -> None:
    view = FleetView()
    for event in before:
        view = apply(view, event)
    for number in range(1, 5):
        view = apply(view, NeuronLeft(node=node(number), reason="x", now_s=0))
    for event in late:
        if isinstance(event, CapabilitiesAnnounced | HealthReported | NeuronLeft):
            assert apply(view, event) is view


def test_a_mark_waits_for_its_neuron_and_outlives_its_links() -> None:
    view = apply(FleetView(), NeuronMarked(node=node(1), mark=Mark.DRAINED))
    assert view.marks == {node(1): Mark.DRAINED}
    registered = NeuronRegistered(descriptor=descriptor(1), capabilities=(capability(),), now_s=1)
    view = apply(view, registered)
    assert view.neurons[node(1)].draining
    view = apply(view, NeuronLeft(node=node(1), reason="x", now_s=2))
    view = apply(view, registered)
    assert view.neurons[node(1)].mark is Mark.DRAINED
    view = apply(view, NeuronMarked(node=node(1), mark=None))
    assert view.neurons[node(1)].mark is None
    assert not view.marks
    assert not apply(view, registered).neurons[node(1)].draining
