"""Where a request may go, and why: the scheduler's answer as data."""

from __future__ import annotations

from typing import Final

import msgspec

from helexa.protocol.ids import ModelId, NodeId
from helexa.protocol.work import Price, WorkloadClass

MODEL_HEADER: Final = b"x-helexa-model"
"""From a cortex to whom it asks: the model to serve the request by, whatever the body says. The
body of a client is not rewritten. Heard from cortexes alone."""

NODE_HEADER: Final = b"x-helexa-node"
"""With a cortex' list of models: whose it is, for neurons that look for servers."""


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What one request asks of its way: it narrows, and never widens. docs/policy.md has the words.

    Cortexes are named by name, operator id, node id, or eight or more digits of an id;
    `local` is the one that reads it.
    """

    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    prefer: tuple[str, ...] = ()
    """Asked before all others, in this order."""
    fallbacks: bool = True
    """Whether others may be asked: than those of `prefer`, or than the first one without it."""
    regions: tuple[str, ...] = ()
    """Patterns, as in `[federation]`."""
    federation: bool = True
    models: tuple[ModelId, ...] = ()
    """Asked in this order where the model of the request cannot be served."""
    quantisations: tuple[str, ...] = ()
    """Any of these names or kinds of `protocol.quantisation`."""
    quantisation_min: str = ""
    price_max: int | None = None
    """Nano-credits a token, of any kind."""
    prompt_price_max: int | None = None
    completion_price_max: int | None = None
    first_token_max_s: float | None = None
    """By what was measured; who was never measured is not asked."""
    speed_min: float | None = None
    """Tokens a second, measured."""
    first_token_wanted_s: float | None = None
    """Who is slower, or was never measured, is asked after the others."""
    speed_wanted: float | None = None
    order: str = ""
    """`local_first`, `cheapest`, `fastest` or `quickest`; empty is the operator's."""
    resume: bool = True
    """Whether a stream that breaks off may be finished by somebody else."""


class RouteHints(msgspec.Struct, frozen=True, kw_only=True):
    """What the caller or the ingress knows that the model name does not say."""

    session: str = ""
    """Requests with the same mark like to meet the same neuron."""
    request: str = ""
    """Its id: what is drawn by lot among models falls the same each time that it is looked at."""
    prompt_bytes: int = 0
    prefixes: tuple[int, ...] = ()
    """Hashes of ever longer heads of the prompt, shortest first; see `protocol.prefix`."""
    exclude: tuple[NodeId, ...] = ()
    """Targets that already failed for this request."""
    digest: str = ""
    """Only these weights will do: half of the answer came from them."""
    wish: Wish | None = None
    path: tuple[NodeId, ...] = ()
    """The cortexes that it passed on its way here; empty for a client's own request."""
    hops_left: int | None = None
    """How many more cortexes it may pass, by the one that sent it; None for a client's own."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    node: NodeId
    via: NodeId | None = None
    """The peer cortex to go through; None is a neuron registered here."""
    reason: str = ""
    model: ModelId = ModelId("")
    """What to ask it for, where that is not the model of the request: an alias or a fallback."""
    ready: bool = True
    """Whether the model is loaded there, as far as is known."""


class Label(msgspec.Struct, frozen=True, gc=False):
    """What is known of a target for one model: what answers and receipts say of it."""

    digest: str = ""
    """Of the weights, where somebody said."""
    price: Price = Price()
    operator: str = ""
    """Its id."""
    name: bytes = b""
    """Printable ASCII without `;` or `,`, as all that follows."""
    who_line: bytes = b""
    """The whole header line that says who serves, and the one that says at which price."""
    price_line: bytes = b""


class Exclusion(msgspec.Struct, frozen=True, kw_only=True):
    node: NodeId
    reason: str
    sentence: str = ""
    """The same with the name before it, as a client may read it."""
    model: ModelId = ModelId("")
    """The model that it would have been asked for; empty is that of the request."""


class RoutingDecision(msgspec.Struct, frozen=True, kw_only=True):
    """Targets in the order to try them; empty `targets` is a refusal that `excluded` explains."""

    model: ModelId
    workload: WorkloadClass
    targets: tuple[Target, ...] = ()
    excluded: tuple[Exclusion, ...] = ()
    policy: str = ""
    choices: tuple[ModelId, ...] = ()
    """The models that the name led to, in the order in which they are wanted."""
