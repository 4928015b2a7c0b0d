"""`GET /v1/models` and `GET /v1/models/{id}`: what can be asked for, for whoever holds a key."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from helexa.cortex.accounts.limits import Bounds
from helexa.cortex.gateway.about import About
from helexa.cortex.gateway.admission.door import Admission
from helexa.cortex.gateway.anthropic_envelope import speaks_anthropic
from helexa.cortex.gateway.ingress import Ingress
from helexa.cortex.gateway.seams import Fleet
from helexa.protocol.anthropic import models as anthropic
from helexa.protocol.anthropic.errors import Refused
from helexa.protocol.errors import ErrorEnvelope, ModelForbidden, ModelUnknown
from helexa.protocol.ids import ModelId
from helexa.protocol.openai.models import ModelList, ModelObject, ServedBy, model_object
from helexa.protocol.routing import NODE_HEADER
from helexa.protocol.work import ModelCapability


def routes(
    *,
    fleet: Fleet,
    admission: Admission,
    queue_max: Callable[[ModelId], int],
    created: int,
    node: str = "",
    tells_who: bool = True,
) -> Sequence[Route]:
    """`created`, in Unix seconds, stands for all models; `queue_max` is what each may have.

    `node` is the cortex' own id. `tells_who`: whether a model says who serves it.
    """
    marks = {NODE_HEADER.decode(): node} if node else {}

    def shown(
        one: ModelCapability,
        owners: Mapping[ModelId, str],
        bounds: Bounds,
        served_by: tuple[ServedBy, ...] = (),
    ) -> ModelObject:
        about = msgspec.structs.replace(
            fleet.about(one.model),
            requests_max=queue_max(one.model),
            prompt_tokens_max=bounds.prompt_tokens_max,
            output_tokens_max=bounds.output_tokens_max,
            served_by=served_by,
        )
        return model_object(one, created=created, owned_by=owners.get(one.model, ""), about=about)

    async def list_models(request: Request) -> Response:
        ingress = Ingress(request.scope)
        bounds = admission.grant(request.scope, ingress).bounds
        owners = fleet.owners()
        mine = (one for one in fleet.models() if bounds.may_use(one.model))
        listed = ModelList(data=[shown(one, owners, bounds) for one in mine])
        if speaks_anthropic(request.scope):
            asked = request.query_params
            return _json(
                anthropic.page(
                    listed.data,
                    limit=asked.get("limit"),
                    after=asked.get("after_id"),
                    before=asked.get("before_id"),
                )
            )
        return Response(msgspec.json.encode(listed), media_type="application/json", headers=marks)

    async def show_model(request: Request) -> Response:
        ingress = Ingress(request.scope)
        bounds = admission.grant(request.scope, ingress).bounds
        wanted = request.path_params["model"]
        if not wanted:
            return await list_models(request)
        if not bounds.may_use(wanted):
            raise ModelForbidden(wanted)
        for one in fleet.models():
            if one.model == wanted:
                who = fleet.served_by(one.model) if tells_who else ()
                found = shown(one, fleet.owners(), bounds, who)
                return _json(anthropic.info(found) if speaks_anthropic(request.scope) else found)
        raise ModelUnknown(wanted)

    return [
        Route("/v1/models", list_models, methods=["GET"]),
        Route("/v1/models/{model:path}", show_model, methods=["GET"]),
    ]


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


_PAGE = ("limit", "after_id", "before_id")
about = (
    About(
        path="/v1/models",
        method="GET",
        does="What can be asked for. With `anthropic-version`, as Anthropic has it, in pages.",
        answers=(ModelList, anthropic.ModelPage),
        envelope=(ErrorEnvelope, Refused),
        refuses=(),
        query={name: {"type": "string"} for name in _PAGE},
    ),
    About(
        path="/v1/models/{model}",
        method="GET",
        does="One of them. With `anthropic-version`, as Anthropic has it.",
        answers=(ModelObject, anthropic.ModelInfo),
        envelope=(ErrorEnvelope, Refused),
        refuses=(ModelUnknown,),
    ),
)
