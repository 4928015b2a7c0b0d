"""What an operator signed: one line for each certificate, only ever appended to.

Certificates are public and the operator need not keep them; this is how it
knows, years later, which nodes speak in its name and until when.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from helexa.protocol.ids import NodeId, OperatorId
from helexa.protocol.records import Certificate
from helexa.util.home import HomeUnusable


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """One certificate, as noted when it was signed; times are unix seconds."""

    node: NodeId
    operator: OperatorId
    roles: tuple[str, ...]
    serial: str
    issued_s: int
    expires_s: int
    region: str = ""


def note_signed(path: Path, certificate: Certificate) -> None:
    """Append a note of `certificate` and wait for the disk. Raises HomeUnusable."""
    note = Signed(
        node=certificate.node,
        operator=certificate.operator,
        roles=certificate.roles,
        serial=certificate.serial,
        issued_s=certificate.issued_s,
        expires_s=certificate.expires_s,
        region=certificate.region,
    )
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.encode(note) + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise HomeUnusable(f"cannot write {path}: {error.strerror or error}") from error


def read_signed(path: Path) -> list[Signed]:
    """Every note, oldest first; none where there is no file. Raises HomeUnusable."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise HomeUnusable(f"cannot read {path}: {error.strerror or error}") from error
    return [_read(path, number, line) for number, line in enumerate(lines, 1)]


def _read(path: Path, number: int, line: bytes) -> Signed:
    try:
        return msgspec.json.decode(line, type=Signed)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise HomeUnusable(
            f"{path}, line {number}, is no note of a certificate: {error}; remove that line"
        ) from error
