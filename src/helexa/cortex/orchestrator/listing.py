"""What a client may ask for by name: models that somebody has, that can be brought, and aliases.

Pure, like the decisions that it foretells: what is listed here is what a request would be
served or waited for, as far as that is known without one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from helexa.cortex.orchestrator.catalogue import Catalogue, Way
from helexa.cortex.orchestrator.fleet import FleetView
from helexa.cortex.orchestrator.provisioning.coming import may_be_pulled
from helexa.cortex.orchestrator.scheduler import price_of
from helexa.cortex.settings import ModelEntry
from helexa.protocol.ids import ModelId
from helexa.protocol.openai.models import ModelAbout
from helexa.protocol.work import ModelCapability, ModelState, Price


def listed(
    had: Sequence[ModelCapability], catalogue: Catalogue, view: FleetView, *, brings: bool
) -> list[ModelCapability]:
    """`had`, then what the catalogue adds. `brings`: models come to where they are wanted."""
    by_model = {one.model: one for one in had}
    if brings:
        for model, entry in catalogue.entries.items():
            if model not in by_model and may_be_pulled(view, entry):
                by_model[model] = _unseen(entry)
    aliases = [
        msgspec.structs.replace(by_model[likeliest], model=name)
        for name, likeliest in _aliases(catalogue, by_model)
    ]
    return [*by_model.values(), *aliases]


def as_used(capability: ModelCapability, catalogue: Catalogue) -> ModelCapability:
    """What a neuron of this cortex can do, at the price and for the work that its entry says."""
    entry = catalogue.entries.get(capability.model)
    price = price_of(capability, entry)
    if entry is None or not entry.classes:
        return msgspec.structs.replace(capability, price=price)
    classes = tuple(one for one in capability.classes if one in entry.classes)
    return msgspec.structs.replace(capability, price=price, classes=classes)


def owners(borrowed: Mapping[ModelId, str], catalogue: Catalogue) -> dict[ModelId, str]:
    """Who serves what no neuron here has, for the aliases that lead there too."""
    return {
        **borrowed,
        **{name: borrowed[model] for name, model in _aliases(catalogue, borrowed)},
    }


def about(catalogue: Catalogue, name: ModelId) -> ModelAbout:
    """What the operator's entries say of a name that is listed."""
    if (entry := catalogue.entries.get(name)) is not None:
        return ModelAbout(description=entry.description, fallbacks=entry.fallbacks)
    ways = catalogue.aliases.get(name, ())
    return ModelAbout(leads_to=tuple(str(way.model) for way in _likeliest_first(ways)))


def _aliases(
    catalogue: Catalogue, among: Mapping[ModelId, object]
) -> Iterator[tuple[ModelId, ModelId]]:
    """Each alias that leads to any of these, with the likeliest of them."""
    for name, ways in catalogue.aliases.items():
        one = next((way.model for way in _likeliest_first(ways) if way.model in among), None)
        if one is not None and name not in among:
            yield name, one


def _likeliest_first(ways: Sequence[Way]) -> list[Way]:
    return sorted(ways, key=lambda way: -way.weight)


def _unseen(entry: ModelEntry) -> ModelCapability:
    return ModelCapability(
        model=ModelId(entry.id),
        state=ModelState.UNLOADED,
        classes=entry.classes,
        context_tokens=entry.context_tokens or 0,
        price=entry.price or Price(),
    )
