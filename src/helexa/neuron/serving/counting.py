"""What a request used, out of what its engine said, which may be said twice or make no sense.

A count that cannot be is not passed on: somebody may pay by it. It is brought down to
the most that is possible, and named, so that the operator hears of the engine.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from helexa.protocol.work import Usage


class Fault(enum.Enum):
    """What is wrong with an engine's counts."""

    MISSING = "usage_missing"
    TWICE = "usage_twice"
    WRONG = "usage_wrong"
    """More than fits into the model's context, or than the client allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What one request can use at most."""

    choices: int = 1
    """Asked for, of each prompt."""
    prompts: int = 1
    context_tokens: int
    output_tokens: int | None = None
    """Of each choice, where the client said."""

    @property
    def prompt(self) -> int:
        return self.prompts * self.context_tokens

    @property
    def completion(self) -> int:
        most = self.context_tokens
        if self.output_tokens is not None:
            most = min(most, max(0, self.output_tokens))
        return self.prompts * self.choices * most


def settled(counts: Sequence[Usage], bounds: Bounds) -> tuple[Usage | None, Fault | None]:
    """`counts` are one for the whole, or one for each choice of each prompt, in order."""
    if not counts:
        return None, Fault.MISSING
    expected = bounds.choices * bounds.prompts
    said = counts[-expected:]
    read = [
        # The choices of one prompt share it: it was read once, by the first that came to it.
        max(said[at : at + bounds.choices], key=lambda one: one.prompt_uncached)
        for at in range(0, len(said), bounds.choices)
    ]
    used = Usage(
        prompt_uncached=sum(one.prompt_uncached for one in read),
        prompt_cached=sum(one.prompt_cached for one in read),
        completion=sum(one.completion for one in said),
        reasoning=sum(one.reasoning for one in said),
    )
    possible = _within(used, bounds)
    if possible != used:
        return possible, Fault.WRONG
    return used, Fault.TWICE if len(counts) > expected else None


def _within(used: Usage, bounds: Bounds) -> Usage:
    cached = min(used.prompt_cached, bounds.prompt)
    reasoning = min(used.reasoning, bounds.completion)
    return Usage(
        prompt_uncached=min(used.prompt_uncached, bounds.prompt - cached),
        prompt_cached=cached,
        completion=min(used.completion, bounds.completion - reasoning),
        reasoning=reasoning,
    )
