"""One request at one model, as its lane knows it."""

from __future__ import annotations

import enum
import math
from typing import Any

import msgspec

from helexa.cortex.gateway.admission.fair_queue import Account
from helexa.cortex.gateway.admission.ranks import Rank


class State(enum.IntEnum):
    APART = 0
    """Counted, but neither in the queue nor at work: its model is not served yet."""
    QUEUED = 1
    RUNNING = 2
    GONE = 3


class Entry(msgspec.Struct, eq=False):
    """One request at one model."""

    account_name: str
    rank: Rank
    weight: float
    body_bytes: int
    came_s: float
    output_most: float = math.inf
    counts_bytes: bool = True
    """Whether its prompt's tokens follow from its size: not where there are pictures in it."""
    state: State = State.APART
    account: Account[Entry] | None = None
    charged: float = 0.0
    """Tokens so far: guessed at first, what was delivered above that, the truth in the end."""
    began_s: float = 0.0
    owner: Any = None
    """Who is told of it; nothing to this file, and so the next."""
    ticket: Any = None
