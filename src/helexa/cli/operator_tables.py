"""An operator's folder as people and programs read it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from helexa.cli.output import day, facts, table
from helexa.mesh.operators.operator import read_succession
from helexa.mesh.operators.operator_folder import OperatorFolder
from helexa.mesh.statements.sealed import SealBroken

SOON_S: Final = 30 * 86_400
"""A certificate that ends within this is worth a word."""


def described(folder: OperatorFolder) -> dict[str, Any]:
    """Everything but the key. Raises HomeUnusable for a damaged file."""
    in_force = folder.revocations()
    revoked = in_force[0].nodes if in_force else ()
    now_s = time.time()
    return {
        "operator": folder.operator_id,
        "name": folder.name,
        "contact": folder.contact,
        "folder": str(folder.path),
        "earlier": earlier_ids(folder),
        "revoked": list(revoked),
        "revocations_version": in_force[0].version if in_force else 0,
        "signed": [
            {
                **msgspec.to_builtins(one),
                "state": "revoked" if one.node in revoked else _state(one.expires_s - now_s),
            }
            for one in folder.newest().values()
        ],
    }


def shown(found: Mapping[str, Any]) -> str:
    about = facts(
        [
            ("operator", found["operator"]),
            ("name", found["name"]),
            ("contact", found["contact"]),
            ("folder", found["folder"]),
            ("earlier ids", found["earlier"]),
            ("revoked", f"{len(found['revoked'])} nodes" if found["revoked"] else ""),
        ]
    )
    return f"{about}\n\n{_signed(found['signed'])}"


def _signed(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "nothing was signed; `helexa operator sign cortex` signs the cortex of this home"
    lines = [
        (
            row["node"],
            row["roles"],
            row["region"],
            day(row["issued_s"]),
            day(row["expires_s"]),
            row["state"],
        )
        for row in rows
    ]
    return table(("node", "for", "region", "signed (UTC)", "until (UTC)", "state"), lines)


def _state(left_s: float) -> str:
    if left_s <= 0:
        return "expired"
    return "ends soon" if left_s <= SOON_S else "valid"


def earlier_ids(folder: OperatorFolder) -> list[str]:
    """The ids that the operator had before, latest first. Raises HomeUnusable."""
    found = []
    for blob in folder.successions():
        try:
            found.append(str(read_succession(blob).old))
        except SealBroken:
            continue  # Refused where it counts, at the next signature.
    return found[::-1]
