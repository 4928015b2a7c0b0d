"""Where the catalogue lets a model run: an entry's `labels`, `regions`, `operators`, `nodes`
and `runtime`.

One answer for whoever places a model and whoever sends requests to it: what may not be
placed somewhere is not asked there either, although somebody loaded it by hand.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from helexa.cortex.orchestrator.federation.patterns import Patterns
from helexa.cortex.settings import ModelEntry
from helexa.protocol.work import NeuronDescriptor

ID_DIGITS_MIN: Final = 8
"""Of a node's or an operator's id, where its head stands for it."""


def is_bound(entry: ModelEntry) -> bool:
    """Whether there is any neuron that it may not run on."""
    return bool(entry.labels or entry.regions or entry.operators or entry.nodes or entry.runtime)


def why_not_there(entry: ModelEntry, neuron: NeuronDescriptor) -> str:
    """Why the model may not run on this neuron, as the rest of "it is ..."; empty where it may."""
    for name, value in entry.labels.items():
        if neuron.labels.get(name) != value:
            return f"without the label {name}={value} (labels)"
    if entry.regions and not _patterns(entry.regions).take(neuron.region):
        where = f"in region {neuron.region}" if neuron.region else "in no region that it names"
        return f"{where}, not in {', '.join(entry.regions)} (regions)"
    if entry.operators and not any(_is_head(one, neuron.operator) for one in entry.operators):
        return "of an operator that the model's entry does not name (operators)"
    if entry.nodes and not any(
        one == neuron.name or _is_head(one, neuron.node) for one in entry.nodes
    ):
        return "not among the nodes of the model's entry (nodes)"
    # A neuron that does not say what it has may have it.
    if entry.runtime and neuron.runtimes and entry.runtime not in neuron.runtimes:
        return f"without {entry.runtime}; it has {', '.join(neuron.runtimes)} (runtime)"
    return ""


def _is_head(text: str, known: str) -> bool:
    return len(text) >= ID_DIGITS_MIN and known.startswith(text.lower())


@lru_cache(maxsize=1024)
def _patterns(texts: tuple[str, ...]) -> Patterns:
    return Patterns(texts)
