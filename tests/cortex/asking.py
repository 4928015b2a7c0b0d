"""Asks an application on the test's own event loop, where a test's neurons live too."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote


async def ask(
    app: Any, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    """The status and the JSON of the answer."""
    path, _, query = path.partition("?")
    raw = b"" if body is None else json.dumps(body).encode()
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": quote(path).encode(),
        "query_string": query.encode(),
        "headers": [(k.lower().encode(), v.encode()) for k, v in (headers or {}).items()],
        "scheme": "http",
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1),
        "root_path": "",
    }
    said: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": raw, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        said.append(message)

    await app(scope, receive, send)
    answer = b"".join(one.get("body", b"") for one in said)
    return int(said[0]["status"]), json.loads(answer)
