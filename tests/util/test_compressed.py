"""Packed bodies: whole again, never larger than allowed, and never half."""

from __future__ import annotations

import asyncio
import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.util.asgi import BodyTooBig
from helexa.util.compressed import INLINE_BYTES_MAX, CodingUnknown, Corrupt, unpacked

pytestmark = pytest.mark.anyio

MIB = 1 << 20


def bare_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


PACKERS = {
    b"gzip": gzip.compress,
    b"X-GZIP": gzip.compress,
    b"deflate": zlib.compress,
    b" Deflate ": bare_deflate,
    b"identity": bytes,
    b"": bytes,
}


async def opened(body: bytes, coding: bytes, bytes_max: int = 8 * MIB) -> bytes:
    return await unpacked(body, coding, bytes_max=bytes_max, beside=asyncio.Semaphore(1))


@pytest.mark.parametrize("coding", PACKERS, ids=repr)
@given(data=st.binary(max_size=2000), times=st.sampled_from((1, 1, 500)))
def test_what_was_packed_comes_out_as_it_was(coding: bytes, data: bytes, times: int) -> None:
    whole = data * times
    assert asyncio.run(opened(PACKERS[coding](whole), coding)) == whole


@pytest.mark.parametrize("size", [INLINE_BYTES_MAX, INLINE_BYTES_MAX + 1, 3 * MIB, 8 * MIB])
async def test_a_large_body_comes_out_whole(size: int) -> None:
    whole = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    assert await opened(gzip.compress(whole, 1), b"gzip") == whole


async def test_files_one_behind_another_are_one() -> None:
    assert await opened(gzip.compress(b"one") + gzip.compress(b"two"), b"gzip") == b"onetwo"


@pytest.mark.parametrize("coding", [b"gzip", b"deflate"])
@pytest.mark.parametrize("bytes_max", [1000, INLINE_BYTES_MAX * 2])
async def test_more_than_is_allowed_is_never_unpacked(coding: bytes, bytes_max: int) -> None:
    exactly = PACKERS[coding](b"\0" * bytes_max)
    assert len(await opened(exactly, coding, bytes_max)) == bytes_max
    for size in (bytes_max + 1, 64 * MIB):
        bomb = PACKERS[coding](b"\0" * size)
        assert len(bomb) < size // 10
        with pytest.raises(BodyTooBig):
            await opened(bomb, coding, bytes_max)


UNSOUND = {
    "nothing": (b"", b"gzip"),
    "plain": (b"{}", b"gzip"),
    "plain for deflate": (b"{}", b"deflate"),
    "cut": (gzip.compress(b"x" * 100)[:-1], b"gzip"),
    "a wrong sum": (gzip.compress(b"x" * 100)[:-9] + b"\0" * 9, b"gzip"),
    "cut deflate": (zlib.compress(b"x" * 100)[:-1], b"deflate"),
    "more behind": (gzip.compress(b"x") + b"more", b"gzip"),
    "more behind deflate": (zlib.compress(b"x") + b"more", b"deflate"),
    "a thousand empty files": (gzip.compress(b"") * 1000, b"gzip"),
}


@pytest.mark.parametrize("name", UNSOUND)
async def test_what_is_not_whole_or_not_packed_so_is_refused(name: str) -> None:
    body, coding = UNSOUND[name]
    with pytest.raises(Corrupt):
        await opened(body, coding)


@pytest.mark.parametrize(
    "coding", [b"br", b"zstd", b"gzip, gzip", b"gzip, identity", b"*", b"\xff"]
)
async def test_what_is_packed_in_another_way_is_named(coding: bytes) -> None:
    with pytest.raises(CodingUnknown):
        await opened(b"x", coding)
