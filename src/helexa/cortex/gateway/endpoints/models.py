"""`GET /v1/models` and `GET /v1/models/{id}`: what can be asked for, for whoever holds a key."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from helexa.cortex.gateway.admission import Admission
from helexa.cortex.gateway.ingress import Ingress
from helexa.cortex.gateway.seams import Fleet
from helexa.protocol.errors import ModelUnknown
from helexa.protocol.openai.models import ModelList, model_object


def routes(*, fleet: Fleet, admission: Admission, created: int) -> Sequence[Route]:
    """`created`, in Unix seconds, stands for all models."""

    async def list_models(request: Request) -> Response:
        ingress = Ingress(request.scope)
        admission.check(ingress.key())
        owners = fleet.owners()
        found = [
            model_object(one, created=created, owned_by=owners.get(one.model, ""))
            for one in fleet.models()
        ]
        return _json(ModelList(data=found))

    async def show_model(request: Request) -> Response:
        ingress = Ingress(request.scope)
        admission.check(ingress.key())
        wanted = request.path_params["model"]
        for one in fleet.models():
            if one.model == wanted:
                owned_by = fleet.owners().get(one.model, "")
                return _json(model_object(one, created=created, owned_by=owned_by))
        raise ModelUnknown(wanted)

    return [
        Route("/v1/models", list_models, methods=["GET"]),
        Route("/v1/models/{model:path}", show_model, methods=["GET"]),
    ]


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
