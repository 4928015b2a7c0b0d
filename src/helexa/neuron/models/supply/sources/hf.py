"""`hf:OWNER/REPO[@REVISION]`: a repository of the hub that neuron.hub names.

A revision is asked for once and is from then on the commit that it was, so that one pull
never mixes two. The hub says of large files their SHA-256, of small ones git's hash.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import quote

import msgspec

from helexa.neuron.models.supply.choice import choose
from helexa.neuron.models.supply.failure import SourceFailed
from helexa.neuron.models.supply.names import targets
from helexa.neuron.models.supply.origin import HttpOrigin
from helexa.neuron.models.supply.source import Asked, Found, Means, RemoteFile, Source, checked

LISTING_BYTES_MAX: Final = 32 << 20
DEFAULT_REVISION: Final = "main"
_REPO: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}\Z", re.ASCII)
_REVISION: Final = re.compile(r"[\w./-]{1,200}\Z", re.ASCII)
_COMMIT: Final = re.compile(r"[0-9a-f]{40,64}\Z")


class _Lfs(msgspec.Struct, frozen=True):
    sha256: str = ""
    oid: str = ""
    size: int = 0


class _Sibling(msgspec.Struct, frozen=True):
    rfilename: str
    size: int | None = None
    blobId: str | None = None  # noqa: N815 - the hub's word
    lfs: _Lfs | None = None


class _Listing(msgspec.Struct, frozen=True):
    sha: str
    siblings: list[_Sibling] = []


class Hub:
    def __init__(self, means: Means) -> None:
        self._web = means.web
        self._url = means.hub.rstrip("/")
        self._token = means.hub_token

    async def find(self, asked: Asked) -> Found:
        repo, revision = _named(asked.rest)
        listing = await self._listed(repo, revision)
        siblings = {one.rfilename: one for one in listing.siblings}
        chosen = choose(
            list(siblings),
            wanted=[file.name for file in asked.files],
            quantisation=asked.quantisation,
        )
        files = tuple(
            checked(self._file(repo, listing.sha, siblings[name], target), asked.declared(name))
            for name, target in targets(asked.model, chosen).items()
        )
        return Found(files=files, revision=listing.sha)

    @asynccontextmanager
    async def giver(self, file: RemoteFile) -> AsyncIterator[HttpOrigin]:
        async with HttpOrigin.running(self._web, file, self._token) as origin:
            yield origin

    async def _listed(self, repo: str, revision: str) -> _Listing:
        url = f"{self._url}/api/models/{repo}/revision/{quote(revision, safe='')}?blobs=true"
        async with self._web.get(url, token=self._token) as answer:
            told = await answer.read(LISTING_BYTES_MAX)
        try:
            listing = msgspec.json.decode(told, type=_Listing)
        except msgspec.MsgspecError as error:
            raise SourceFailed(
                f"what the hub lists of {repo} is not understood: {error}"
            ) from error
        if not _COMMIT.match(listing.sha):
            raise SourceFailed(f"the hub does not say which commit of {repo} it lists")
        return listing

    def _file(self, repo: str, commit: str, sibling: _Sibling, target: str) -> RemoteFile:
        name, lfs = sibling.rfilename, sibling.lfs
        size = sibling.size if sibling.size is not None else (lfs.size if lfs else None)
        if size is None:
            raise SourceFailed(f"the hub does not say how large {name[:80]} is")
        return RemoteFile(
            name=name,
            target=target,
            size=size,
            sha256=(lfs.sha256 or lfs.oid).removeprefix("sha256:").lower() if lfs else "",
            git_sha1="" if lfs else (sibling.blobId or ""),
            url=f"{self._url}/{repo}/resolve/{commit}/{quote(name)}",
        )


def _named(rest: str) -> tuple[str, str]:
    repo, _, revision = rest.removeprefix("//").partition("@")
    revision = revision or DEFAULT_REVISION
    if not _REPO.match(repo) or ".." in repo:
        raise SourceFailed(f"{repo[:80]!r} names no repository; write hf:OWNER/REPO")
    if not _REVISION.match(revision) or ".." in revision:
        raise SourceFailed(f"{revision[:80]!r} names no revision")
    return repo, revision


def open_source(means: Means) -> Source:
    return Hub(means)
