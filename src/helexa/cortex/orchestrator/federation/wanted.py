"""What a request asks of whoever serves it, held against one neuron or one other cortex.

Pure. A rule that forbids says so in words, as the rest of a sentence about the one that it
forbids; a wish that is only preferred says how far back that one is put.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from helexa.cortex.orchestrator.federation.patterns import Patterns, in_region
from helexa.mesh.trust import Standing
from helexa.protocol import quantisation
from helexa.protocol.routing import Wish
from helexa.protocol.work import Price

ID_DIGITS_MIN: Final = 8
"""Of a node's or operator's id in a wish."""
ASKED: Final = "(the request's policy)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One that may be asked, as far as wishes go by it."""

    standing: Standing
    price: Price
    quantisation: str = ""
    first_token_s: float = 0.0
    """Until the first token of a request that comes now; 0 where nothing was measured."""
    tokens_per_s: float = 0.0
    """Measured; else 0."""
    neuron: Standing | None = None
    """Of one that is registered here: it goes by its own ids, too. Not by its name, which it
    chose itself."""

    @property
    def is_local(self) -> bool:
        return self.neuron is not None


def forbids(wish: Wish, server: Server) -> str:
    """Why the request itself rules this one out; empty where it does not."""
    return forbids_who(wish, server) or _forbids_what(wish, server)


def forbids_who(wish: Wish, server: Server) -> str:
    """The same by who and where it is alone."""
    if not (wish.federation or server.is_local):
        return f"is not asked: no federation {ASKED}"
    if wish.only and not any(_is_meant(word, server) for word in wish.only):
        return f"is not among the only ones wanted {ASKED}"
    if any(_is_meant(word, server) for word in wish.without):
        return f"is not wanted {ASKED}"
    if wish.prefer and not wish.fallbacks and rank(wish, server) == len(wish.prefer):
        return f"is none of those preferred, and there are no fallbacks {ASKED}"
    region = server.standing.region
    if wish.regions and not _patterns(wish.regions).take(region):
        return f"is {in_region(region)}, not {', '.join(wish.regions)} {ASKED}"
    return ""


def _forbids_what(wish: Wish, server: Server) -> str:
    price, stored = server.price, server.quantisation
    for asked, most in (
        (dearest(price), wish.price_max),
        (max(price.prompt_uncached, price.prompt_cached), wish.prompt_price_max),
        (max(price.completion, price.reasoning), wish.completion_price_max),
    ):
        if most is not None and asked > most:
            return f"asks {asked} nano-credits a token, over {most} {ASKED}"
    if wish.quantisations and not quantisation.is_one_of(stored, wish.quantisations):
        wanted = ", ".join(wish.quantisations)
        return f"has {stored or 'weights of unknown quantisation'}, not {wanted} {ASKED}"
    if wish.quantisation_min and not quantisation.is_at_least(stored, wish.quantisation_min):
        least = wish.quantisation_min
        return f"has {stored or 'weights of unknown quantisation'}, under {least} {ASKED}"
    if wish.first_token_max_s is not None and not _is_quick(server, wish.first_token_max_s):
        least_s = wish.first_token_max_s
        return f"{_first(server)}, over {least_s:g} s {ASKED}"
    if wish.speed_min is not None and server.tokens_per_s < wish.speed_min:
        return f"{_speed(server)}, under {wish.speed_min:g} {ASKED}"
    return ""


def is_second_choice(wish: Wish, server: Server) -> bool:
    """Whether it misses what the request would rather have."""
    wanted_s, speed = wish.first_token_wanted_s, wish.speed_wanted
    slow = wanted_s is not None and not _is_quick(server, wanted_s)
    return slow or (speed is not None and server.tokens_per_s < speed)


def rank(wish: Wish, server: Server) -> int:
    """Its place among those that are preferred; behind all of them where it is none."""
    for place, word in enumerate(wish.prefer):
        if _is_meant(word, server):
            return place
    return len(wish.prefer)


def dearest(price: Price) -> int:
    """Nano-credits for a token of the kind that costs most."""
    return max(price.prompt_uncached, price.prompt_cached, price.completion, price.reasoning)


def first_token_s(measured_s: float, *, queue_s: float = 0.0, load_s: float | None = 0.0) -> float:
    """From now on; 0 where a part of it is not known (`load_s` None or 0 of one to be loaded)."""
    if not measured_s or load_s is None:
        return 0.0
    return measured_s + queue_s + load_s


def _is_quick(server: Server, most_s: float) -> bool:
    return 0 < server.first_token_s <= most_s


def quickness(server: Server) -> float:
    """For sorting: seconds to the first token, those that are not known last."""
    return server.first_token_s or math.inf


def _first(server: Server) -> str:
    if not server.first_token_s:
        return "has no measured time to its first token"
    return f"takes {server.first_token_s:.2f} s to its first token"


def _speed(server: Server) -> str:
    if not server.tokens_per_s:
        return "has no measured speed"
    return f"makes {server.tokens_per_s:.1f} tokens a second"


def _is_meant(word: str, server: Server) -> bool:
    if server.neuron is not None and (word == "local" or _is_id_of(word, server.neuron)):
        return True
    return word == server.standing.name or _is_id_of(word, server.standing)


def _is_id_of(word: str, who: Standing) -> bool:
    return len(word) >= ID_DIGITS_MIN and (
        who.node.startswith(word) or who.operator.startswith(word)
    )


@lru_cache(maxsize=256)
def _patterns(texts: tuple[str, ...]) -> Patterns:
    return Patterns(texts)
