"""The gateway's numbers. What a request pays is a few dictionary look-ups and additions."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import Counter

from helexa.protocol.work import Usage
from helexa.util.metrics import Children, Metrics


class Observer:
    def __init__(self, metrics: Metrics, *, under_way: Callable[[], int]) -> None:
        requests = metrics.counter(
            "gateway_requests", "Requests answered, by endpoint and status.", ("path", "status")
        )
        self._requests: Children[Counter] = Children(requests.labels)
        self._seconds = metrics.histogram(
            "gateway_request_seconds", "From the headers to the last byte.", ("path",)
        )
        tokens = metrics.counter(
            "gateway_tokens", "Tokens of answered requests, as the engines counted.", ("kind",)
        )
        self._tokens: Children[Counter] = Children(tokens.labels)
        in_flight = metrics.gauge("gateway_in_flight", "Requests being answered now.")
        in_flight.set_function(under_way)

    def on(self, path: str) -> EndpointObserver:
        return EndpointObserver(path, self._requests, self._seconds.labels(path).observe, self)

    def tokens(self, usage: Usage) -> None:
        for kind in ("prompt_uncached", "prompt_cached", "completion", "reasoning"):
            count = getattr(usage, kind)
            if count:
                self._tokens[(kind,)].inc(count)


class EndpointObserver:
    __slots__ = ("_by_status", "_observer", "_path", "_requests", "_seconds")

    def __init__(
        self,
        path: str,
        requests: Children[Counter],
        seconds: Callable[[float], None],
        observer: Observer,
    ) -> None:
        self._path = path
        self._requests = requests
        self._seconds = seconds
        self._observer = observer
        self._by_status: dict[int, Callable[[], None]] = {}

    def finished(self, status: int, seconds: float, usage: Usage | None) -> None:
        count = self._by_status.get(status)
        if count is None:
            count = self._by_status[status] = self._requests[self._path, str(status)].inc
        count()
        self._seconds(seconds)
        if usage is not None:
            self._observer.tokens(usage)
