"""What a GGUF file says about itself, read with every length in doubt.

The file may be truncated, hostile or not a GGUF at all, and it is read by the
process that serves everybody: nothing is allocated on the word of a length
field, nothing is mapped (a mapped file that somebody truncates kills the
reader), and anything wrong is one exception with the reason.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias

Scalar: TypeAlias = int | float | bool | str

HEADER_BYTES_MAX: Final = 256 * 1024 * 1024
"""Metadata with a vocabulary of a million long tokens is a tenth of this."""
FIELDS_MAX: Final = 65_536
TENSORS_MAX: Final = 1_000_000
KEY_BYTES_MAX: Final = 65_535
TEXT_BYTES_MAX: Final = 16 * 1024 * 1024
SMALL_ARRAY_MAX: Final = 4_096
"""Arrays up to this are kept (heads per layer); longer ones are vocabularies, and skipped."""
DIMENSIONS_MAX: Final = 4
TOKENS: Final = "tokenizer.ggml.tokens"
BYTE_ALPHABET: Final = frozenset(
    chr(one).encode()
    for one in (*range(33, 127), *range(161, 173), *range(174, 256), *range(256, 324))
)
"""The letters by which byte-level byte pairs write the 256 bytes."""
_SHORT_BYTES: Final = 2

_CHUNK: Final = 1 << 20
_DEFAULT_ALIGNMENT: Final = 32
_STRING: Final = 8
_ARRAY: Final = 9
_SCALARS: Final = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?",
    10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip

# Bytes of one block and elements in it, by ggml tensor type; from ggml's own table.
_BLOCKS: Final = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34),
    9: (32, 40), 10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210),
    15: (256, 292), 16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18),
    21: (256, 110), 22: (256, 82), 23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8),
    28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54), 35: (256, 66), 39: (32, 17),
    40: (64, 36), 41: (128, 18),
}  # fmt: skip


class ModelUnreadable(Exception):
    """Not a model file that can be used; says why, fit for an operator."""


@dataclass(frozen=True, slots=True)
class Matrices:
    """Of the tensors with rows and columns: bytes by ggml's number of their type."""

    by_type: dict[int, int] = field(default_factory=dict)
    """All but the embedding of tokens, which is looked up and not multiplied."""
    embedding_type: int = 0
    embedding_bytes: int = 0
    vocabulary: int = 0
    """Rows of that embedding."""
    has_output: bool = False
    """Without one the embedding is the output, too."""

    def __add__(self, other: Matrices) -> Matrices:
        """As if both were in one file: a model comes in parts."""
        by_type = dict(self.by_type)
        for kind, size in other.by_type.items():
            by_type[kind] = by_type.get(kind, 0) + size
        embedded = self if self.vocabulary else other
        return Matrices(
            by_type,
            embedded.embedding_type,
            embedded.embedding_bytes,
            embedded.vocabulary,
            self.has_output or other.has_output,
        )


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Of the texts of its tokens."""

    longest_bytes: int
    has_bytes: bool
    """Each byte has a token in the alphabet of byte pairs; where one has none, it is dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """`fields` holds scalars, texts and small arrays. `parameters` counts tensor elements."""

    version: int
    fields: dict[str, Scalar | list[Scalar]] = field(default_factory=dict)
    tensors: int = 0
    parameters: int = 0
    file_bytes: int = 0
    matrices: Matrices = field(default_factory=Matrices)
    vocabulary: Vocabulary | None = None

    def text(self, key: str) -> str:
        value = self.fields.get(key)
        return value if isinstance(value, str) else ""

    def number(self, key: str) -> int:
        """0 where it is absent or no whole number."""
        value = self.fields.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else 0

    def numbers(self, key: str, count: int) -> list[int]:
        """A value per layer: an array as it is, a number repeated `count` times."""
        value = self.fields.get(key)
        if isinstance(value, list):
            return [item for item in value if isinstance(item, int)]
        return [self.number(key)] * count


