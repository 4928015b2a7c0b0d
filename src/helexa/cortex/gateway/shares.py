"""Whose tokens were whose, when several targets made one answer. Pure.

The one that finishes an answer counts as if it had made all of it, and says how many of the
tokens were delivered before it. Those are divided among those who went before by what each
delivered, so that the parts always add up to what the client is told, class by class.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from helexa.protocol.work import Usage


class Shares(NamedTuple):
    before: tuple[Usage, ...]
    """Of those who broke off, in their order."""
    last: Usage
    """Of the one that finished."""
    foreign_tokens: int
    """Delivered before the answer was handed over to this cortex: nobody's here."""


def divided(total: Usage, resumed: int, pieces: Sequence[int], *, handed_over: bool) -> Shares:
    """`pieces` is how many each of those who broke off delivered; `resumed` counts their tokens.

    The prompt is the first one's, who alone is paid for reading it. Of an answer that was handed
    over half-done, it was read elsewhere.
    """
    made = total.completion + total.reasoning
    resumed = max(0, min(resumed, made)) if pieces or handed_over else 0
    foreign = max(resumed - sum(pieces), 0) if handed_over else 0
    left = resumed - foreign
    tokens = [foreign]
    for number in range(len(pieces)):
        behind = sum(pieces[number + 1 :])
        # A piece may be more than one token, so the first takes what the pieces do not explain.
        own = max(left - behind, 0)
        left -= own
        tokens.append(own)
    tokens.append(made - resumed)
    thought = total.reasoning
    usages = []
    for count in tokens:
        # A model thinks before it speaks.
        reasoning = min(thought, count)
        thought -= reasoning
        usages.append(Usage(completion=count - reasoning, reasoning=reasoning))
    if not handed_over:
        first = usages[1]
        usages[1] = Usage(
            prompt_uncached=total.prompt_uncached,
            prompt_cached=total.prompt_cached,
            completion=first.completion,
            reasoning=first.reasoning,
        )
    return Shares(tuple(usages[1:-1]), usages[-1], foreign)
