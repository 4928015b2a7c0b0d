"""`peer:`: files that no origin is named for; other neurons have them, and their digests say
what they are.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from helexa.neuron.models.supply.choice import choose
from helexa.neuron.models.supply.failure import SourceFailed
from helexa.neuron.models.supply.names import targets
from helexa.neuron.models.supply.piece import PieceUnavailable, content_key
from helexa.neuron.models.supply.source import Asked, Found, Means, RemoteFile, Source, checked


class Peers:
    def __init__(self, means: Means) -> None:
        self._find_size = means.find_size

    async def find(self, asked: Asked) -> Found:
        names = [file.name for file in asked.files]
        if not names or not all(file.sha256 for file in asked.files):
            raise SourceFailed("files that come from peers are declared with their SHA-256")
        files = []
        for name, target in targets(asked.model, choose(names, wanted=names)).items():
            declared = asked.declared(name)
            size = declared.size or await self._size(asked, declared.sha256.lower())
            found = RemoteFile(name=name, target=target, size=size)
            files.append(checked(found, msgspec.structs.replace(declared, size=size)))
        return Found(files=tuple(files))

    @asynccontextmanager
    async def giver(self, file: RemoteFile) -> AsyncIterator[None]:
        del file
        yield None

    async def _size(self, asked: Asked, sha256: str) -> int:
        if self._find_size is None:
            raise SourceFailed("this neuron exchanges nothing with others")
        try:
            return await self._find_size(asked.model, content_key(sha256))
        except PieceUnavailable as error:
            raise SourceFailed(error.reason, final=error.final) from error


def open_source(means: Means) -> Source:
    return Peers(means)
