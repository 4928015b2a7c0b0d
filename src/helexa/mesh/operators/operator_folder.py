"""The operator's own folder: the key, and what it signed.

    operator.key    the present key; operator.key.1 and so on are earlier ones
    about.json      how the operator calls itself, put into every certificate
    signed.jsonl    one line for each certificate, only ever appended to
    revocations     the list in force
    successions     from the first key to the present one, oldest first

The folder need not be on a machine that runs a node. Nothing in it is ever
needed by a running node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from helexa.mesh.files.armour import REVOCATIONS, SUCCESSIONS
from helexa.mesh.files.private_files import replace_private
from helexa.mesh.operators.credentials import read_all_armoured, read_armoured, write_armoured
from helexa.mesh.operators.operator import (
    SUCCESSIONS_MAX,
    OperatorKey,
    certify,
    read_certificate,
    read_succession,
    succeed,
)
from helexa.mesh.operators.revocation import read_revocations, revoke
from helexa.mesh.operators.signed_log import Signed, note_signed, read_signed
from helexa.mesh.statements.plain_text import CONTACT_CHARS_MAX, NAME_CHARS_MAX, is_plain
from helexa.mesh.statements.sealed import SealBroken
from helexa.protocol.ids import NodeId, OperatorId
from helexa.protocol.messages import Role
from helexa.protocol.records import Revocations
from helexa.util.home import HomeUnusable

KEY_FILE: Final = "operator.key"
DAYS: Final = 365
_NEXT_KEY_FILE: Final = "operator.key.next"
_ABOUT_FILE: Final = "about.json"
_SIGNED_FILE: Final = "signed.jsonl"
_REVOCATIONS_FILE: Final = "revocations"
_SUCCESSIONS_FILE: Final = "successions"


class _About(msgspec.Struct, frozen=True, kw_only=True):
    name: str = ""
    contact: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorFolder:
    """One operator. Made by `init` or `open`; every method reads the files anew."""

    path: Path
    key: OperatorKey
    name: str = ""
    contact: str = ""

    @classmethod
    def init(cls, path: Path, *, name: str = "", contact: str = "") -> OperatorFolder:
        """A new operator in `path`.

        Raises KeyUnusable when there is one already, HomeUnusable when the folder
        cannot be written, ValueError for a name or contact that no reader would take.
        """
        if not is_plain(name, NAME_CHARS_MAX) or not is_plain(contact, CONTACT_CHARS_MAX):
            raise ValueError(
                f"a name has at most {NAME_CHARS_MAX} characters, a contact {CONTACT_CHARS_MAX}, "
                "and neither holds control characters"
            )
        key = OperatorKey.create(path / KEY_FILE)
        _write(path / _ABOUT_FILE, msgspec.json.encode(_About(name=name, contact=contact)) + b"\n")
        return cls(path=path, key=key, name=name, contact=contact)

    @classmethod
    def open(cls, path: Path) -> OperatorFolder:
        """The operator in `path`. Raises KeyUnusable, HomeUnusable."""
        if not (path / KEY_FILE).exists():
            raise HomeUnusable(f"there is no operator in {path}; run: helexa operator init")
        about = _about(path / _ABOUT_FILE)
        return cls(
            path=path,
            key=OperatorKey.load(path / KEY_FILE),
            name=about.name,
            contact=about.contact,
        )

    @property
    def operator_id(self) -> OperatorId:
        """By the present key."""
        return self.key.operator_id

    # --- what was signed

    def signed(self) -> list[Signed]:
        """Every certificate ever signed, oldest first. Raises HomeUnusable for a damaged file."""
        return read_signed(self.path / _SIGNED_FILE)

    def newest(self) -> dict[NodeId, Signed]:
        """The last certificate of each node."""
        return {one.node: one for one in self.signed()}

    def revocations(self) -> tuple[Revocations, bytes] | None:
        """The list in force and its sealed form. Raises HomeUnusable for a damaged file."""
        path = self.path / _REVOCATIONS_FILE
        blob = read_armoured(path, REVOCATIONS)
        if not blob:
            return None
        try:
            return read_revocations(blob), blob
        except SealBroken as broken:
            raise HomeUnusable(f"{path} is broken: {broken.reason}; restore it") from broken

    def successions(self) -> tuple[bytes, ...]:
        """From earlier keys to the present one, sealed, oldest first; the last 8.

        Raises HomeUnusable when they do not lead to the present key.
        """
        blobs, heir = self._chain()
        if heir not in (None, self.operator_id):
            raise HomeUnusable(
                f"{self.path / _SUCCESSIONS_FILE} leads to {heir[:10]} and the key is "
                f"{self.operator_id[:10]}: a rotation was interrupted; finish it: "
                "helexa operator rotate"
            )
        return blobs[-SUCCESSIONS_MAX:]

    # --- signing

    def sign(
        self,
        node: NodeId,
        roles: Sequence[Role],
        *,
        now_s: float,
        days: int = DAYS,
        region: str = "",
        contact: str | None = None,
    ) -> bytes:
        """A sealed certificate for `node`, noted in the folder before it is returned.

        Signing again renews. Raises ValueError for a node that was revoked and
        for values out of range, HomeUnusable when it cannot be noted.
        """
        in_force = self.revocations()
        if in_force is not None and node in in_force[0].nodes:
            raise ValueError(f"{node} was revoked; with a new key it can be signed as a new node")
        blob = certify(
            self.key,
            node,
            roles,
            now_s=now_s,
            days=days,
            region=region,
            contact=self.contact if contact is None else contact,
            name=self.name,
            succeeds=self.successions(),
        )
        note_signed(self.path / _SIGNED_FILE, read_certificate(blob))
        return blob

    def revoke(self, nodes: Sequence[NodeId], *, now_s: float) -> bytes:
        """The new sealed list: `nodes` and those on it before whose certificates are in force.

        Raises ValueError when it is full, HomeUnusable when it cannot be kept.
        """
        return self._revoke(self.key, nodes, now_s)

    def rotate(self, *, now_s: float) -> OperatorFolder:
        """Go on under a new key; the old one is kept aside, as `operator.key.N`.

        Nodes keep their certificates and are to be signed again. A rotation that
        was interrupted is finished by the next. Raises KeyUnusable, HomeUnusable.
        """
        key_path, next_path = self.path / KEY_FILE, self.path / _NEXT_KEY_FILE
        if not next_path.exists():
            self.successions()
            OperatorKey.create(next_path)
        new = OperatorKey.load(next_path)
        # The old key's word comes first and the new key's name last: wherever this stops,
        # the key in `operator.key` and the one in `operator.key.next` are both there.
        blobs, heir = self._chain()
        if heir in (None, self.operator_id):
            link = succeed(self.key, new, now_s)
            write_armoured(self.path / _SUCCESSIONS_FILE, SUCCESSIONS, *blobs, link)
        elif heir != new.operator_id:
            raise HomeUnusable(
                f"{self.path / _SUCCESSIONS_FILE} leads to {heir[:10]}, which is neither "
                f"{KEY_FILE} nor {_NEXT_KEY_FILE}; restore the folder from a backup"
            )
        if self.revocations() is not None:
            self._revoke(new, (), now_s)
        try:
            _keep_aside(key_path)
            next_path.replace(key_path)
        except OSError as error:
            raise HomeUnusable(f"cannot write {key_path}: {error.strerror or error}") from error
        return OperatorFolder.open(self.path)

    def _revoke(self, key: OperatorKey, nodes: Sequence[NodeId], now_s: float) -> bytes:
        in_force = self.revocations()
        before, version = (in_force[0].nodes, in_force[0].version) if in_force else ((), 0)
        signed = self.newest()
        # A certificate that has expired says nothing any more, so its node may leave the list.
        kept = [one for one in before if one not in signed or signed[one].expires_s > now_s]
        blob = revoke(key, (*kept, *nodes), version=version + 1, now_s=now_s)
        write_armoured(self.path / _REVOCATIONS_FILE, REVOCATIONS, blob)
        return blob

    def _chain(self) -> tuple[tuple[bytes, ...], OperatorId | None]:
        path = self.path / _SUCCESSIONS_FILE
        blobs = read_all_armoured(path, SUCCESSIONS)
        try:
            return blobs, read_succession(blobs[-1]).new if blobs else None
        except SealBroken as broken:
            raise HomeUnusable(f"{path} is broken: {broken.reason}; restore it") from broken


def _keep_aside(path: Path) -> None:
    number = 1
    while True:
        aside = path.with_name(f"{path.name}.{number}")
        try:
            aside.hardlink_to(path)
        except FileExistsError:
            if aside.samefile(path):
                return
            number += 1
        else:
            return


def _about(path: Path) -> _About:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_About)
    except FileNotFoundError:
        return _About()
    except OSError as error:
        raise HomeUnusable(f"cannot read {path}: {error.strerror or error}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise HomeUnusable(
            f"{path} is not what it should be: {error}; it holds "
            '{"name": "...", "contact": "..."}'
        ) from error


def _write(path: Path, content: bytes) -> None:
    try:
        replace_private(path, content)
    except OSError as error:
        raise HomeUnusable(f"cannot write {path}: {error.strerror or error}") from error
