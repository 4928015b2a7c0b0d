"""The gateway's numbers. What a request pays is a few look-ups and additions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from helexa.protocol.work import Usage
from helexa.util.metrics import Children, Metrics, Spread, Tally


class Finished(Protocol):
    """Told of each request of one endpoint when it is over."""

    def finished(self, status: int, outcome: str, seconds: float, usage: Usage | None) -> None: ...


class Observes(Protocol):
    def on(self, path: str) -> Finished: ...


class FederationCounts:
    """Requests between cortexes, by direction (`in`, `out`) and outcome."""

    def __init__(self, metrics: Metrics) -> None:
        self._requests = metrics.tallies(
            "federation_requests",
            "Requests between cortexes, by direction and outcome.",
            ("direction", "outcome"),
        )

    def __call__(self, direction: str, outcome: str) -> None:
        self._requests[direction, outcome].add()


class CountsContinuations(Protocol):
    """Told of streams that broke off and of what became of them."""

    def went_on(self, gap_s: float) -> None:
        """Another target goes on, so long after the stream broke off."""
        ...

    def completed(self) -> None:
        """A stream that broke off came to its end, however often it did."""
        ...

    def gave_up(self, why: str) -> None: ...


class Continuations:
    def __init__(self, metrics: Metrics) -> None:
        self._ended = metrics.tallies(
            "gateway_continuations", "Streams that broke off, by what became of them.", ("outcome",)
        )
        self._gaps = metrics.spreads(
            "gateway_continuation_gap_seconds",
            "From a stream's breaking off to the first byte of who goes on.",
            (),
        )[()]

    def went_on(self, gap_s: float) -> None:
        self._gaps.add(gap_s)

    def completed(self) -> None:
        self._ended[("completed",)].add()

    def gave_up(self, why: str) -> None:
        self._ended[(why,)].add()


class Uncounted:
    """`CountsContinuations` where nobody wants to know."""

    def went_on(self, gap_s: float) -> None: ...

    def completed(self) -> None: ...

    def gave_up(self, why: str) -> None: ...


class PeerObserver:
    """For the door for peers: their requests are not this gateway's."""

    def __init__(self, count: Callable[[str, str], None]) -> None:
        self._count = count

    def on(self, path: str) -> PeerObserver:  # noqa: ARG002 - the same for every endpoint
        return self

    def finished(self, status: int, outcome: str, seconds: float, usage: Usage | None) -> None:  # noqa: ARG002
        self._count("in", outcome)


class Observer:
    def __init__(self, metrics: Metrics, *, under_way: Callable[[], int]) -> None:
        self._requests = metrics.tallies(
            "gateway_requests", "Requests answered, by endpoint and status.", ("path", "status")
        )
        self._seconds = metrics.spreads(
            "gateway_request_seconds", "From the headers to the last byte.", ("path",)
        )
        self._tokens = metrics.tallies(
            "gateway_tokens", "Tokens of answered requests, as the engines counted.", ("kind",)
        )
        in_flight = metrics.gauge("gateway_in_flight", "Requests being answered now.")
        in_flight.set_function(under_way)

    def on(self, path: str) -> EndpointObserver:
        return EndpointObserver(path, self._requests, self._seconds[(path,)], self._tokens)


class EndpointObserver:
    """The same for one endpoint, with everything looked up that can be."""

    __slots__ = (
        "_by_status",
        "_completion",
        "_path",
        "_prompt",
        "_requests",
        "_seconds",
        "_tokens",
    )

    def __init__(
        self, path: str, requests: Children[Tally], seconds: Spread, tokens: Children[Tally]
    ) -> None:
        self._path = path
        self._requests = requests
        self._by_status: dict[int, Tally] = {}
        """Statuses are few: the parser takes none from outside 200 to 599."""
        self._seconds = seconds
        self._tokens = tokens
        self._prompt = tokens[("prompt_uncached",)]
        self._completion = tokens[("completion",)]

    def finished(self, status: int, outcome: str, seconds: float, usage: Usage | None) -> None:  # noqa: ARG002
        requests = self._by_status.get(status)
        if requests is None:
            requests = self._by_status[status] = self._requests[self._path, str(status)]
        requests.value += 1
        self._seconds.add(seconds)
        if usage is not None:
            self._prompt.value += usage.prompt_uncached
            self._completion.value += usage.completion
            if usage.prompt_cached:
                self._tokens[("prompt_cached",)].add(usage.prompt_cached)
            if usage.reasoning:
                self._tokens[("reasoning",)].add(usage.reasoning)
