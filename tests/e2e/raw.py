"""A client that hides nothing: the status, the headers and the very bytes of an answer."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit


@contextmanager
def asked(
    base_url: str,
    path: str,
    body: object = None,
    *,
    key: str | None = None,
    method: str | None = None,
    headers: dict[str, str] | None = None,
    timeout_s: float = 60.0,
) -> Iterator[http.client.HTTPResponse]:
    """One request; `body` is JSON-encoded unless it is bytes."""
    parts = urlsplit(base_url)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)
    sent = dict(headers or {})
    if key is not None:
        sent.setdefault("Authorization", f"Bearer {key}")
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    if data is not None:
        sent.setdefault("Content-Type", "application/json")
    try:
        verb = method or ("GET" if data is None else "POST")
        connection.request(verb, parts.path + path, data, sent)
        with connection.getresponse() as response:
            yield response
    finally:
        connection.close()


def ask(base_url: str, path: str, body: object = None, **more: Any) -> tuple[int, Any]:
    """Status and decoded JSON."""
    with asked(base_url, path, body, **more) as response:
        return response.status, json.loads(response.read())


def events(response: http.client.HTTPResponse) -> Iterator[str]:
    """The `data:` payloads of an SSE answer, as they come."""
    while line := response.readline():
        if line.startswith(b"data: "):
            yield line[6:].strip().decode()