def read(path: Path) -> Metadata:
    """Raises ModelUnreadable."""
    try:
        with path.open("rb", buffering=0) as file:
            return _metadata(_Cursor(file, os.fstat(file.fileno()).st_size))
    except OSError as error:
        raise ModelUnreadable(f"cannot be read: {error.strerror or error}") from error


def _metadata(cursor: _Cursor) -> Metadata:
    version = _version(cursor)
    tensors, count = int(cursor.scalar("<Q")), int(cursor.scalar("<Q"))
    if tensors > TENSORS_MAX or count > FIELDS_MAX:
        raise ModelUnreadable(f"it claims {tensors} tensors and {count} metadata fields")
    fields: dict[str, Scalar | list[Scalar]] = {}
    vocabulary = None
    for _ in range(count):
        key = cursor.text(KEY_BYTES_MAX)
        kind = int(cursor.scalar("<I"))
        if key == TOKENS and kind == _ARRAY:
            vocabulary = _vocabulary(cursor)
            continue
        value = _value(cursor, kind)
        if value is not None:
            fields[key] = value
    parameters, data_bytes, matrices = _tensors(cursor, tensors)
    alignment = fields.get("general.alignment", _DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or not 0 < alignment <= 1 << 20:
        raise ModelUnreadable(f"it claims an alignment of {alignment!r}")
    end = cursor.position + -cursor.position % alignment + data_bytes
    if tensors and end > cursor.size:
        raise ModelUnreadable(
            f"it is truncated: tensor data ends at byte {end} and the file has {cursor.size}"
        )
    return Metadata(
        version=version,
        fields=fields,
        tensors=tensors,
        parameters=parameters,
        file_bytes=cursor.size,
        matrices=matrices,
        vocabulary=vocabulary,
    )


def _vocabulary(cursor: _Cursor) -> Vocabulary | None:
    item, count = int(cursor.scalar("<I")), int(cursor.scalar("<Q"))
    if item != _STRING:
        raise ModelUnreadable(f"its tokens are an array of type {item}")
    longest, short = cursor.skip_texts(count)
    return Vocabulary(longest, short >= BYTE_ALPHABET)


def _version(cursor: _Cursor) -> int:
    if cursor.size < 24:
        raise ModelUnreadable(f"it is no GGUF file: only {cursor.size} bytes long")
    if (magic := cursor.take(4)) != b"GGUF":
        raise ModelUnreadable(f"it is no GGUF file: it begins with {magic!r}")
    version = int(cursor.scalar("<I"))
    if version in (2 << 24, 3 << 24):
        raise ModelUnreadable("it is a big-endian GGUF; convert it to little-endian")
    if version not in (2, 3):
        raise ModelUnreadable(f"it is GGUF version {version}; versions 2 and 3 are read here")
    return version


def _value(cursor: _Cursor, kind: int) -> Scalar | list[Scalar] | None:
    """None for what was skipped."""
    if kind in _SCALARS:
        return cursor.scalar(_SCALARS[kind])
    if kind == _STRING:
        return cursor.text(TEXT_BYTES_MAX)
    if kind != _ARRAY:
        raise ModelUnreadable(f"it has a metadata value of unknown type {kind}")
    item, count = int(cursor.scalar("<I")), int(cursor.scalar("<Q"))
    if item in _SCALARS:
        form = _SCALARS[item]
        if count > SMALL_ARRAY_MAX:
            cursor.skip(count * struct.calcsize(form))
            return None
        return [cursor.scalar(form) for _ in range(count)]
    if item != _STRING:
        raise ModelUnreadable(f"it has an array of type {item} in its metadata")
    cursor.skip_texts(count)
    return None


def _tensors(cursor: _Cursor, count: int) -> tuple[int, int, Matrices]:
    """Elements of all tensors, where the last one ends within the data, and the matrices."""
    parameters = end = 0
    by_type: dict[int, int] = {}
    embedding = (0, 0, 0)
    has_output = False
    for _ in range(count):
        name = cursor.text(KEY_BYTES_MAX)
        dimensions = int(cursor.scalar("<I"))
        if dimensions > DIMENSIONS_MAX:
            raise ModelUnreadable(f"tensor {name[:80]!r} has {dimensions} dimensions")
        elements, last = 1, 0
        for _ in range(dimensions):
            last = int(cursor.scalar("<Q"))
            elements *= last
        kind, offset = int(cursor.scalar("<I")), int(cursor.scalar("<Q"))
        parameters += elements
        # A type from a newer ggml: its size is unknown here, and the engine will judge it.
        per_block, block_bytes = _BLOCKS.get(kind, (1, 0))
        size = -(-elements // per_block) * block_bytes
        end = max(end, offset + size)
        if name == "token_embd.weight":
            embedding = kind, size, last
        elif dimensions > 1:
            by_type[kind] = by_type.get(kind, 0) + size
            has_output = has_output or name == "output.weight"
    return parameters, end, Matrices(by_type, *embedding, has_output)


class _Cursor:
    """Forward reading in bounded chunks. Every method raises ModelUnreadable at the file's end."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.size = size
        self._file = file
        self._buffer = b""
        self._at = 0
        self._base = 0
        """Position in the file of the buffer's first byte."""

    @property
    def position(self) -> int:
        return self._base + self._at

    def take(self, count: int) -> bytes:
        self._need(count)
        data = self._buffer[self._at : self._at + count]
        self._at += count
        return data

    def scalar(self, form: str) -> int | float | bool:
        size = struct.calcsize(form)
        self._need(size)
        (value,) = struct.unpack_from(form, self._buffer, self._at)
        self._at += size
        return value  # type: ignore[no-any-return]

    def text(self, bytes_max: int) -> str:
        length = int(self.scalar("<Q"))
        if length > bytes_max:
            raise ModelUnreadable(f"it has a text of {length} bytes in its metadata")
        return self.take(length).decode(errors="replace")

    def skip(self, count: int) -> None:
        self._check(count)
        left = len(self._buffer) - self._at
        if count <= left:
            self._at += count
            return
        self._base = self.position + count
        self._file.seek(self._base)
        self._buffer, self._at = b"", 0

    def skip_texts(self, count: int) -> tuple[int, set[bytes]]:
        """The length of the longest, and those of one letter of two bytes or fewer."""
        # At least a length each: a count that the file cannot hold is refused before the loop.
        self._check(count * 8)
        unpack = struct.Struct("<Q").unpack_from
        longest, short = 0, set[bytes]()
        for _ in range(count):
            self._need(8)
            (length,) = unpack(self._buffer, self._at)
            self._at += 8
            longest = max(longest, length)
            if length <= _SHORT_BYTES:
                short.add(self.take(length))
            else:
                self.skip(length)
        return longest, short

    def _check(self, count: int) -> None:
        end = self.position + count
        if end > self.size:
            raise ModelUnreadable(
                f"it is truncated: its metadata needs byte {end} and the file has {self.size}"
            )
        if end > HEADER_BYTES_MAX:
            raise ModelUnreadable(f"its metadata is longer than {HEADER_BYTES_MAX} bytes")

    def _need(self, count: int) -> None:
        if len(self._buffer) - self._at >= count:
            return
        self._check(count)
        rest = self._buffer[self._at :]
        self._base += self._at
        self._at = 0
        parts, have = [rest], len(rest)
        while have < count:
            # One chunk at a time, so that memory follows what was read and not what was claimed.
            part = self._file.read(_CHUNK)
            if not part:
                raise ModelUnreadable("it became shorter while it was read")
            parts.append(part)
            have += len(part)
        self._buffer = b"".join(parts)
