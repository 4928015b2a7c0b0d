"""Which pulled models leave so that another fits on the disk; arithmetic, nothing is removed here.

Only what a pull brought ever leaves, and of that nothing that is pinned, loaded or asked for.
Leftovers of pulls that somebody stopped or that failed go first, then what was used longest ago.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from helexa.protocol.errors import DoesNotFit
from helexa.protocol.ids import ModelId
from helexa.util.units import format_bytes

ENTRIES_MAX: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """Bytes, as measured. `promised` are on their way already, to pulls that go on."""

    free: int
    used: int
    """By everything in the models folder."""
    limit: int
    """For the models folder; 0: none."""
    reserve: int
    """Left to the rest of the machine."""
    promised: int = 0

    @property
    def room(self) -> int:
        by_disk = self.free - self.reserve
        by_limit = self.limit - self.used if self.limit else by_disk
        return max(0, min(by_disk, by_limit) - self.promised)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One pulled model, or what is left of a pull."""

    model: ModelId
    size: int
    used_unix: float
    is_leftover: bool = False
    is_kept: bool = False
    """Pinned, loaded, or being pulled."""


def removals(model: ModelId, need: int, disk: Disk, held: Iterable[Held]) -> tuple[ModelId, ...]:
    """What has to leave for `need` more bytes, in this order. Raises DoesNotFit."""
    missing = need - disk.room
    all_held = [one for one in held if one.model != model]
    leaving: list[ModelId] = []
    for one in sorted(all_held, key=lambda one: (not one.is_leftover, one.used_unix, one.model)):
        if missing <= 0:
            break
        if not one.is_kept and one.size > 0:
            leaving.append(one.model)
            missing -= one.size
    if missing > 0:
        kept = sum(one.size for one in all_held if one.is_kept)
        raise DoesNotFit(
            model=model,
            needed_bytes=need,
            free_bytes=need - missing,
            detail=_explained(disk, kept),
        )
    return tuple(leaving)


def _explained(disk: Disk, kept: int) -> str:
    parts = ["on its disk, with all that may leave removed"]
    if disk.limit:
        parts.append(f"models may use {format_bytes(disk.limit)} (neuron.disk_limit)")
    if disk.reserve:
        parts.append(f"{format_bytes(disk.reserve)} stays free (neuron.disk_reserve)")
    if disk.promised:
        parts.append(f"other pulls take {format_bytes(disk.promised)}")
    if kept:
        parts.append(f"models that are pinned or in use hold {format_bytes(kept)}")
    return "; ".join(parts)


def measured(models_dir: Path, limit: int, reserve: int, promised: int) -> Disk:
    """For a thread: it looks at every file of the folder. Raises OSError."""
    return Disk(
        free=shutil.disk_usage(models_dir).free,
        used=blocks(models_dir) if limit else 0,
        limit=limit,
        reserve=reserve,
        promised=promised,
    )


def blocks(folder: Path) -> int:
    """What all files in it take. Not their lengths: a download is as long as it will be."""
    total, seen = 0, 0
    for parent, _, names in os.walk(folder):
        for name in names:
            seen += 1
            if seen > ENTRIES_MAX:
                return total
            try:
                total += (Path(parent) / name).lstat().st_blocks * 512
            except OSError:
                continue
    return total
