"""Which ways there are to go on with a half answer, the best first. Pure; docs/continuation.md has
the same as a table.

A replay that repeats what was delivered to the byte is an undisturbed run of this engine, so
what follows is exact whatever was asked for. Tokens go on exactly only where the next token
depends on nothing but those before it. A text goes on with what the model would say next, as
an answer that is right and need not be the same.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Way(enum.Enum):
    REPLAY = "replay"
    """From the start, dropping what was delivered and holding it against that."""
    TOKENS = "tokens"
    """The tokens of the prompt and of what was delivered are a prompt."""
    TEXT = "text"
    """What was delivered is the begin of the answer, as a last message."""


class Sampling(enum.Enum):
    GREEDY = "greedy"
    SEEDED = "seeded"
    FREE = "free"
    """By lot, and nobody knows which."""


class Begun(enum.Enum):
    """How far the answer came."""

    NOTHING = "nothing"
    TEXT = "text"
    THOUGHT = "thought"
    """Thoughts, and nothing after them."""
    AFTER_THOUGHT = "after_thought"
    CALL = "call"


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    sampling: Sampling
    begun: Begun
    is_chat: bool = True
    is_plain: bool = True
    """One answer that is the very text of its tokens: no tools, form, thoughts, pictures."""
    is_several: bool = False
    """More than one choice or prompt."""
    has_logprobs: bool = False
    is_complete: bool = False
    """Every choice came to its finish; only the end of the stream is missing."""
    is_deterministic: bool = False
    """Served so that the same request gives the same answer."""
    by_tokens: bool = False
    by_text: bool = False
    by_thought: bool = False
    """What the engine can do."""


def ways(of: Situation) -> tuple[Way, ...]:
    """None where nothing could go on properly; `why_not` then says why."""
    if of.begun is Begun.NOTHING and not of.is_complete:
        # Whatever comes now is an answer.
        return (Way.REPLAY,)
    replay = () if of.sampling is Sampling.FREE else (Way.REPLAY,)
    tokens = (Way.TOKENS,) if _goes_by_tokens(of) else ()
    text = (Way.TEXT,) if _goes_by_text(of) else ()
    if of.sampling is Sampling.GREEDY:
        # Where a client was promised that it is exact, a text that need not be is no way.
        return tokens + replay + (() if of.is_deterministic else text)
    if of.sampling is Sampling.SEEDED:
        return replay + (() if of.is_deterministic else tokens + text)
    return tokens + text


def why_not(of: Situation) -> str:
    """The rest of a sentence, for a situation without any way."""
    lot = "the answer was drawn by lot without a seed"
    if of.begun is Begun.CALL:
        return f"a call of a tool was begun and {lot}"
    if of.begun is Begun.THOUGHT or of.begun is Begun.AFTER_THOUGHT:
        return f"the model thought and {lot}"
    if of.is_several:
        return f"there are several answers, and {lot}"
    if of.has_logprobs:
        return f"log probabilities were asked for, and {lot}"
    return f"this runtime cannot go on with half an answer, and {lot}"


def _goes_by_tokens(of: Situation) -> bool:
    return of.by_tokens and of.is_plain and not of.is_several and not of.has_logprobs


def _goes_by_text(of: Situation) -> bool:
    thought = of.begun in (Begun.THOUGHT, Begun.AFTER_THOUGHT)
    return (
        of.by_text
        and of.is_chat
        and (of.begun is Begun.TEXT or (thought and of.by_thought))
        and not (of.is_several or of.has_logprobs or of.is_complete)
    )
