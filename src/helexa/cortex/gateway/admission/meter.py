"""What one key, account or address used of its rates. Pure; the clock is passed in.

Tokens are guessed when a request comes and counted when it is over: until then it may be that
more was let in than the limit says, which the next requests then wait for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from helexa.cortex.accounts.limits import Rates
from helexa.cortex.gateway.admission.bucket import Bucket
from helexa.cortex.gateway.admission.pace import whole_s
from helexa.protocol.errors import RateLimited

METERS_MAX: Final = 65_536
"""Keys, accounts and addresses remembered; those that used least of their limits go first."""


class Meter:
    """Of one that has limits."""

    __slots__ = ("_requests", "_tokens", "_who", "rates", "under_way")

    def __init__(self, who: str, rates: Rates, now_s: float) -> None:
        """`who` begins the sentence of a refusal."""
        self._who = who
        self.rates = rates
        self.under_way = 0
        self._requests = _bucket(rates.requests_per_s, rates.requests_burst, now_s)
        self._tokens = _bucket(rates.tokens_per_minute / 60, rates.tokens_per_minute, now_s)

    def change(self, rates: Rates, now_s: float) -> None:
        """Other limits hold from now on; what is used stays used."""
        if rates == self.rates:
            return
        self.rates = rates
        self._requests = _changed(self._requests, rates.requests_per_s, rates.requests_burst, now_s)
        self._tokens = _changed(
            self._tokens, rates.tokens_per_minute / 60, rates.tokens_per_minute, now_s
        )

    def ask(self, now_s: float) -> None:
        """One more request is at the door. Raises RateLimited."""
        bucket, rates = self._requests, self.rates
        if bucket is not None and (wait_s := bucket.wait_s(1, now_s)):
            raise RateLimited(
                f"{self._who} may send {rates.requests_per_s:g} requests a second, "
                f"{rates.requests_burst} at once.",
                whole_s(wait_s),
                self.lines(now_s),
            )
        if rates.concurrent and self.under_way >= rates.concurrent:
            raise self._crowded(now_s)

    def came(self) -> None:
        """It was let past the door: it counts, whatever becomes of it."""
        if self._requests is not None:
            self._requests.take(1)

    def enter(self, tokens: float, now_s: float) -> None:
        """A request of about so many tokens. Raises RateLimited; `leave` undoes it."""
        rates, bucket = self.rates, self._tokens
        if rates.concurrent and self.under_way >= rates.concurrent:
            raise self._crowded(now_s)
        if bucket is not None and (wait_s := bucket.wait_s(tokens, now_s)):
            raise RateLimited(
                f"{self._who} may use {rates.tokens_per_minute} tokens a minute, and this request "
                f"is about {tokens:.0f}.",
                whole_s(wait_s),
                self.lines(now_s),
            )
        self.under_way += 1
        if bucket is not None:
            bucket.take(tokens)

    def leave(self, guessed: float, tokens: float) -> None:
        """It is over, and came to so many tokens."""
        self.under_way -= 1
        if self._tokens is not None:
            self._tokens.put_back(guessed - tokens)

    def share_left(self, now_s: float) -> float:
        """0..1 of the limit that is used up most."""
        buckets = (self._requests, self._tokens)
        return min((one.left(now_s) / one.most for one in buckets if one is not None), default=1.0)

    def lines(self, now_s: float) -> bytes:
        """Header lines, as OpenAI has them, for what is limited."""
        found = []
        rates = self.rates
        if self._requests is not None:
            found += _lines(b"requests", rates.requests_burst, self._requests, now_s)
        if self._tokens is not None:
            found += _lines(b"tokens", rates.tokens_per_minute, self._tokens, now_s)
        return b"".join(found)

    def _crowded(self, now_s: float) -> RateLimited:
        # When one of them ends nobody knows; it is asked again soon, and refused as cheaply.
        return RateLimited(
            f"{self._who} may have {self.rates.concurrent} requests under way.",
            1,
            self.lines(now_s),
        )


class Meters:
    """Of all that have limits, made when first needed."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._meters: dict[str, Meter] = {}

    def of(self, name: str, who: str, rates: Rates) -> Meter:
        found = self._meters.get(name)
        if found is None:
            if len(self._meters) >= METERS_MAX:
                self._forget()
            found = self._meters[name] = Meter(who, rates, self._now())
        elif found.rates is not rates:
            found.change(rates, self._now())
        return found

    def _forget(self) -> None:
        """A sixteenth of all at once. Who comes from many addresses frees no key of its limits."""
        now_s = self._now()
        idle = [
            (-one.share_left(now_s), name)
            for name, one in self._meters.items()
            if not one.under_way
        ]
        for _, name in sorted(idle)[: METERS_MAX // 16]:
            del self._meters[name]


@dataclass(slots=True)
class Metered:
    """One request on the meters that it counts on."""

    meters: tuple[Meter, ...]
    guessed: float

    def leave(self, tokens: float | None) -> None:
        """None: nobody counted, so the guess stands."""
        for one in self.meters:
            one.leave(self.guessed, self.guessed if tokens is None else tokens)


def enter_all(meters: tuple[Meter, ...], tokens: float, now_s: float) -> Metered:
    """On all of them or on none. Raises RateLimited."""
    for place, one in enumerate(meters):
        try:
            one.enter(tokens, now_s)
        except RateLimited:
            for other in meters[:place]:
                other.leave(tokens, 0.0)
            raise
    return Metered(meters, tokens)


def _bucket(per_s: float, most: float, now_s: float) -> Bucket | None:
    return Bucket(per_s, most, now_s) if per_s else None


def _changed(bucket: Bucket | None, per_s: float, most: float, now_s: float) -> Bucket | None:
    if bucket is None or not per_s:
        return _bucket(per_s, most, now_s)
    bucket.change(per_s, most, now_s)
    return bucket


def _lines(what: bytes, limit: int, bucket: Bucket, now_s: float) -> list[bytes]:
    return [
        b"x-ratelimit-limit-%s: %d\r\n" % (what, limit),
        b"x-ratelimit-remaining-%s: %d\r\n" % (what, bucket.left(now_s)),
        b"x-ratelimit-reset-%s: %s\r\n" % (what, _duration(bucket.full_in_s(now_s))),
    ]


def _duration(seconds: float) -> bytes:
    """As OpenAI writes it: `120ms`, `6.5s`, `6m0s`."""
    if seconds < 1:
        return b"%dms" % round(seconds * 1000)
    if seconds < 60:
        return b"%.3gs" % seconds
    minutes, rest = divmod(round(seconds), 60)
    return b"%dm%ds" % (minutes, rest)
