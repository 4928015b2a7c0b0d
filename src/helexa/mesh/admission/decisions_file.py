"""`admission.json`: what was decided about whom, and which invites were used by whom.

Written by the node alone and readable by people. A file that it did not write
is refused: guessing at a list of who is denied would let somebody in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from helexa.mesh.admission.invites import LEVELS
from helexa.mesh.files.private_files import replace_private
from helexa.mesh.trust import Trust
from helexa.protocol.ids import NodeId, is_node_id
from helexa.util.home import HomeUnusable

_VERSION: Final = 1
_LEVELS: Final = frozenset({Trust.DENIED, *LEVELS})


class Decision(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was said about an operator or a node."""

    who: str
    level: str
    """`denied`, `known` or `trusted`."""
    when_s: int
    note: str = ""

    @property
    def trust(self) -> Trust:
        """`level` as the level that it names."""
        return Trust.of(self.level)


class SpentInvite(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whom an invite let in; kept until it expires (unix seconds)."""

    expires_s: int
    nodes: tuple[NodeId, ...] = ()


class Decisions(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is kept."""

    named: dict[str, Decision] = {}
    """By the full id."""
    invites: dict[str, SpentInvite] = {}
    """By serial; those that nobody used are not in here."""


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: int
    decisions: tuple[Decision, ...]
    invites: dict[str, SpentInvite]


def load(path: Path) -> Decisions:
    """What `path` holds; nothing where there is no file. Raises HomeUnusable for a damaged one."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return Decisions()
    except OSError as error:
        raise HomeUnusable(f"cannot read {path}: {error.strerror or error}") from error
    try:
        file = msgspec.json.decode(content, type=_File)
        _check(file)
    except (ValueError, RecursionError) as error:
        raise HomeUnusable(
            f"{path} does not hold who is let in and who is denied: {error}; restore it from a "
            "backup, or move it away and decide again (helexa mesh approve, helexa mesh deny)"
        ) from error
    return Decisions(named={each.who: each for each in file.decisions}, invites=file.invites)


def _check(file: _File) -> None:
    if file.version != _VERSION:
        raise ValueError(f"it is of version {file.version}; this build reads {_VERSION}")
    for decision in file.decisions:
        if not is_node_id(decision.who) or decision.trust not in _LEVELS:
            raise ValueError(f"nobody can be {decision.level!r} as {decision.who[:80]!r}")


def save(path: Path, decisions: Decisions) -> None:
    """Replace the file, 0600. Raises HomeUnusable; the file is then as it was."""
    file = _File(
        version=_VERSION,
        decisions=tuple(decisions.named.values()),
        invites=decisions.invites,
    )
    try:
        replace_private(path, msgspec.json.format(msgspec.json.encode(file), indent=1) + b"\n")
    except OSError as error:
        raise HomeUnusable(f"cannot write {path}: {error.strerror or error}") from error
