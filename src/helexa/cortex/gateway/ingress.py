"""What the gateway reads of a request before its body: who asks, and under which names."""

from __future__ import annotations

import re
from typing import Final

from helexa.cortex.orchestrator.federation.wish import parse
from helexa.protocol.errors import KeyInvalid, KeyMissing, MediaTypeUnsupported, RequestRejected
from helexa.protocol.ids import RequestId, new_request_id
from helexa.protocol.routing import Wish
from helexa.protocol.trace import PARENT_HEADER, STATE_HEADER, passed_on
from helexa.protocol.via import VIA_HEADER, is_sound
from helexa.protocol.work import WorkloadClass
from helexa.util.asgi import Scope
from helexa.util.upstream import Headers

MAX_WAIT_MOST_S: Final = 86_400
_NOBODYS: Final = frozenset(
    (
        b"host",
        b"user-agent",
        b"accept",
        b"accept-encoding",
        b"accept-language",
        b"connection",
        b"content-length",
        b"x-stainless-arch",
        b"x-stainless-async",
        b"x-stainless-lang",
        b"x-stainless-os",
        b"x-stainless-package-version",
        b"x-stainless-read-timeout",
        b"x-stainless-retry-count",
        b"x-stainless-runtime",
        b"x-stainless-runtime-version",
    )
)
"""What nearly every client sends and nobody here reads."""
_JSON: Final = frozenset((b"application/json", b"application/json; charset=utf-8"))
_MAYBE_JSON: Final = re.compile(
    rb"(?:[a-z0-9.-]+/(?:[a-z0-9.-]+\+)?json|text/plain|application/octet-stream)\s*(?:;.*)?\Z",
    re.IGNORECASE,
)
"""What clients call JSON, or do not call anything."""
_CHARSET: Final = re.compile(rb";\s*charset\s*=\s*\"?([^\s;\"]*)", re.IGNORECASE)
_UTF_8: Final = frozenset((b"utf-8", b"utf8", b"us-ascii", b"ascii"))
_WORKLOADS: Final = frozenset(one.value.encode() for one in WorkloadClass)
_SANE_ID: Final = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}\Z")

_KEPT: Final = {
    b"x-helexa-session": "session",
    b"x-helexa-workload": "workload",
    b"x-helexa-max-wait": "max_wait",
    b"x-helexa-resume": "resume",
    b"x-helexa-deadline": "deadline",
    b"x-helexa-priority": "priority",
    b"x-helexa-quiet": "quiet",
    PARENT_HEADER: "traceparent",
    STATE_HEADER: "tracestate",
}
"""Headers that are kept as they are, the last of several, and read by who needs them."""


class Ingress:
    """The headers that matter, found in one pass; a general map costs more than its use here."""

    # Of the class, since few requests have any of them.
    secret = b""
    is_plain = True
    """Nothing that `asked` looks at was sent; as nearly always."""
    media_type = b""
    """Of the body, where it does not plainly say that it is JSON."""
    coding = b""
    policy = b""
    session = b""
    workload = b""
    max_wait = b""
    resume = b""
    deadline = b""
    priority = b""
    has_key = False
    via = b""
    quiet = b""
    traceparent = b""
    tracestate = b""
    body_bytes = 0
    """What is taken for the body from the gateway's budget, to be given back."""

    def __init__(self, scope: Scope) -> None:
        shown = b""
        for name, value in scope["headers"]:
            if name in _NOBODYS:
                continue
            if name == b"content-type":
                if value not in _JSON:
                    self.media_type = value
                    self.is_plain = False
            elif name == b"authorization":
                self.has_key = True
                if value[:7].lower() == b"bearer ":
                    self.secret = value[7:].strip()
            elif name == b"x-api-key":
                self.has_key = True
                self.secret = self.secret or value
            elif name == b"x-request-id":
                if _SANE_ID.match(value):
                    shown = value
            elif name == b"content-encoding":
                # Two lines are two codings, one on the other.
                self.coding = b"%s, %s" % (self.coding, value) if self.coding else value
            elif name == VIA_HEADER:
                # Through which neurons it came, for the next one to see whether it is among them.
                self.via = value if is_sound(value) else b""
            elif name == b"x-helexa-policy":
                # Of two headers both hold, as if they were one; a part in both is refused.
                self.policy = b"%s;%s" % (self.policy, value) if self.policy else value or b" "
            elif (kept_as := _KEPT.get(name)) is not None:
                setattr(self, kept_as, value)
                self.is_plain = False
        self.request_id: RequestId = new_request_id()
        ours = self.request_id.encode()
        self.id_header = (b"x-helexa-request-id", ours)
        self.id_lines = b"x-request-id: %s\r\nx-helexa-request-id: %s\r\n" % (shown or ours, ours)

    def wish(self) -> Wish | None:
        """What the request asks of its way. Raises RequestRejected for what cannot be read."""
        return parse(self.policy) if self.policy else None

    def trace(self) -> Headers:
        """Headers for whom this is passed on to; usually none."""
        return passed_on(self.traceparent, self.tracestate) if self.traceparent else ()

    def asked(self) -> tuple[float | None, bool]:
        """How long it may wait for its model in seconds, and whether it `resumes`; all else that
        a client may say in headers is checked.

        Raises RequestRejected and MediaTypeUnsupported.
        """
        if self.media_type:
            self._check_media_type()
        if self.workload and self.workload not in _WORKLOADS:
            raise RequestRejected("x-helexa-workload is no class of work.", "x-helexa-workload")
        max_wait_s, deadline_s = self.max_wait_s(), self.deadline_s()
        if deadline_s is not None:
            # Nobody waits longer for a model than for the answer.
            max_wait_s = deadline_s if max_wait_s is None else min(max_wait_s, deadline_s)
        return max_wait_s, self.resumes()

    def max_wait_s(self) -> float | None:
        """How long the request may wait for its turn and its model, where it says so.

        Raises RequestRejected.
        """
        return _seconds("x-helexa-max-wait", self.max_wait) if self.max_wait else None

    def deadline_s(self) -> float | None:
        """Within how long the answer has to be complete to be of use. Raises RequestRejected."""
        return _seconds("x-helexa-deadline", self.deadline) if self.deadline else None

    def _check_media_type(self) -> None:
        """Raises MediaTypeUnsupported for a body that says that it is something else than JSON."""
        said = self.media_type
        charset = _CHARSET.search(said)
        if not _MAYBE_JSON.match(said) or (charset and charset[1].lower() not in _UTF_8):
            raise MediaTypeUnsupported(said.decode("latin-1"))

    def resumes(self) -> bool:
        """Whether others may go on with its stream when it breaks off. Raises RequestRejected."""
        if self.resume in (b"", b"on"):
            return True
        if self.resume == b"off":
            return False
        raise RequestRejected("x-helexa-resume is `on` or `off`.", "x-helexa-resume")

    def key(self) -> str:
        """The API key. Raises KeyMissing, or KeyInvalid when it cannot be one."""
        if not self.secret:
            raise KeyMissing
        if not self.secret.isascii():
            raise KeyInvalid
        return self.secret.decode("ascii")


def _seconds(name: str, text: bytes) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    # Not a number is in no range either.
    if not 0 <= seconds <= MAX_WAIT_MOST_S:
        raise RequestRejected(f"{name} is a number of seconds from 0 to {MAX_WAIT_MOST_S}.", name)
    return seconds
