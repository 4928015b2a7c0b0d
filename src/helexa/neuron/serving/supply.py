"""Pulling, stopping and removing models by hand, on the neuron's own API socket.

    POST    /api/v1/models/{id}/pull    {"source": "hf:org/repo", "quantisation": "Q4_K_M"}
    DELETE  /api/v1/models/{id}/pull    stop; what arrived stays for another try
    DELETE  /api/v1/models/{id}         its files, where a pull brought them

How a pull goes on is in `/api/v1/status`.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote

import msgspec

from helexa.neuron.models.supply.pulls import Pulls
from helexa.neuron.serving.replies import Handler, Reply, as_json, send_reply
from helexa.neuron.supervisor.roster import Roster
from helexa.protocol.errors import BodyMalformed, BodyTooLarge, ModelUnknown
from helexa.protocol.ids import ModelId, is_model_id
from helexa.protocol.messages import ModelSource, SourceFile
from helexa.protocol.work import ModelCapability, ModelState
from helexa.util.asgi import BodyTooBig, BodyTooSlow, ClientGone, read_body
from helexa.util.http_server import Receive, Scope, Send

BODY_BYTES_MAX: Final = 1 << 20
BODY_TIMEOUT_S: Final = 20.0
_PULL: Final = "/pull"


class _Wanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    source: str
    files: tuple[SourceFile, ...] = ()
    quantisation: str = ""
    pin: bool = False


class SupplyRoutes:
    def __init__(self, roster: Roster, pulls: Pulls) -> None:
        self._roster = roster
        self._pulls = pulls

    def at(self, method: str, rest: str) -> tuple[str, Handler] | None:
        """The one method and what answers it, for a path behind `/api/v1/models/`."""
        if not rest.endswith(_PULL):
            return "DELETE", self._remove
        if method == "DELETE":
            return "DELETE", self._cancel
        return "POST", self._pull

    async def _pull(self, scope: Scope, receive: Receive, send: Send) -> None:
        model = _model_in(scope, _PULL)
        wanted = await _body(scope, receive)
        source = ModelSource(
            source=wanted.source, files=wanted.files, quantisation=wanted.quantisation
        )
        goes_on = await self._pulls.pull(model, source, pin=wanted.pin)
        await send_reply(send, self._standing(model, status=202 if goes_on else 200))

    async def _cancel(self, scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        model = _model_in(scope, _PULL)
        await self._pulls.cancel(model)
        await send_reply(send, self._standing(model))

    async def _remove(self, scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        model = _model_in(scope)
        await self._pulls.remove(model)
        await send_reply(send, self._standing(model))

    def _standing(self, model: ModelId, *, status: int = 200) -> Reply:
        gone = ModelCapability(model=model, state=ModelState.UNLOADED)
        said = (one for one in self._roster.capabilities() if one.model == model)
        return as_json(next(said, gone), status=status)


async def _body(scope: Scope, receive: Receive) -> _Wanted:
    try:
        told = await read_body(scope, receive, bytes_max=BODY_BYTES_MAX, timeout_s=BODY_TIMEOUT_S)
        return msgspec.json.decode(told, type=_Wanted)
    except BodyTooBig as error:
        raise BodyTooLarge(bytes_max=error.bytes_max) from error
    except (BodyTooSlow, ClientGone) as error:
        raise BodyMalformed(reason="The body did not arrive.") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BodyMalformed(
            reason=f'The body is {{"source": "hf:OWNER/REPO", ...}}; this one is not: {error}.'
        ) from error


def _model_in(scope: Scope, suffix: str = "") -> ModelId:
    path: str = scope["path"]
    model = unquote(path.partition("/models/")[2].removesuffix(suffix))
    if not is_model_id(model):
        raise ModelUnknown(model=model)
    return ModelId(model)
