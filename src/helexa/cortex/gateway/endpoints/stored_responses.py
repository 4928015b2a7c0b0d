"""`/v1/responses/{id}` and below: what is kept of responses, for the account that has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from helexa.cortex.gateway.about import About
from helexa.cortex.gateway.admission.door import Admission
from helexa.cortex.gateway.ingress import Ingress
from helexa.cortex.gateway.shelf import Shelf
from helexa.cortex.gateway.translation.responses_asked import INCLUDES
from helexa.cortex.gateway.translation.stored import PAGE_DEFAULT, PAGE_MAX, listed, page
from helexa.cortex.store.kept import Kept
from helexa.protocol.errors import RequestRejected, ResponseUnknown, RouteUnknown
from helexa.protocol.openai.responses import Deleted, ItemList
from helexa.protocol.openai.responses import Response as Answer

PATH: Final = "/v1/responses/{response_id}"


def routes(*, shelf: Shelf | None, admission: Admission) -> Sequence[Route]:
    def account_of(request: Request) -> str:
        return admission.grant(request.scope, Ingress(request.scope)).account

    async def found(request: Request) -> Kept:
        account, response_id = account_of(request), request.path_params["response_id"]
        kept = await shelf.one(account, response_id) if shelf is not None else None
        if kept is None:
            raise ResponseUnknown(response_id)
        return kept

    async def show(request: Request) -> Response:
        kept = await found(request)
        for name in ("stream", "starting_after"):
            if request.query_params.get(name, "false") != "false":
                raise RequestRejected(f"`{name}`: a kept response is not streamed again.", name)
        return Response(kept.response, media_type="application/json")

    async def remove(request: Request) -> Response:
        account, response_id = account_of(request), request.path_params["response_id"]
        if shelf is None or not await shelf.remove(account, response_id):
            raise ResponseUnknown(response_id)
        return _json(Deleted(id=response_id))

    async def list_items(request: Request) -> Response:
        account, response_id = account_of(request), request.path_params["response_id"]
        order = request.query_params.get("order", "desc")
        if order not in ("asc", "desc"):
            raise RequestRejected("`order` is `asc` or `desc`.", "order")
        _check_include(request)
        limit, after = _limit(request), request.query_params.get("after", "")
        line = await shelf.line(account, response_id) if shelf is not None else ()
        if not line:
            raise ResponseUnknown(response_id)
        items = list(listed(line))
        return _json(page(items, is_rising=order == "asc", after=after, limit=limit))

    async def cancel(request: Request) -> Response:
        await found(request)
        raise RequestRejected("Only a response in the background can be cancelled.", "response_id")

    async def stored(request: Request) -> Response:
        return await {"DELETE": remove, "POST": _unknown}.get(request.method, show)(request)

    return [
        # One route, so that a refused method is told of all of them.
        Route(PATH, stored, methods=["GET", "DELETE", "POST"]),
        Route(f"{PATH}/input_items", list_items, methods=["GET"]),
        Route(f"{PATH}/cancel", cancel, methods=["POST"]),
    ]


async def _unknown(request: Request) -> Response:
    # Not a method that the path lacks: OpenAI has other calls there.
    raise RouteUnknown(request.method, request.url.path)


def _limit(request: Request) -> int:
    given = request.query_params.get("limit", str(PAGE_DEFAULT))
    is_small = len(given) <= len(str(PAGE_MAX)) and given.isdecimal()
    if not is_small or not 1 <= int(given) <= PAGE_MAX:
        raise RequestRejected(f"`limit` is 1 to {PAGE_MAX}.", "limit")
    return int(given)


def _check_include(request: Request) -> None:
    # Written as OpenAI's own clients write a list, too.
    for name in ("include", "include[]"):
        for word in request.query_params.getlist(name):
            if word not in INCLUDES:
                raise RequestRejected(f"`include` does not know {word[:60]!r}.", "include")


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


about = (
    About(
        path=PATH,
        method="GET",
        does="A response that is kept.",
        answers=Answer,
        refuses=(ResponseUnknown,),
        query={"stream": {"enum": ["false"]}},
    ),
    About(
        path=PATH,
        method="DELETE",
        does="Forget a response.",
        answers=Deleted,
        refuses=(ResponseUnknown,),
    ),
    About(
        path=PATH,
        does="Refused: OpenAI has calls of other names there, and this gateway has none of them.",
        refuses=(RouteUnknown,),
    ),
    About(
        path=f"{PATH}/input_items",
        method="GET",
        does="What led to a kept response, in pages.",
        answers=ItemList,
        refuses=(ResponseUnknown,),
        query={
            "order": {"enum": ["asc", "desc"]},
            "limit": {"type": "integer", "minimum": 1, "maximum": PAGE_MAX},
            "after": {"type": "string"},
            "include": {"type": "array", "items": {"enum": sorted(INCLUDES)}},
        },
    ),
    About(
        path=f"{PATH}/cancel",
        does="Refused: nothing runs in the background.",
        refuses=(ResponseUnknown,),
    ),
)
