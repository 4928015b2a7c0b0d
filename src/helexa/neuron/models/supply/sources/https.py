"""`https://HOST/PATH/FILE`: files of any web server; `http://` on this machine alone.

A file is asked about before it is fetched: its length, what tells it from another of the
same name, and whether it comes in parts. Without a declared digest nobody vouches for the
content but the server and its certificate.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import quote, unquote, urljoin, urlsplit

from helexa.neuron.models.supply.choice import choose, is_safe, parts_of
from helexa.neuron.models.supply.failure import SourceFailed
from helexa.neuron.models.supply.names import targets
from helexa.neuron.models.supply.origin import HttpOrigin, validator_of
from helexa.neuron.models.supply.source import Asked, Found, Means, RemoteFile, Source, checked
from helexa.neuron.models.supply.web import Answer, check_url, host_of

_TOTAL: Final = re.compile(r"bytes 0-0/(\d{1,15})\Z")


class WebServer:
    def __init__(self, means: Means) -> None:
        self._web = means.web

    async def find(self, asked: Asked) -> Found:
        check_url(asked.source)
        own = unquote(urlsplit(asked.source).path).rpartition("/")[2]
        names = [file.name for file in asked.files] or list(parts_of(own))
        if not all(is_safe(name) for name in names):
            raise SourceFailed(f"{host_of(asked.source)}: the URL's last part names no file")
        order = targets(asked.model, choose(names, wanted=names))
        files = []
        for name, target in order.items():
            # Its own URL may have a query; the others lie beside it.
            url = asked.source if name == own else urljoin(asked.source, quote(name))
            files.append(checked(await self._asked_about(name, target, url), asked.declared(name)))
        return Found(files=tuple(files))

    @asynccontextmanager
    async def giver(self, file: RemoteFile) -> AsyncIterator[HttpOrigin]:
        async with HttpOrigin.running(self._web, file) as origin:
            yield origin

    async def _asked_about(self, name: str, target: str, url: str) -> RemoteFile:
        async with self._web.get(url, {"range": "bytes=0-0"}) as answer:
            size, in_order = _size_of(answer)
            return RemoteFile(
                name=name,
                target=target,
                size=size,
                url=url,
                validator=validator_of(answer),
                in_order=in_order,
            )


def _size_of(answer: Answer) -> tuple[int, bool]:
    """And whether it comes only as a whole."""
    if answer.status == 206:
        match = _TOTAL.match(answer.headers.get("content-range", ""))
        if match is None:
            raise SourceFailed(f"{host_of(answer.url)} does not say how long the file is")
        return int(match[1]), False
    length = answer.headers.get("content-length", "")
    if not length.isdecimal() or len(length) > 15:
        # The disk is asked for room before the first byte, which takes a number.
        raise SourceFailed(f"{host_of(answer.url)} does not say how long the file is")
    return int(length), True


def open_source(means: Means) -> Source:
    return WebServer(means)
