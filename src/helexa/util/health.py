"""The three routes that every socket of a node has: alive, ready, and the numbers."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from helexa.util.metrics import CONTENT_TYPE, Metrics


def health_routes(*, why_not_ready: Callable[[], str], metrics: Metrics) -> list[Route]:
    """`why_not_ready` answers "" when work would be served now, else the reason."""

    async def healthz(_request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_request: Request) -> Response:
        reason = why_not_ready()
        if reason:
            return JSONResponse({"status": "not ready", "reason": reason}, 503)
        return JSONResponse({"status": "ready"})

    async def numbers(_request: Request) -> Response:
        return Response(metrics.render(), headers={"content-type": CONTENT_TYPE})

    return [
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        Route("/metrics", numbers),
    ]
