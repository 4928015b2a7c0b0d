"""The way of one request for work, from its headers to its last byte.

    headers -> door -> body -> head -> class -> route -> ticket -> dispatch -> settle

An endpoint file says what is particular to it, a door who may come in and how much;
this is what they share. It is raw ASGI because a request object would cost more than
everything done here.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final, Generic

import msgspec

from helexa.cortex.gateway.answer import Answer
from helexa.cortex.gateway.endpoint import Bench, H, WorkEndpoint
from helexa.cortex.gateway.ingress import Ingress
from helexa.cortex.gateway.job import HandedOver, Job
from helexa.cortex.gateway.seams import Ticket
from helexa.cortex.gateway.surface import TranslatedAnswer
from helexa.cortex.orchestrator.federation.wish_bodies import asked, first_model
from helexa.protocol.errors import (
    BodyLate,
    BodyMalformed,
    BodyTooLarge,
    Busy,
    CodingUnsupported,
    Draining,
    HelexaError,
    InternalFault,
    MethodNotAllowed,
)
from helexa.protocol.ids import ModelId
from helexa.protocol.openai import text
from helexa.protocol.openai.body import prompt_heads, typed, with_end
from helexa.protocol.openai.requests import Generation
from helexa.protocol.routing import RouteHints
from helexa.protocol.trace import in_logs
from helexa.protocol.via import VIA_HEADER
from helexa.protocol.work import Usage
from helexa.util.asgi import (
    BodyTooBig,
    BodyTooSlow,
    ClientGone,
    Receive,
    Scope,
    Send,
    UntilDisconnect,
    cycle_of,
    read_body,
)
from helexa.util.budget import OverBudget
from helexa.util.compressed import CODINGS, CodingUnknown, Corrupt, unpacked
from helexa.util.upstream import Headers

JUDGED_AT_ONCE_MAX: Final = 2
"""Of larger bodies: each is in memory once more meanwhile."""
SESSION_CHARS_MAX: Final = 256
NO_ROOM: Final = (
    "The bodies of the requests under way leave no room for this one; try again shortly."
)
CLIENT_GONE_STATUS: Final = 499
"""nginx's number for it; only metrics see it."""

# Beside the request's own id, what every neuron is told.
_JSON: Final = (b"content-type", b"application/json")
_COUNTS: Final = (b"x-helexa-usage", b"1")

log = logging.getLogger(__name__)


