"""What happens in a fleet, as those who watch it are told: one type for each word of `event`.

Fields are added with defaults and never change their meaning, as on the wire between nodes.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from helexa.protocol.ids import ModelId, NodeId
from helexa.protocol.work import Load, NeuronDescriptor, Progress


class News(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    id: str = ""
    """EPOCH-SEQUENCE: where a reader goes on from. Given when it is told."""
    at_s: float = 0.0
    """Unix time. Given when it is told."""


class OfNeuron(News, frozen=True, kw_only=True):
    node: NodeId
    name: str = ""


class NeuronCame(OfNeuron, frozen=True, kw_only=True, tag="neuron_registered"):
    descriptor: NeuronDescriptor


class NeuronWent(OfNeuron, frozen=True, kw_only=True, tag="neuron_removed"):
    """Its link ended, for good or not."""

    reason: str = ""


class PresenceChanged(OfNeuron, frozen=True, kw_only=True, tag="neuron_presence"):
    """It fell silent while its link stood, or was heard again."""

    presence: str
    reason: str = ""


class NeuronHeartbeat(OfNeuron, frozen=True, kw_only=True, tag="neuron_heartbeat"):
    load: Load


class MarkChanged(OfNeuron, frozen=True, kw_only=True, tag="neuron_marked"):
    mark: str
    """`cordoned`, `drained`, or empty."""


class ModelStateChanged(OfNeuron, frozen=True, kw_only=True, tag="model_state_changed"):
    model: ModelId
    state: str
    """As the neuron announced it; `absent` where it lists the model no longer."""
    before: str = "absent"
    reason: str = ""


class PullProgress(OfNeuron, frozen=True, kw_only=True, tag="pull_progress"):
    model: ModelId
    progress: Progress
    bytes_from_peers: int = 0


class LoadProgress(OfNeuron, frozen=True, kw_only=True, tag="load_progress"):
    model: ModelId
    progress: Progress


class ProvisioningSent(OfNeuron, frozen=True, kw_only=True, tag="provisioning_sent"):
    command: str
    model: ModelId
    kind: str
    """`load`, `unload`, `pull`, `cancel` or `remove`."""


class ProvisioningAnswered(OfNeuron, frozen=True, kw_only=True, tag="provisioning_response"):
    command: str
    model: ModelId
    kind: str
    state: str = ""
    """The model's, as the answer said; empty where there was no answer but a refusal."""
    code: str = ""
    """Of the refusal."""
    reason: str = ""
    took_s: float = 0.0


class RequestRouted(News, frozen=True, kw_only=True, tag="request_routed"):
    model: ModelId
    """What the target is asked for."""
    node: NodeId
    via: NodeId | None = None
    reason: str = ""
    """Why there, as `explain` has it."""


class CatalogueChanged(News, frozen=True, kw_only=True, tag="catalogue_changed"):
    changed: tuple[ModelId, ...] = ()
    """Entries that came, went or differ."""
    entries: int = 0


class Lagged(News, frozen=True, kw_only=True, tag="lagged"):
    """The reader was too slow and missed some; a snapshot comes next."""

    missed: int


Passing: TypeAlias = NeuronHeartbeat | PullProgress | LoadProgress | RequestRouted
"""Soon repeated or of no use later: told to those who listen, kept for nobody."""

Told: TypeAlias = (
    NeuronCame
    | NeuronWent
    | PresenceChanged
    | NeuronHeartbeat
    | MarkChanged
    | ModelStateChanged
    | PullProgress
    | LoadProgress
    | ProvisioningSent
    | ProvisioningAnswered
    | RequestRouted
    | CatalogueChanged
    | Lagged
)
