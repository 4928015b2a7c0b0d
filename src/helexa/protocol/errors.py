"""Every way helexa can say no, and what a client is told.

    HelexaError
      RequestRejected          400  the caller can fix it
        BodyMalformed          400
        PictureRefused         400  one of its pictures cannot be taken
        BodyTooLarge           413
        ModelUnknown           404
        PeerUnknown            404
        NodeUnknown            404
        EntryUnknown           404  the catalogue has none of that name
        ResponseUnknown        404  none of that id is kept for who asks
        PreviousResponseUnknown 400  the same, of one that was to be continued
        PromptTooLong          400
        KeyLimitExceeded       400  more tokens in one request than its key may ask for
        ModalityUnsupported    400
        CapabilityMissing      400
        RouteUnknown           404
        MethodNotAllowed       405
        BodyLate               408
        KeptByCatalogue        409  the catalogue says otherwise
        CatalogueConflict      409  an entry that is the file's, or that others still name
        NotContinuable         409  another's half answer that cannot be finished exactly here
        MediaTypeUnsupported   415
        CodingUnsupported      415  the body is packed in a way that is not unpacked here
        UpgradeRequired        426
      NotAllowed
        KeyInvalid             401
          KeyMissing           401
        KeyRevoked             401
        KeyExpired             401
        AdminTokenInvalid      401
        SignatureInvalid       401
        OriginForbidden        403
        ModelForbidden         403  the key's list of models lacks it
        NotLent                403  asked by a cortex that does not get this here
      Busy                     503  true now, maybe not in a moment
        QueueFull              429
        RateLimited            429  a key, an account or another operator asks more than it may
        DeadlinePassed         503  it cannot be served in the time that it gave
        ModelLoading           503
        NoCapacity             503  the model is known, nobody can serve it now
        Draining               503
      DoesNotFit               507  the model cannot be held by this neuron
      LoopDetected             508  a request came back, or passed too many nodes
      UpstreamFailed           502  a runtime or peer broke its side
        RuntimeExited          502
        RuntimeRefused         502
        RuntimeMalformed       502
        PeerLost               503
        UpstreamTimeout        504
        StreamInterrupted      502  a stream broke off, and nobody could go on from there
      InternalFault            500  we broke ours
      Relayed                       what another node said, in its words

A class fixes `status`, `kind` and `code`; an instance adds the facts. Only
`envelope` turns one into JSON, so no endpoint chooses a status code.

Not frozen: contextlib assigns `__traceback__` to exceptions passing through.
Not eq: that would make them unhashable.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

import msgspec

from helexa.protocol.work import Progress


@dataclass(eq=False)
class HelexaError(Exception):
    status: ClassVar[int] = 500
    kind: ClassVar[str] = "server_error"
    code: ClassVar[str] = "internal_error"

    @property
    def message(self) -> str:
        """Safe to show to a stranger: no paths, hosts, or tracebacks."""
        return "The request could not be completed."

    @property
    def param(self) -> str | None:
        """The request field at fault, in OpenAI's sense."""
        return None

    @property
    def retry_after_s(self) -> int | None:
        """Seconds after which another try may succeed; None where waiting does not help."""
        return None

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


@dataclass(eq=False)
class RequestRejected(HelexaError):
    status, kind, code = 400, "invalid_request_error", "bad_request"
    reason: str = "The request is not valid."
    field: str | None = None

    @property
    def message(self) -> str:
        return self.reason

    @property
    def param(self) -> str | None:
        return self.field


class BodyMalformed(RequestRejected):
    """The body is not JSON, or a field has the wrong type."""

    code = "invalid_body"


class PictureRefused(RequestRejected):
    """A picture that is none, is too large, or is not to be had."""

    code = "invalid_image"


class KeyLimitExceeded(RequestRejected):
    """One request with more tokens than its key may ask for at once."""

    code = "key_limit_exceeded"


@dataclass(eq=False)
class BodyTooLarge(HelexaError):
    status, kind, code = 413, "invalid_request_error", "body_too_large"
    bytes_max: int

    @property
    def message(self) -> str:
        return f"The request body is larger than the {self.bytes_max} bytes accepted here."


@dataclass(eq=False)
class ModelUnknown(HelexaError):
    status, kind, code = 404, "invalid_request_error", "model_not_found"
    model: str

    @property
    def message(self) -> str:
        return f"No model named {self.model[:200]!r} is served here."

    @property
    def param(self) -> str | None:
        return "model"


