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
    NeuronLeft,
    NeuronRegistered,
    Presence,
    TimePassed,
    _holders,
    apply,
)
from helexa.protocol.ids import ModelId
from helexa.protocol.work import Load, ModelState


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
