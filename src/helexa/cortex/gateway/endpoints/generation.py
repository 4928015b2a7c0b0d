"""`GET /v1/generation?id=`: what became of a request, for the account that sent it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from helexa.cortex.gateway.about import About
from helexa.cortex.gateway.admission.door import Admission
from helexa.cortex.gateway.ingress import Ingress
from helexa.cortex.gateway.receipts import Receipts
from helexa.protocol.errors import GenerationUnknown, RequestRejected
from helexa.protocol.openai.generation import GenerationAnswer


def routes(receipts: Receipts, admission: Admission, *, tells_who: bool) -> Sequence[Route]:
    async def show(request: Request) -> Response:
        grant = admission.grant(request.scope, Ingress(request.scope))
        wanted = request.query_params.getlist("id")
        if len(wanted) != 1 or not wanted[0]:
            raise RequestRejected("`id` is the x-helexa-request-id of an answer.", "id")
        receipt = receipts.find(wanted[0], grant.account)
        if receipt is None:
            raise GenerationUnknown(wanted[0])
        shown = GenerationAnswer(data=receipts.shown(receipt, tells_who=tells_who))
        return Response(
            msgspec.json.encode(shown),
            media_type="application/json",
            headers={"cache-control": "no-store"},
        )

    return [Route("/v1/generation", show, methods=["GET"])]


class Told(msgspec.Struct, frozen=True):
    data: dict[str, Any]
    """OpenRouter's names where it has them, the rest under `helexa`."""


about = (
    About(
        path="/v1/generation",
        method="GET",
        does="What became of a request, for the account that sent it.",
        answers=Told,
        refuses=(GenerationUnknown,),
        query={"id": {"type": "string", "minLength": 1}},
        needs=("id",),
    ),
)


about = (
    About(
        path="/v1/generation",
        method="GET",
        does="What became of a request of the same account, by its x-helexa-request-id.",
        answers=GenerationAnswer,
        refuses=(RequestRejected, GenerationUnknown),
        query={"id": {"type": "string", "minLength": 1}},
        needs=("id",),
    ),
)