@dataclass(eq=False)
class PeerUnknown(HelexaError):
    """The control API was asked about a node of the mesh that nobody here knows."""

    status, kind, code = 404, "invalid_request_error", "peer_not_found"
    who: str

    @property
    def message(self) -> str:
        return f"Nobody known here is called {self.who[:80]!r}; `helexa mesh peers` lists them."

    @property
    def param(self) -> str | None:
        return "who"


@dataclass(eq=False)
class GenerationUnknown(HelexaError):
    """The gateway was asked what became of a request that it does not know, or not any more."""

    status, kind, code = 404, "invalid_request_error", "generation_not_found"
    request: str

    @property
    def message(self) -> str:
        return (
            f"No request {self.request[:80]!r} of this account is kept here: the newest ones are, "
            "by their x-helexa-request-id, until the cortex stops."
        )

    @property
    def param(self) -> str | None:
        return "id"


@dataclass(eq=False)
class NodeUnknown(HelexaError):
    """The control API was asked about a neuron that is not registered."""

    status, kind, code = 404, "invalid_request_error", "node_not_found"
    node: str

    @property
    def message(self) -> str:
        return f"No neuron is called {self.node[:80]!r} here; `helexa nodes ls` lists them."

    @property
    def param(self) -> str | None:
        return "node"


@dataclass(eq=False)
class EntryUnknown(HelexaError):
    """The catalogue has no entry for a model, whoever may hold it."""

    status, kind, code = 404, "invalid_request_error", "entry_not_found"
    model: str

    @property
    def message(self) -> str:
        return f"The catalogue has no entry for {self.model[:200]!r}."

    @property
    def param(self) -> str | None:
        return "model"


@dataclass(eq=False)
class ResponseUnknown(HelexaError):
    """No response of this id is kept for the account that asks."""

    status, kind, code = 404, "invalid_request_error", "response_not_found"
    response: str

    @property
    def message(self) -> str:
        return f"There is no response {self.response[:80]!r}: it was never kept, or no longer is."

    @property
    def param(self) -> str | None:
        return "response_id"


class PreviousResponseUnknown(ResponseUnknown):
    status, code = 400, "previous_response_not_found"

    @property
    def param(self) -> str | None:
        return "previous_response_id"


@dataclass(eq=False)
class PromptTooLong(HelexaError):
    status, kind, code = 400, "invalid_request_error", "context_length_exceeded"
    tokens: int
    tokens_max: int
    field: str = "messages"
    """Where the text stands; the neuron says it, as engines do not."""
    is_least: bool = False
    """Whether the tokens are at least so many, and nobody counted them."""

    @property
    def message(self) -> str:
        least = "at least " if self.is_least else ""
        if self.field in ("input", "documents", "query"):
            return (
                f"A text in `{self.field}` is {least}{self.tokens} tokens; this model reads "
                f"{self.tokens_max} at once."
            )
        return (
            f"The prompt is {least}{self.tokens} tokens; this model reads {self.tokens_max} "
            "tokens including its answer."
        )

    @property
    def param(self) -> str | None:
        return self.field


@dataclass(eq=False)
class ModalityUnsupported(HelexaError):
    status, kind, code = 400, "invalid_request_error", "unsupported_modality"
    model: str
    modality: str
    field: str = "messages"

    @property
    def message(self) -> str:
        return f"The model {self.model!r} does not take {self.modality} input."

    @property
    def param(self) -> str | None:
        return self.field


@dataclass(eq=False)
class CapabilityMissing(HelexaError):
    """The model is served, but not for this kind of work (embeddings asked of a chat model)."""

    status, kind, code = 400, "invalid_request_error", "unsupported_capability"
    model: str
    capability: str
    runtime: str = ""
    """What it is run by, where another runtime might offer it."""
    field: str = "model"

    @property
    def message(self) -> str:
        by = f" as {self.runtime} runs it here" if self.runtime else ""
        return f"The model {self.model!r}{by} does not offer {self.capability}."

    @property
    def param(self) -> str | None:
        return self.field


@dataclass(eq=False)
class RouteUnknown(HelexaError):
    status, kind, code = 404, "invalid_request_error", "unknown_url"
    method: str
    path: str

    @property
    def message(self) -> str:
        return f"Unknown request URL: {self.method[:16]} {self.path[:200]}."


@dataclass(eq=False)
class MethodNotAllowed(HelexaError):
    status, kind, code = 405, "invalid_request_error", "method_not_allowed"
    method: str
    allowed: str

    @property
    def message(self) -> str:
        return f"{self.method[:16]} is not allowed here; use {self.allowed}."


class BodyLate(RequestRejected):
    status, code = 408, "body_timeout"

    @property
    def message(self) -> str:
        return "The request body took too long to arrive."


