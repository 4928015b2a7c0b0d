"""A stream that broke off, handed to another replica of the same weights to be finished.

A gateway sends a `Continuation` to CONTINUE_PATH of a neuron, or of a cortex that passes it on
to one of its own. The answer is an event stream of the same surface that begins exactly behind
what was delivered: the same `id`, `created` and `model` in each chunk, no role again, a
`finish_reason` at the end, and counts as if one engine had done all of it. A node that cannot
do it exactly refuses with `not_continuable` before it sends an event: as a status, or, where a
comment went before it, as the only event of the stream.
"""

from __future__ import annotations

from typing import Final

import msgspec

CONTINUE_PATH: Final = "/helexa/v1/continue"

RESUMED_KEY: Final = "resumed_tokens"
"""In the `usage` of a continuation: those of `completion_tokens` that were delivered before it."""


class DeliveredCall(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a client has of one call of a tool."""

    index: int = 0
    id: str = ""
    name: str = ""
    arguments: str = ""
    """As far as they came."""


class DeliveredChoice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a client has of one choice, in the pieces in which its engine sent it.

    The pieces matter: where each was one token, they tell the very tokens that were drawn.
    """

    index: int = 0
    content: tuple[str, ...] = ()
    """Of a completion: its `text`."""
    reasoning: tuple[str, ...] = ()
    tool_calls: tuple[DeliveredCall, ...] = ()
    """Those that were begun; their ids are kept, whatever the next engine calls them."""
    finish_reason: str = ""
    """Not empty where this choice was complete, and only others or the end are missing."""


class Delivered(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a client has of an answer, and how the rest must look."""

    id: str
    created: int
    model: str
    """As the chunks called it."""
    fingerprint: str = ""
    """`system_fingerprint`, where there was one."""
    choices: tuple[DeliveredChoice, ...] = ()
    """Those of which anything came, also a role alone; the others are begun anew."""


class Continuation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of a request to CONTINUE_PATH."""

    path: str
    """Of the request that is continued: `/v1/chat/completions` or `/v1/completions`."""
    model: str
    """As the node that is asked knows it."""
    digest: str
    """Of the weights that the first part came from; others are refused."""
    delivered: Delivered
    request: msgspec.Raw
    """The client's request, untouched."""
