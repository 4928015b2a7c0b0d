"""Fleets for tests, written as the events that make them."""

from __future__ import annotations

from helexa.cortex.orchestrator.fleet import FleetView, NeuronRegistered, apply
from helexa.protocol.ids import ModelId, NodeId, OperatorId
from helexa.protocol.work import (
    Fingerprint,
    ModelCapability,
    ModelState,
    NeuronDescriptor,
    WorkloadClass,
)


def node(number: int) -> NodeId:
    return NodeId(f"{number:064x}")


def descriptor(number: int) -> NeuronDescriptor:
    return NeuronDescriptor(
        node=node(number),
        operator=OperatorId(node(number)),
        version="0",
        hardware=Fingerprint(machine="x", system="y"),
    )


def capability(
    model: str = "m",
    state: ModelState = ModelState.LOADED,
    *,
    slots: int = 4,
    classes: tuple[WorkloadClass, ...] = (WorkloadClass.CHAT_INTERACTIVE,),
) -> ModelCapability:
    return ModelCapability(model=ModelId(model), state=state, slots=slots, classes=classes)


def fleet(*members: tuple[int, tuple[ModelCapability, ...]], now_s: float = 0.0) -> FleetView:
    view = FleetView()
    for number, capabilities in members:
        view = apply(
            view,
            NeuronRegistered(descriptor=descriptor(number), capabilities=capabilities, now_s=now_s),
        )
    return view
