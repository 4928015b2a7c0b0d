"""All pictures of one request: counted, looked at, fetched where that is allowed."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

import anyio
import anyio.to_thread

from helexa.neuron.serving.pictures import data_urls
from helexa.neuron.serving.pictures.fetching import Fetcher, NotFetched, Room
from helexa.neuron.serving.pictures.headers import TYPES, NotAPicture, looked_at
from helexa.neuron.serving.pictures.places import Place, exchanged, may_hold, places
from helexa.neuron.serving.pictures.urls import PictureUrl, UrlRefused
from helexa.protocol.errors import BodyTooLarge, HelexaError, ModalityUnsupported, PictureRefused
from helexa.protocol.work import Modality
from helexa.runtime.contract import Capabilities

INLINE_BYTES_MAX: Final = 256 * 1024
"""A larger body is looked at by another thread, since all other streams wait meanwhile."""
AT_ONCE_MAX: Final = 4
"""Fetched at the same time for one request."""

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureRules:
    number_max: int = 16
    """In one request."""
    bytes_max: int = 16 * 1024 * 1024
    """Of one, as it is sent."""
    pixels_max: int = 36_000_000
    """Of one, as its header says."""
    body_bytes_max: int = 32 * 1024 * 1024
    """Of a request, once its pictures are in it."""


class Pictures:
    """What a neuron does about the pictures in requests. Without a fetcher none is fetched."""

    def __init__(self, rules: PictureRules, fetcher: Fetcher | None = None) -> None:
        self._rules = rules
        self._fetcher = fetcher

    async def settled(
        self, body: bytes, model: str, offered: Capabilities, types: Collection[str] = TYPES
    ) -> bytes:
        """A chat body whose pictures are all in it, each fit to be decoded by the engine.

        `types` are those that the engine reads. Raises BodyMalformed, ModalityUnsupported or
        PictureRefused; Busy where too many are being fetched.
        """
        if not may_hold(body):
            return body
        found = places(body)
        if not found:
            return body
        if Modality.IMAGE not in offered.modalities:
            raise ModalityUnsupported(model=model, modality=Modality.IMAGE.value)
        if len(found) > self._rules.number_max:
            raise PictureRefused(
                reason=f"The request has {len(found)} pictures; at most {self._rules.number_max} "
                "are accepted here.",
                field="messages",
            )
        look = partial(self._sorted, found, types)
        remote = await _beside(look, len(body))
        if not remote:
            return body
        urls = await self._fetched(remote, len(body), types)
        return exchanged(body, urls)

    def _sorted(self, found: Sequence[Place], types: Collection[str]) -> Mapping[Place, PictureUrl]:
        """Those that are to be fetched; all others are sound. Raises PictureRefused."""
        remote = {}
        for place in found:
            if place.url[: len(data_urls.SCHEME)].lower() != data_urls.SCHEME:
                remote[place] = self._address(place)
                continue
            try:
                content = data_urls.content_of(place.url, bytes_max=self._rules.bytes_max)
                self._check(content, types)
            except NotAPicture as error:
                raise refused(place, error) from error
        return remote

    def _address(self, place: Place) -> PictureUrl:
        if self._fetcher is None:
            raise PictureRefused(
                reason="Pictures are not fetched from URLs here; send a `data:` URL.",
                field=place.field,
            )
        try:
            return self._fetcher.read(place.url)
        except UrlRefused as error:
            raise refused(place, error) from error

    def _check(self, content: bytes, types: Collection[str]) -> str:
        """Its type. Raises NotAPicture."""
        look = looked_at(content)
        if look.type not in types:
            raise NotAPicture(
                f"is a {look.type}, and what runs this model reads {', '.join(sorted(types))}"
            )
        if look.width * look.height > self._rules.pixels_max:
            raise NotAPicture(
                f"has {look.width} x {look.height} pixels, more than the "
                f"{self._rules.pixels_max} that are accepted here"
            )
        return look.type

    # --- from elsewhere

    async def _fetched(
        self, remote: Mapping[Place, PictureUrl], body_bytes: int, types: Collection[str]
    ) -> Mapping[Place, str]:
        # Base64 takes four bytes for three.
        room = Room((self._rules.body_bytes_max - body_bytes) * 3 // 4)
        by_url: dict[PictureUrl, list[Place]] = {}
        for place, url in remote.items():
            by_url.setdefault(url, []).append(place)
        found: dict[Place, str] = {}
        failed: dict[Place, HelexaError] = {}
        turn = anyio.Semaphore(AT_ONCE_MAX)

        async def one(url: PictureUrl, at: Sequence[Place]) -> None:
            async with turn:
                try:
                    inline = await self._inline(url, at, room, types)
                except HelexaError as error:
                    failed[at[0]] = error
                    tasks.cancel_scope.cancel()
                else:
                    found.update(dict.fromkeys(at, inline))

        async with anyio.create_task_group() as tasks:
            for url, at in by_url.items():
                tasks.start_soon(one, url, at, name="picture")
        for error in failed.values():
            raise error
        if sum(map(len, found.values())) + body_bytes > self._rules.body_bytes_max:
            raise BodyTooLarge(bytes_max=self._rules.body_bytes_max)
        return found

    async def _inline(
        self, url: PictureUrl, at: Sequence[Place], room: Room, types: Collection[str]
    ) -> str:
        """As a `data:` URL."""
        assert self._fetcher is not None
        try:
            content = await self._fetcher.fetch(url, room)
            kind = self._check(content, types)
        except (NotFetched, NotAPicture) as error:
            why = error.why if isinstance(error, NotFetched) else str(error)
            log.info("picture not fetched", extra={"host": url.host, "why": why})
            raise refused(at[0], error) from error
        return await _beside(partial(data_urls.url_of, content, kind), len(content))


def refused(place: Place, why: Exception) -> PictureRefused:
    return PictureRefused(reason=f"The picture in `{place.field}` {why}.", field=place.field)


async def _beside(work: partial[T], size: int) -> T:
    if size <= INLINE_BYTES_MAX:
        return work()
    return await anyio.to_thread.run_sync(work)