class WorkApp(Generic[H]):
    """The ASGI app of one endpoint behind one door."""

    def __init__(self, endpoint: WorkEndpoint[H], bench: Bench) -> None:
        self._endpoint = endpoint
        self._bench = bench
        self._decoder = msgspec.json.Decoder(endpoint.head)
        self._path = endpoint.upstream_path or endpoint.path
        self._observer = bench.observer.on(endpoint.path)
        self._beside = asyncio.Semaphore(JUDGED_AT_ONCE_MAX)
        self._unpacking = asyncio.Semaphore(JUDGED_AT_ONCE_MAX)

    async def __call__(self, scope: Scope, receive: Receive, _send: Send) -> None:
        now, surface = self._bench.now, self._endpoint.surface
        began_s = now()
        ingress = Ingress(scope)
        kind = Answer if surface is None else TranslatedAnswer
        envelope = self._endpoint.envelope.of(ingress.request_id)
        answer = kind(cycle_of(scope), ingress.id_lines + envelope.id_line, envelope)
        usage: Usage | None = None
        status = 0
        with UntilDisconnect(scope) as client:
            try:
                usage = await self._serve(scope, receive, ingress, answer, began_s)
            except ClientGone:
                status = CLIENT_GONE_STATUS
            except HelexaError as error:
                await answer.fail(error)
            except asyncio.CancelledError:
                if not client.gone:
                    # The node is stopping and the grace is over: say so, then go.
                    await answer.fail(Draining("This node is shutting down."))
                raise
            except Exception:
                about = {"request": ingress.request_id, **in_logs(ingress.traceparent)}
                log.exception("gateway_fault", extra=about)
                await answer.fail(InternalFault())
            finally:
                answer.close()
                self._bench.bodies.give(ingress.body_bytes)
        if client.gone:
            status = CLIENT_GONE_STATUS
        outcome = "client_gone" if status == CLIENT_GONE_STATUS else answer.outcome
        self._observer.finished(status or answer.status, outcome, now() - began_s, usage)

    async def _serve(
        self, scope: Scope, receive: Receive, ingress: Ingress, answer: Answer, began_s: float
    ) -> Usage | None:
        if scope["method"] != "POST":
            raise MethodNotAllowed(scope["method"], "POST")
        bench, endpoint = self._bench, self._endpoint
        visit = bench.door.enter(scope, ingress)
        wish = ingress.wish()
        max_wait_s, resumes = (None, True) if ingress.is_plain else ingress.asked()
        body = await self._body(scope, receive, ingress)
        if endpoint.surface is not None and isinstance(answer, TranslatedAnswer):
            answer.speech = await endpoint.surface.open(body, visit, ingress)
            body = self._held(ingress, answer.speech.body)
        head = typed(self._decoder, body)
        endpoint.check(head)
        if head.asks_way and visit.hops_left is None:
            # Of a request that another cortex passes on, that one has read it.
            wish = asked(head, wish)
        workload = endpoint.classify(head, body, ingress)
        session = ingress.session.decode("latin-1") or head.prompt_cache_key or head.user or ""
        model = visit.model or ModelId(head.model)
        if not model:
            model, wish = first_model(wish)
        bench.door.consider(visit, model, workload)
        if wish is not None:
            for other in wish.models:
                bench.door.consider(visit, other, workload)
        handed_over = head if isinstance(head, HandedOver) else None
        hints = RouteHints(
            session=session[:SESSION_CHARS_MAX],
            request=ingress.request_id,
            prompt_bytes=len(body),
            prefixes=self._prefixes(body, model) if endpoint.prompt else (),
            digest=handed_over.digest if handed_over is not None else "",
            wish=wish,
            path=visit.path,
            hops_left=visit.hops_left,
        )
        decision = bench.fleet.route(workload, model, hints)
        # Who cannot see says so first. A model is loaded only by what comes after.
        if endpoint.judge is not None and endpoint.judge.doubts(body):
            await endpoint.judge.hear(body, self._beside)
        ticket = Ticket(
            ingress.request_id,
            visit,
            model,
            workload,
            began_s,
            head,
            len(body),
            ingress,
            wish=wish,
            terms=bench.fleet.terms_version,
        )
        generation = head if isinstance(head, Generation) else None
        job = Job(
            ticket,
            self._path,
            body,
            _headers(ingress),
            generation is not None and bool(generation.stream),
            visit.shows_usage or (generation is not None and generation.wants_usage),
            hints,
            ModelId(head.model),
            max_wait_s,
            resumes and (wish is None or wish.resume),
            handed_over,
            handed_over is not None,
        )
        turn = bench.door.admit(ticket, decision)
        outcome = "client_gone"
        try:
            answer.lines = bench.door.lines(ticket)
            if ticket.output_tokens_max:
                job.body = with_end(job.body, ticket.output_tokens_max)
            if turn is not None:
                decision = await bench.dispatch.until_turn(turn, job, decision, answer)
            await bench.dispatch.serve(job, decision, answer)
            outcome = answer.outcome
        except HelexaError as error:
            outcome = error.code
            raise
        finally:
            bench.door.leave(ticket)
            if bench.receipts is not None:
                bench.receipts.keep(ticket, endpoint.path, outcome, stream=job.stream)
        return ticket.usage

    def _prefixes(self, body: bytes, model: ModelId) -> tuple[int, ...]:
        known = self._bench.fleet.wants_prefixes(model)
        return prompt_heads(body, self._endpoint.prompt) if known else ()

    def _held(self, ingress: Ingress, body: bytes) -> bytes:
        """What came of the body, which is in memory beside it. Raises Busy without room for it."""
        try:
            self._bench.bodies.take(len(body))
        except OverBudget:
            raise Busy(NO_ROOM) from None
        ingress.body_bytes += len(body)
        return body

    async def _body(self, scope: Scope, receive: Receive, ingress: Ingress) -> bytes:
        bench, coding = self._bench, ingress.coding
        try:
            body = await read_body(
                scope,
                receive,
                bytes_max=bench.body_bytes_max,
                timeout_s=bench.body_timeout_s,
                budget=bench.bodies,
            )
            ingress.body_bytes = len(body)
            if coding:
                whole = await unpacked(
                    body, coding, bytes_max=bench.body_bytes_max, beside=self._unpacking
                )
                body = self._held(ingress, whole)
        except OverBudget:
            raise Busy(NO_ROOM) from None
        except BodyTooBig as excess:
            raise BodyTooLarge(excess.bytes_max) from None
        except BodyTooSlow:
            raise BodyLate from None
        except CodingUnknown as unknown:
            raise CodingUnsupported(unknown.coding, ", ".join(CODINGS)) from None
        except Corrupt as corrupt:
            raise BodyMalformed(reason=f"The packed body cannot be unpacked: {corrupt}.") from None
        text.check(body)
        return body


def _headers(ingress: Ingress) -> Headers:
    """For whoever serves it."""
    headers = (_JSON, ingress.id_header, _COUNTS)
    if not (ingress.via or ingress.traceparent):
        return headers  # Nearly always.
    via = ((VIA_HEADER, ingress.via),) if ingress.via else ()
    return (*headers, *via, *ingress.trace())
