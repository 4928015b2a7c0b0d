"""What may be served, how and where: the operator's entries, and names that lead to them.

Immutable, so that a plan or a route works on one consistent catalogue; a change
makes a new one, checked as a whole first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from helexa.cortex.settings import ModelEntry
from helexa.protocol.ids import ModelId


@dataclass(frozen=True, slots=True)
class Way:
    """One model that a name leads to."""

    model: ModelId
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """Made by `catalogue`. `aliases` never holds the name of an entry."""

    entries: Mapping[ModelId, ModelEntry] = field(default_factory=lambda: MappingProxyType({}))
    aliases: Mapping[ModelId, tuple[Way, ...]] = field(default_factory=lambda: MappingProxyType({}))

    def entry(self, model: ModelId) -> ModelEntry:
        """Its entry, or one of defaults for a model that only some neuron knows."""
        return self.entries.get(model) or ModelEntry(id=model)


EMPTY: Final = Catalogue()


def catalogue(entries: Iterable[ModelEntry]) -> Catalogue:
    """From entries that were checked before (`problems`)."""
    by_id = {ModelId(entry.id): entry for entry in entries}
    aliases: dict[ModelId, list[Way]] = {}
    for model, entry in by_id.items():
        for alias in entry.aliases:
            aliases.setdefault(ModelId(alias.name), []).append(Way(model, alias.weight))
    return Catalogue(
        entries=MappingProxyType(by_id),
        aliases=MappingProxyType({name: tuple(ways) for name, ways in aliases.items()}),
    )
