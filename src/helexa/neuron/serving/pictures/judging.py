"""All pictures of one request: counted, looked at, fetched where that is allowed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

import anyio
import anyio.to_thread

from helexa.neuron.serving.pictures.fetching import Fetcher, NotFetched, Room
from helexa.neuron.serving.pictures.urls import PictureUrl, UrlRefused
from helexa.protocol.errors import BodyTooLarge, HelexaError, ModalityUnsupported, PictureRefused
from helexa.protocol.pictures import data_urls
from helexa.protocol.pictures.headers import TYPES, Look, NotAPicture, looked_at
from helexa.protocol.pictures.places import Place, exchanged, may_hold, places, refused
from helexa.protocol.work import Modality
from helexa.runtime.contract import Capabilities

INLINE_BYTES_MAX: Final = 256 * 1024
"""A larger body is looked at by another thread, since all other streams wait meanwhile."""
AT_ONCE_MAX: Final = 4
"""Fetched at the same time for one request."""
JUDGED_AT_ONCE_MAX: Final = 2
"""Larger bodies, of all requests: each is in memory once more while its pictures are looked at."""

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureRules:
    number_max: int = 16
    """In one request."""
    bytes_max: int = 16 * 1024 * 1024
    """Of one, as it is sent."""
    pixels_max: int = 16_000_000
    """Of one, as its header says."""
    pixels_sum_max: int = 32_000_000
    """Of all in one request, each counted as often as it is there."""
    body_bytes_max: int = 32 * 1024 * 1024
    """Of a request, once its pictures are in it."""


class _Pixels:
    """That the pictures of one request may still have together."""

    def __init__(self, most: int) -> None:
        self._most = self._left = most

    def take(self, look: Look) -> None:
        """Raises NotAPicture for the first picture too many."""
        self._left -= look.width * look.height
        if self._left < 0:
            raise NotAPicture(
                f"has {look.width} x {look.height} pixels, which together with those before it are "
                f"more than the {self._most} that are accepted here in one request"
            )


class Pictures:
    """What a neuron does about the pictures in requests. Without a fetcher none is fetched."""

    def __init__(self, rules: PictureRules, fetcher: Fetcher | None = None) -> None:
        self._rules = rules
        self._fetcher = fetcher
        self._threads = anyio.CapacityLimiter(JUDGED_AT_ONCE_MAX)

    async def settled(
        self, body: bytes, model: str, offered: Capabilities, types: Collection[str] = TYPES
    ) -> bytes:
        """A chat body whose pictures are all in it, each fit to be decoded by the engine.

        `types` are those that the engine reads. Raises BodyMalformed, ModalityUnsupported or
        PictureRefused; Busy where too many are being fetched.
        """
        if not may_hold(body):
            return body
        pixels = _Pixels(self._rules.pixels_sum_max)
        look = partial(self._sorted, body, model, offered, types, pixels)
        remote, odd = await self._beside(look, len(body))
        if not remote and not odd:
            return body
        urls = {**odd, **await self._fetched(remote, len(body), types, pixels)} if remote else odd
        return await self._beside(partial(exchanged, body, urls), len(body))

    def _sorted(
        self,
        body: bytes,
        model: str,
        offered: Capabilities,
        types: Collection[str],
        pixels: _Pixels,
    ) -> tuple[Mapping[Place, PictureUrl], Mapping[Place, str]]:
        """Those that are to be fetched, and those that are to be written in another way; all
        others are sound. Raises as `settled`.
        """
        found = places(body)
        if found and Modality.IMAGE not in offered.modalities:
            at = f"messages[{found[0].message}].content[{found[0].part}]"
            raise ModalityUnsupported(model=model, modality=Modality.IMAGE.value, field=at)
        if len(found) > self._rules.number_max:
            raise PictureRefused(
                reason=f"The request has {len(found)} pictures; at most {self._rules.number_max} "
                "are accepted here.",
                field="messages",
            )
        remote, odd = {}, {}
        for place in found:
            if place.url[: len(data_urls.SCHEME)].lower() != data_urls.SCHEME:
                remote[place] = self._address(place)
                continue
            try:
                content = data_urls.content_of(place.url, bytes_max=self._rules.bytes_max)
                pixels.take(self._check(content, types))
            except NotAPicture as error:
                raise refused(place, error) from error
            if (url := data_urls.plain(place.url)) is not place.url:
                odd[place] = url
        return remote, odd

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

    def _check(self, content: bytes, types: Collection[str]) -> Look:
        """Raises NotAPicture."""
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
        return look

    # --- from elsewhere

    async def _fetched(
        self,
        remote: Mapping[Place, PictureUrl],
        body_bytes: int,
        types: Collection[str],
        pixels: _Pixels,
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
                    inline = await self._inline(url, at, room, types, pixels)
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
        self,
        url: PictureUrl,
        at: Sequence[Place],
        room: Room,
        types: Collection[str],
        pixels: _Pixels,
    ) -> str:
        """As a `data:` URL."""
        assert self._fetcher is not None
        try:
            content = await self._fetcher.fetch(url, room)
            look = await self._beside(partial(self._check, content, types), len(content))
            for _ in at:
                pixels.take(look)
        except (NotFetched, NotAPicture) as error:
            why = error.why if isinstance(error, NotFetched) else str(error)
            log.info("picture not fetched", extra={"host": url.host, "why": why})
            raise refused(at[0], error) from error
        return await self._beside(partial(data_urls.url_of, content, look.type), len(content))

    async def _beside(self, work: Callable[[], T], size: int) -> T:
        if size <= INLINE_BYTES_MAX:
            return work()
        return await anyio.to_thread.run_sync(work, limiter=self._threads)