class KeptByCatalogue(RequestRejected):
    """The catalogue holds something in place that a call would change."""

    status, code = 409, "kept_by_catalogue"


class CatalogueConflict(RequestRejected):
    """A change of the catalogue that something else in it does not allow."""

    status, code = 409, "catalogue_conflict"


@dataclass(eq=False)
class MediaTypeUnsupported(HelexaError):
    status, kind, code = 415, "invalid_request_error", "unsupported_media_type"
    given: str

    @property
    def message(self) -> str:
        return f"A body of {self.given[:80]!r} is not read here; send `application/json`."


@dataclass(eq=False)
class CodingUnsupported(HelexaError):
    status, kind, code = 415, "invalid_request_error", "unsupported_encoding"
    given: str
    accepted: str
    """What is unpacked, as an `accept-encoding` header says it."""

    @property
    def message(self) -> str:
        return f"A body packed as {self.given[:80]!r} is not read here; {self.accepted} are."

    @property
    def param(self) -> str | None:
        return "content-encoding"


class UpgradeRequired(HelexaError):
    """A websocket's path was asked for without becoming one."""

    status, kind, code = 426, "invalid_request_error", "upgrade_required"

    @property
    def message(self) -> str:
        return "This path is a websocket: ask for it with `upgrade: websocket`."


class NotAllowed(HelexaError):
    status, kind, code = 403, "permission_error", "not_allowed"


class KeyInvalid(NotAllowed):
    status, kind, code = 401, "authentication_error", "invalid_api_key"

    @property
    def message(self) -> str:
        return (
            "This API key is not known here. Send `Authorization: Bearer YOUR_KEY`; "
            "`helexa keys create` makes a key."
        )


class KeyMissing(KeyInvalid):
    @property
    def message(self) -> str:
        return (
            "No API key was provided. Send `Authorization: Bearer YOUR_KEY`; "
            "`helexa keys create` makes a key."
        )


class KeyRevoked(NotAllowed):
    status, kind, code = 401, "authentication_error", "revoked_api_key"

    @property
    def message(self) -> str:
        return "This API key was revoked."


class KeyExpired(NotAllowed):
    status, kind, code = 401, "authentication_error", "expired_api_key"

    @property
    def message(self) -> str:
        return "This API key has expired."


class AdminTokenInvalid(NotAllowed):
    status, kind, code = 401, "authentication_error", "invalid_admin_token"

    @property
    def message(self) -> str:
        return "This needs the node's admin token: `Authorization: Bearer ADMIN_TOKEN`."


@dataclass(eq=False)
class SignatureInvalid(NotAllowed):
    """A call of the control API that a node's key was to vouch for."""

    status, kind, code = 401, "authentication_error", "invalid_signature"
    why: str

    @property
    def message(self) -> str:
        return f"The signature of this call is not taken: {self.why}."


class OriginForbidden(NotAllowed):
    code = "origin_forbidden"

    @property
    def message(self) -> str:
        return "Requests from other web origins are not accepted here."


@dataclass(eq=False)
class ModelForbidden(NotAllowed):
    """The key may use some models, and this is none of them."""

    code = "model_not_allowed"
    model: str

    @property
    def message(self) -> str:
        return f"This key may not use the model {self.model[:200]!r}."

    @property
    def param(self) -> str | None:
        return "model"


@dataclass(eq=False)
class NotLent(NotAllowed):
    """Another cortex asked for what this one's operator does not let it have."""

    code = "not_lent"
    rule: str
    """What holds here, as the rest of a sentence: `lends no embedding (lend_classes)`."""

    @property
    def message(self) -> str:
        return f"This cortex {self.rule}."


@dataclass(eq=False)
class Busy(HelexaError):
    status, kind, code = 503, "server_error", "overloaded"
    reason: str = "Everything that could serve this is busy; try again shortly."
    wait_s: int = 1

    @property
    def message(self) -> str:
        return self.reason

    @property
    def retry_after_s(self) -> int | None:
        return self.wait_s


class QueueFull(Busy):
    status, kind, code = 429, "rate_limit_error", "queue_full"


@dataclass(eq=False)
class RateLimited(Busy):
    status, kind, code = 429, "rate_limit_error", "rate_limit_exceeded"
    lines: bytes = b""
    """Header lines that say which limit it is, and what is left of it."""


class DeadlinePassed(Busy):
    code = "deadline_passed"


@dataclass(eq=False)
class ModelLoading(Busy):
    """It is on its way to be served; `progress` goes into the envelope."""

    code = "model_loading"
    progress: Progress | None = None


