"""Which neuron an operator means: by its id, the head of its id, or its name."""

from __future__ import annotations

from helexa.cortex.orchestrator.fleet import FleetView
from helexa.protocol.errors import NodeUnknown, RequestRejected
from helexa.protocol.ids import NodeId


def one_neuron(view: FleetView, text: str) -> NodeId:
    """Raises NodeUnknown, or RequestRejected when several are meant.

    A whole id means that neuron although another is called so.
    """
    if text in view.neurons:
        return NodeId(text)
    found = [
        node
        for node, neuron in view.neurons.items()
        if text and (node.startswith(text) or neuron.descriptor.name == text)
    ]
    if len(found) > 1:
        raise RequestRejected(f"{len(found)} neurons are called {text[:80]!r}; use an id.", "node")
    if not found:
        raise NodeUnknown(text)
    return found[0]
