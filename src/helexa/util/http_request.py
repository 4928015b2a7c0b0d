"""What a request's head may say, beyond what the parser lets pass.

The parser is strict about bytes. What it leaves open is where two readers of one
connection could part ways about where a request ends, or for whom it is; each such
request is refused, and its connection with it.
"""

from __future__ import annotations

import functools
import re
from typing import Final
from urllib.parse import unquote

import httptools

FRAMING: Final = frozenset((b"host", b"transfer-encoding", b"expect"))
HTTP_1_0: Final = "1.0"
HTTP_1_1: Final = "1.1"

# The parser knows a hundred, of RTSP, WebDAV and others. The last two are served by nobody, but
# they are HTTP's, and an app has the right words for them: 405, and what is allowed instead.
METHODS: Final = {
    one.encode(): one
    for one in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY")
}

_HOST: Final = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%\[\]:-]*\Z")


class Refused(Exception):
    """Raised inside the parser's calls; the connection answers with it and ends."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Framing:
    """Of one connection's requests, one after another: the few headers that decide more than
    the app does.
    """

    __slots__ = ("_chunked", "_expects", "_fault", "_host", "_hosts", "awaits_100")

    def __init__(self) -> None:
        self.awaits_100 = False
        """Of the request whose head `check` saw last."""
        self._host = b""
        self._hosts = 0
        self._chunked = False
        self._expects = False
        self._fault: Refused | None = None

    def note(self, name: bytes, value: bytes) -> None:
        """`name` is one of FRAMING."""
        if name == b"host":
            self._hosts += 1
            # Nearly always what the connection's last request said.
            if value != self._host:
                if _HOST.match(value) is None:
                    self._fault = Refused(400, "The Host header is no host.")
                self._host = value
        elif name == b"expect":
            self._expects = value.lower() == b"100-continue"
            if not self._expects:
                self._fault = Refused(417, "Only 100-continue can be expected.")
        else:
            # `identity, chunked`, `xchunked`, two lines: somebody in front may read any of them
            # as another end of the body.
            if self._chunked or value.strip().lower() != b"chunked":
                self._fault = Refused(501, "The only transfer encoding here is chunked.")
            self._chunked = True

    def check(self, version: str) -> None:
        """At the end of the head; the next one is another request's. Raises Refused."""
        if self._fault is not None:
            raise self._fault
        if version == HTTP_1_1:
            if self._hosts != 1:
                raise Refused(400, "A request has one Host header.")
            # Nearly always.
            self._hosts = 0
            self.awaits_100 = self._expects
            self._expects = self._chunked = False
            return
        if version != HTTP_1_0:
            raise Refused(505, "This node speaks HTTP/1.1 and HTTP/1.0.")
        if self._hosts > 1:
            raise Refused(400, "A request has one Host header.")
        if self._chunked:
            # Who speaks HTTP/1.0 in between passes the chunks on as a body.
            raise Refused(400, "HTTP/1.0 has no transfer encodings.")
        self._hosts = 0
        # Who speaks HTTP/1.0 does not know of interim answers.
        self.awaits_100 = self._expects = False


@functools.lru_cache(maxsize=256)
def parts_of(url: bytes, method: str) -> tuple[str, bytes, bytes]:
    """Path, raw path and query of a request target. Remembered, for nearly all ask for the same.

    Raises Refused, or what the parser of URLs raises.
    """
    if not method:
        raise Refused(501, "This method is not known here.")
    if b"#" in url or (url == b"*" and method != "OPTIONS"):
        raise Refused(400, "This is no request target.")
    parsed = httptools.parse_url(url)
    # `http://host` without a path; which host is asked for makes no difference here.
    raw: bytes = parsed.path or b"/"
    path = raw.decode("ascii")
    return unquote(path) if "%" in path else path, raw, parsed.query or b""