class NoCapacity(Busy):
    """The model is known, and nobody can serve it now; the reason says why."""

    code = "no_capacity"


class Draining(Busy):
    code = "draining"


@dataclass(eq=False)
class LoopDetected(HelexaError):
    """A request on its way from cortex to cortex that must not go on."""

    status, kind, code = 508, "server_error", "loop_detected"
    reason: str

    @property
    def message(self) -> str:
        return self.reason


@dataclass(eq=False)
class DoesNotFit(HelexaError):
    status, kind, code = 507, "server_error", "does_not_fit"
    model: str
    needed_bytes: int
    free_bytes: int
    detail: str = ""
    reason: str = ""
    """Where it is not for want of memory: what this neuron lacks for good."""

    @property
    def message(self) -> str:
        if self.reason:
            return f"{self.model!r} cannot run on this neuron: {self.reason}."
        needed, free = self.needed_bytes / 2**20, self.free_bytes / 2**20
        return (
            f"{self.model!r} needs {needed:,.0f} MiB and {free:,.0f} MiB is free on this neuron"
            f"{': ' + self.detail if self.detail else ''}."
        )


class NotContinuable(RequestRejected):
    """A node's to a gateway; a client never sees it."""

    status, code = 409, "not_continuable"


@dataclass(eq=False)
class UpstreamFailed(HelexaError):
    status, kind, code = 502, "server_error", "upstream_failed"
    reason: str = "The node that served this request failed."

    @property
    def message(self) -> str:
        return self.reason


class RuntimeExited(UpstreamFailed):
    """The model's runtime process ended while it worked on the request, or would not start."""

    code = "runtime_exited"


class RuntimeRefused(UpstreamFailed):
    """The runtime said that it failed."""

    code = "runtime_refused"


class RuntimeMalformed(UpstreamFailed):
    """The runtime answered something that cannot be read: HTML, half a JSON, a broken stream."""

    code = "runtime_malformed"


class PeerLost(UpstreamFailed):
    status, code = 503, "peer_lost"

    @property
    def retry_after_s(self) -> int | None:
        return 2


class UpstreamTimeout(UpstreamFailed):
    status, code = 504, "upstream_timeout"


class StreamInterrupted(UpstreamFailed):
    """A client has a part of its answer, and nobody can go on from exactly there."""

    code = "stream_interrupted"


class InternalFault(HelexaError):
    """Ours. The log carries the cause under the request id."""


class Relayed(HelexaError):
    """A refusal that another node put into words; its code decides the status here too."""

    def __init__(self, code: str, message: str, retry_after_s: int | None = None) -> None:
        super().__init__()
        known = _by_code().get(code, UpstreamFailed)
        # Facts of this one answer, where the class has only a default.
        self.__dict__.update(status=known.status, kind=known.kind, code=code)
        self._message = message
        self._retry_after_s = retry_after_s

    @property
    def message(self) -> str:
        return self._message

    @property
    def retry_after_s(self) -> int | None:
        return self._retry_after_s


@functools.cache
def _by_code() -> dict[str, type[HelexaError]]:
    found: dict[str, type[HelexaError]] = {}
    waiting: list[type[HelexaError]] = [HelexaError]
    while waiting:
        one = waiting.pop()
        found.setdefault(one.code, one)
        waiting += one.__subclasses__()
    return found


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    message: str
    type: str
    param: str | None = None
    code: str | None = None
    progress: Progress | msgspec.UnsetType = msgspec.UNSET
    """Of a model that is not loaded yet."""


class ErrorEnvelope(msgspec.Struct, frozen=True):
    error: ErrorBody


def body_of(error: HelexaError) -> ErrorBody:
    progress = error.progress if isinstance(error, ModelLoading) else None
    return ErrorBody(
        message=error.message,
        type=error.kind,
        param=error.param,
        code=error.code,
        progress=msgspec.UNSET if progress is None else progress,
    )


def envelope(error: HelexaError) -> bytes:
    """The JSON body OpenAI clients expect, whichever part of helexa refused."""
    return msgspec.json.encode(ErrorEnvelope(body_of(error)))


def http_refusal(status: int, message: str) -> bytes:
    """The same body for what an HTTP server refuses before any of our code sees a request."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return msgspec.json.encode(
        ErrorEnvelope(ErrorBody(message=message, type=kind, code=f"http_{status}"))
    )


def in_band(error: HelexaError) -> bytes:
    """The SSE event that ends a stream which cannot go on: the same envelope, in `data:`."""
    return b"data: " + envelope(error) + b"\n\n"
