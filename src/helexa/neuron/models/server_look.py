"""One look at a server of others: which models it has now, and what they can do.

Asked are its list and, for servers that say more elsewhere, one question for each model
that is new. What comes of it is data; when to look is the business of `served`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import anyio

from helexa.neuron.settings import ServerSettings
from helexa.protocol.errors import LoopDetected
from helexa.protocol.ids import ModelId, is_model_id
from helexa.protocol.routing import NODE_HEADER
from helexa.runtime import offers
from helexa.runtime.contract import ModelFiles
from helexa.runtime.openai_compatible import curiosity, told
from helexa.runtime.openai_compatible.address import Place
from helexa.runtime.openai_compatible.listing import Entry, ListRefused, entries
from helexa.util.upstream import Headers, Pool, UpstreamError, UpstreamUnreachable

LOOK_WITHIN_S: Final = 20.0
MODELS_MAX: Final = 1024
"""Of one server that takes no list of names; some have thousands."""
_ANSWER_WITHIN_S: Final = 10.0
_LIST_BYTES_MAX: Final = 16 * 1024 * 1024
_MORE_BYTES_MAX: Final = 4 * 1024 * 1024
_QUESTIONS_MAX: Final = 64
"""In one look; the rest is asked in the next ones."""
_JSON: Final = (b"content-type", b"application/json")


class Down(Exception):
    """It cannot be served from; says why. `is_sure` where another look would find the same."""

    def __init__(self, why: str, *, is_sure: bool, detail: str = "") -> None:
        """`detail` names hosts, and is for logs alone."""
        super().__init__(why)
        self.is_sure = is_sure
        self.detail = detail


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    name: str
    settings: ServerSettings
    place: Place | None = None
    """None where a command starts it."""
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Seen:
    models: Mapping[ModelId, ModelFiles] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    """Name here -> why it cannot be served."""


class Look:
    """Remembers what each model said of itself, so that it is asked once."""

    def __init__(self, server: Server, is_own: Callable[[str], bool] | None = None) -> None:
        """`is_own` says whether a node is one that this neuron works for."""
        self._server = server
        self._is_own = is_own or (lambda _node: False)
        self._more: dict[tuple[str, str], told.Told] = {}

    async def at(self, pool: Pool) -> Seen:
        """Raises Down."""
        assert self._server.place is not None
        with anyio.move_on_after(LOOK_WITHIN_S):
            found = await self._listed(pool, self._server.place)
            if found is None:
                return seen(self._server, None)
            wanted = [one for one in found if self._is_wanted(one)]
            await self._ask(pool, self._server.place, wanted)
            return seen(self._server, {one.called: self._whole(one) for one in wanted})
        raise Down("it does not answer in time", is_sure=False)

    async def _listed(self, pool: Pool, place: Place) -> Sequence[Entry] | None:
        """None of a server that has no list and needs none."""
        status, body = await self._asked(pool, "GET", f"{place.base}/models", b"", _LIST_BYTES_MAX)
        if status == 200:
            try:
                return entries(body)
            except ListRefused as error:
                raise Down(str(error), is_sure=True) from None
        if status in (404, 405, 501) and self._server.settings.models:
            return None
        raise Down(_words_for(status), is_sure=status < 500 or status == LoopDetected.status)

    async def _ask(self, pool: Pool, place: Place, found: Sequence[Entry]) -> None:
        known = {(one.called, one.stamp) for one in found}
        self._more = {key: said for key, said in self._more.items() if key in known}
        asked = 0
        for one in found:
            more = curiosity.question(one, place)
            if more is None or (one.called, one.stamp) in self._more or asked >= _QUESTIONS_MAX:
                continue
            asked += 1
            status, body = await self._asked(
                pool, more.method, more.path, more.body, _MORE_BYTES_MAX
            )
            if status < 500:
                self._more[one.called, one.stamp] = (
                    more.heard(body) if status == 200 else told.NOTHING
                )

    async def _asked(
        self, pool: Pool, method: str, path: str, body: bytes, bytes_max: int
    ) -> tuple[int, bytes]:
        headers = (*self._server.headers, _JSON) if body else self._server.headers
        try:
            with await pool.request(
                method, path, headers, body, first_byte_timeout_s=_ANSWER_WITHIN_S
            ) as response:
                node = response.header(NODE_HEADER)
                if node is not None and self._is_own(node.decode("latin-1")):
                    raise Down("it is a cortex of this neuron's own", is_sure=True)
                return response.status, await response.read(bytes_max)
        except UpstreamUnreachable as error:
            detail = str(error)
            doubtful = "CERTIFICATE_VERIFY_FAILED" in detail
            why = "its certificate is not trusted here" if doubtful else "it cannot be reached"
            raise Down(why, is_sure=True, detail=detail) from None
        except UpstreamError as error:
            why = "it breaks off or does not answer in time"
            raise Down(why, is_sure=False, detail=str(error)) from None

    def _whole(self, one: Entry) -> told.Told:
        return one.told.then(self._more.get((one.called, one.stamp), told.NOTHING))

    def _is_wanted(self, one: Entry) -> bool:
        names = self._server.settings.models
        return not names or one.called in names.values() or _untagged(one.called) in names.values()


def seen(server: Server, listed: Mapping[str, told.Told] | None) -> Seen:
    """`listed` by the names there; without, the configured names are taken as they are."""
    settings = server.settings
    models: dict[ModelId, ModelFiles] = {}
    failed: dict[str, str] = {}
    found = listed or {}
    untagged = {_untagged(called): called for called in found}
    names = settings.models or {
        called: called for called, one in found.items() if not one.is_borrowed
    }
    offered = offers.read(settings.offers)
    for here, there in names.items():
        called = there if there in found else untagged.get(there, there)
        said = found.get(called, told.NOTHING)
        if not is_model_id(here):
            continue
        if listed is not None and called not in found:
            failed[here] = f"the server {server.name} has no model {there!r}"
        elif said.unfit:
            failed[here] = f"the server {server.name}: {said.unfit}"
        elif len(models) < MODELS_MAX:
            models[ModelId(here)] = told.files_of(
                ModelId(here),
                server=server.name,
                called=called,
                told=told.with_context(said, settings.context_tokens or 0),
                offers=offered,
            )
    return Seen(models, failed)


def unseen(server: Server, before: Seen, why: str) -> Seen:
    """As it is while the server is down: what was configured or known, with the reason."""
    names = (*server.settings.models, *before.models, *before.failed)
    return Seen({}, dict.fromkeys(names, f"the server {server.name}: {why}"))


def _untagged(called: str) -> str:
    """Ollama's list says `llama3.2:latest` of what everybody calls `llama3.2`."""
    return called.removesuffix(":latest")


def _words_for(status: int) -> str:
    match status:
        case 401 | 403:
            return f"it does not take this neuron's key ({status})"
        case 404:
            return "it lists no models (404); its URL goes up to before /chat/completions"
        case LoopDetected.status:
            return "it leads back to this neuron"
        case _ if 300 <= status < 400:
            return f"it sends elsewhere ({status}); write the URL that it sends to"
        case _:
            return f"it answers /models with {status}"
